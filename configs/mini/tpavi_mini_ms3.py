# TPAVI's binary setting for several sources in small: MS3 of the mini world
_base_ = ['./tpavi_mini_s4.py']
loss_avm = dict(_delete_=True, type='AudioVisualMatchLoss', loss_weight=0.5, reduction='sum')
model = dict(decode_head=dict(loss_avm=loss_avm))
train_dataloader = val_dataloader = test_dataloader = dict(dataset=dict(task='ms3'))
