# CATR on MS3, ours: only its code for S4 was published. All frames are annotated; 100 epochs of 296 clips
_base_ = ['./catr_pvt-v2-b5_1xb2-100e_s4.py']
task = dict(task='ms3')
train_dataloader = val_dataloader = test_dataloader = dict(dataset=task)
epoch = 148
train_cfg = dict(max_iters=100 * epoch, val_interval=epoch)
default_hooks = dict(checkpoint=dict(interval=epoch))
