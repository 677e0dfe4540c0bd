# Your own clips in the layout of AVSBench-semantic (docs/own_data.md): any names, all trained on
_base_ = ['./ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
# base_names: 'all', or a file in data_root with a base name a line, for which training clips with
# other names are left out
dataset = dict(data_root='data/own', base_names='all')
train_dataloader = val_dataloader = test_dataloader = dict(dataset=dataset)
# some 10 to 20 times the number of training clips; AVSBench-OV has 82,000 for 5,184
max_iters = 10000
train_cfg = dict(max_iters=max_iters, val_interval=1000)
param_scheduler = [dict(type='MultiStepLR', begin=0, end=max_iters, by_epoch=False, milestones=[8800], gamma=0.1)]
default_hooks = dict(checkpoint=dict(interval=1000, save_best='mIoU'))
val_evaluator = dict(eval_size=None)  # compared at the size of the label maps, not at 224 x 224
test_evaluator = val_evaluator
