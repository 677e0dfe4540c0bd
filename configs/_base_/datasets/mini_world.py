# The mini world: small clips, made by tools/dataset_converters/mini_world.py
_base_ = './avsbench_ov.py'
data_root = 'data/mini'
num_names = 20
train_resize = test_resize = dict(type='ResizeClip', short_side=96)
finish_train = [train_resize, _base_.flip, _base_.pack]
finish_test = [test_resize, _base_.load_labels, _base_.pack]
train_pipeline = [*_base_.load_train, _base_.load_audio, *finish_train]
test_pipeline = [_base_.load_frames, _base_.load_audio, *finish_test]
dataset = dict(data_root=data_root, base_names='base_names.txt')
# on two cores a worker costs the training more than it saves
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(**dataset, pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(eval_size=None)
test_evaluator = val_evaluator
