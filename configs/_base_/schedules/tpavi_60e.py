# Adam with a constant learning rate for all weights, no decay, no clipping, as published: 60 epochs of batches of 4
# clips, evaluation every second epoch from the 15th on. mmengine evaluates at the multiples of val_interval that are
# not before val_begin: after epochs 16, 18, ..., 60. Iterations are those of the 5,184 clips of AVSBench-OV.
epoch = 1296
optim_wrapper = dict(type='FiniteOptimWrapper', optimizer=dict(type='Adam', lr=1e-4))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=60 * epoch, val_begin=15 * epoch, val_interval=2 * epoch)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
