# SPDX-License-Identifier: Apache-2.0
# AVSBench-OV: train on clips of the 40 base names only, test on all 70.
dataset_type = 'AVSBenchOVDataset'
data_root = 'data/AVSBench-semantic'
num_names = 70  # for closed-set baselines

train_pipeline = [
    dict(type='SampleClipFrames', num_frames=5),
    dict(type='LoadClipFrames'),
    dict(type='LoadClipLabels'),
    dict(type='LoadClipAudio'),
    dict(type='ResizeClip', short_side=(240, 360, 480)),
    dict(type='FlipClip', prob=0.5),
    dict(type='PackAVSegInputs'),
]
test_pipeline = [
    dict(type='SampleClipFrames', num_frames=None),
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAudio'),
    dict(type='ResizeClip', short_side=360),
    # After resizing: results are compared at the original size.
    dict(type='LoadClipLabels'),
    dict(type='PackAVSegInputs'),
]

train_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='SeededInfiniteSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        base_names='avsbench_ov',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='val',
        base_names='avsbench_ov',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        base_names='avsbench_ov',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

val_evaluator = dict(type='OVIoUMetric', eval_size=(224, 224))
test_evaluator = val_evaluator
