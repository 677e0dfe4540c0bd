_base_ = [
    '../_base_/models/ovavss_swin-b.py',
    '../_base_/datasets/avsbench_ov.py',
    '../_base_/schedules/schedule_82k.py',
    '../_base_/default_runtime.py',
]
# from COCO, see tools/model_converters/mask2former_detectron2.py
load_from = 'data/weights/mask2former_swin-b_coco.pth'
# Swin trains on clips of short side 240 or 360; its norms and relative position biases do not decay
train_pipeline = [
    dict(type='SampleClipFrames', num_frames=5),
    dict(type='LoadClipFrames'),
    dict(type='LoadClipLabels'),
    dict(type='LoadClipAudio'),
    dict(type='ResizeClip', short_side=(240, 360)),
    dict(type='FlipClip', prob=0.5),
    dict(type='PackAVSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
no_decay = dict(lr_mult=0.1, decay_mult=0.0)
optim_wrapper = dict(
    paramwise_cfg=dict(
        # parts of names; the longest that fits counts, so each is longer than 'backbone'
        custom_keys={
            'relative_position_bias_table': no_decay,
            'backbone.patch_embed.norm': no_decay,
            'backbone.norm': no_decay,
            'downsample.norm': no_decay,
            'norm1.weight': no_decay,
            'norm1.bias': no_decay,
            'norm2.weight': no_decay,
            'norm2.bias': no_decay,
        }
    )
)
