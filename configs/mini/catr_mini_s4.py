# CATR's binary setting in small: S4 of the mini world, sounding or not
_base_ = ['./catr_mini.py']
task = dict(_delete_=True, type='AVSBenchDataset', data_root=_base_.data_root, task='s4')
num_frames = 5
num_names = 1
model = dict(decode_head=dict(num_classes=1), test_cfg=dict(window=num_frames))
train_pipeline = _base_.train_pipeline[1:]  # all frames
train_dataloader = dict(dataset=dict(**task, split='train', pipeline=train_pipeline))
test_dataset = dict(**task, test_mode=True, pipeline=_base_.test_pipeline)
val_dataloader = dict(dataset=dict(**test_dataset, split='val'))
test_dataloader = dict(dataset=dict(**test_dataset, split='test'))
val_evaluator = dict(_delete_=True, type='AVSBinaryMetric')
test_evaluator = val_evaluator
