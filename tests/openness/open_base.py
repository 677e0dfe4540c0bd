# The mini model with components of another package, `outside`
_base_ = ['../../configs/mini/ovavss_mini.py']
custom_imports = dict(imports=[*_base_.custom_imports.imports, 'outside'])
train_cfg = dict(max_iters=2, val_interval=2)
val_dataloader = None
val_cfg = None
val_evaluator = None
param_scheduler = []
test_dataloader = dict(num_workers=0, persistent_workers=False)
