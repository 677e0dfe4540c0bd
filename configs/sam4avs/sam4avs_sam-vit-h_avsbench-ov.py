# Sam4AVS on AVSBench-OV (Table 1): nothing is trained, it is tested with --checkpoint none
_base_ = [
    '../_base_/models/sam4avs.py',
    '../_base_/datasets/avsbench_ov.py',
    '../_base_/schedules/schedule_82k.py',
    '../_base_/default_runtime.py',
]
load_audio = dict(type='LoadClipAudio', front_end=dict(type='CLAPLogMel'))
# frames at their own size, which each part resizes
test_pipeline = [_base_.load_frames, load_audio, _base_.load_labels, _base_.pack]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
