# AVSBench's S4: one source, sounding or not; training clips are annotated in their first frame
_base_ = './avsbench_ov_224.py'
data_root = 'data/AVSBench-object'  # or data/AVSBench-semantic: the layout is told from the files
num_names = 1
num_frames = 5
task = dict(_delete_=True, type='AVSBenchDataset', data_root=data_root, task='s4')
load_train = [_base_.load_frames, _base_.load_labels]  # all frames
train_pipeline = [*load_train, _base_.load_audio, *_base_.finish_train]
train_dataloader = dict(dataset=dict(**task, split='train', pipeline=train_pipeline))
test_dataset = dict(**task, test_mode=True, pipeline=_base_.test_pipeline)
val_dataloader = dict(dataset=dict(**test_dataset, split='val'))
test_dataloader = dict(dataset=dict(**test_dataset, split='test'))
val_evaluator = dict(_delete_=True, type='AVSBinaryMetric')
test_evaluator = val_evaluator
