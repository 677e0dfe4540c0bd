# CATR's binary setting for several sources in small: MS3 of the mini world
_base_ = ['./catr_mini_s4.py']
train_dataloader = val_dataloader = test_dataloader = dict(dataset=dict(task='ms3'))
