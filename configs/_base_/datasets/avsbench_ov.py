# SPDX-License-Identifier: Apache-2.0
# AVSBench-OV: train on clips of the 40 base names only, test on all 70 (paper section 4.1).
dataset_type = 'AVSBenchOVDataset'
data_root = 'data/AVSBench-semantic'
num_names = 70  # for closed-set baselines
num_frames = 5  # T: frames of a training clip, and of a window in which longer clips are tested

# The steps and parts of the pipelines by name, for variants to replace one.
sample_frames = dict(type='SampleClipFrames', num_frames=num_frames)
load_frames = dict(type='LoadClipFrames')
load_labels = dict(type='LoadClipLabels')
load_audio = dict(type='LoadClipAudio', front_end=dict(type='VGGishLogMel'))
train_resize = dict(type='ResizeClip', short_side=(240, 360, 480))
test_resize = dict(type='ResizeClip', short_side=360)
flip = dict(type='FlipClip', prob=0.5)
pack = dict(type='PackAVSegInputs')
load_train = [sample_frames, load_frames, load_labels]
finish_train = [train_resize, flip, pack]
finish_test = [test_resize, load_labels, pack]  # results are compared at the original size
train_pipeline = [*load_train, load_audio, *finish_train]
test_pipeline = [load_frames, load_audio, *finish_test]

loader = dict(batch_size=1, num_workers=2, persistent_workers=True, collate_fn=dict(type='pseudo_collate'))
dataset = dict(type=dataset_type, data_root=data_root, base_names='avsbench_ov')
train_dataloader = dict(
    **loader,
    sampler=dict(type='SeededInfiniteSampler', shuffle=True),
    dataset=dict(**dataset, split='train', pipeline=train_pipeline),
)
test_loader = dict(**loader, sampler=dict(type='DefaultSampler', shuffle=False))
test_dataset = dict(**dataset, test_mode=True, pipeline=test_pipeline)
val_dataloader = dict(**test_loader, dataset=dict(**test_dataset, split='val'))
test_dataloader = dict(**test_loader, dataset=dict(**test_dataset, split='test'))

val_evaluator = dict(type='OVIoUMetric', eval_size=(224, 224))
test_evaluator = val_evaluator
