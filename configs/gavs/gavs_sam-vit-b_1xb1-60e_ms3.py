# GAVS on MS3: several sources, all frames annotated; 60 epochs of 296 clips
_base_ = ['./gavs_sam-vit-b_1xb1-60e_s4.py']
train_dataloader = val_dataloader = test_dataloader = dict(dataset=dict(task='ms3'))
epoch = 296
train_cfg = dict(max_iters=60 * epoch, val_interval=epoch)
default_hooks = dict(checkpoint=dict(interval=epoch))
