# CATR on MS3, ours: only its code for S4 was published. All frames are annotated; 100 epochs of 296 clips
_base_ = ['./catr_pvt-v2-b5_1xb2-100e_s4.py']
task = dict(task='ms3')
train_dataloader = val_dataloader = test_dataloader = dict(dataset=task)
epoch = 148
max_iters = 100 * epoch
param_scheduler = [dict(type='ConstantLR', factor=1.0, begin=0, end=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=epoch)
default_hooks = dict(checkpoint=dict(interval=epoch))
