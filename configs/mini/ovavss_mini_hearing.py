# The mini model that labels only what it hears (docs/hearing.md): mixed sounds and supervised gates
_base_ = ['./ovavss_mini.py', '../_base_/models/hearing.py']
model = dict(neck=_base_.gates_matched)
finish_train = [_base_.train_resize, _base_.flip, _base_.mix, _base_.load_audio, _base_.pack]
train_pipeline = [*_base_.load_train, *finish_train]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
