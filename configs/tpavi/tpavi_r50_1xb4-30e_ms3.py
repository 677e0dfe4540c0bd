# TPAVI on MS3: several sources, all frames annotated, the loss that matches sound and sight; 30 epochs of 296 clips
_base_ = ['./tpavi_r50_1xb4-15e_s4.py']
loss_avm = dict(_delete_=True, type='AudioVisualMatchLoss', loss_weight=0.5, reduction='sum')
model = dict(decode_head=dict(loss_avm=loss_avm))
task = dict(task='ms3')
train_dataloader = val_dataloader = test_dataloader = dict(dataset=task)
epoch = 74
train_cfg = dict(max_iters=30 * epoch, val_interval=epoch)
default_hooks = dict(checkpoint=dict(interval=epoch))
