# Sam4AVS on the mini world, with the small CLAP, Grounding DINO and SAM that ship; tested with --checkpoint none
_base_ = [
    '../_base_/models/sam4avs.py',
    '../_base_/models/foundation_mini.py',
    '../_base_/datasets/mini_world.py',
    '../_base_/schedules/schedule_mini.py',
    '../_base_/default_runtime.py',
]
model = dict(
    namer=dict(_delete_=True, **_base_.mini_clap),
    proposer=dict(_delete_=True, **_base_.mini_grounding_dino),
    masker=dict(_delete_=True, **_base_.mini_sam),
)
load_audio = dict(type='LoadClipAudio', front_end=_base_.mini_clap_front)
test_pipeline = [_base_.load_frames, load_audio, _base_.load_labels, _base_.pack]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
