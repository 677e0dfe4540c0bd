default_scope = 'mmseg'
custom_imports = dict(imports=['ovavss_mm'])
env_cfg = dict(
    cudnn_benchmark=False,  # clips come in many sizes
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='AVSegVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='MainProcessLoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', by_epoch=False, interval=5000, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='AVSegVisualizationHook'),
    nonfinite=dict(type='NonFiniteLossHook', max_in_row=10),
    bad_clips=dict(type='BadClipsHook'),
    class_count=dict(type='ClassCountHook'),
)
custom_hooks = [dict(type='StrictCheckpointHook')]
