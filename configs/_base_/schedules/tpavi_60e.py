# Adam with a constant learning rate for all weights, no decay, no clipping, as published: 60 epochs of batches of 4
# clips, the best of every second epoch from the 15th on. Iterations are those of the 5,184 clips of AVSBench-OV.
epoch = 1296
max_iters = 60 * epoch
optim_wrapper = dict(type='FiniteOptimWrapper', optimizer=dict(type='Adam', lr=1e-4))
param_scheduler = [dict(type='ConstantLR', factor=1.0, begin=0, end=max_iters, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_begin=15 * epoch, val_interval=2 * epoch)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
