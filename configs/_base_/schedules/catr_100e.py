# Adam with a constant learning rate for all weights, no decay, gradients clipped at a norm of 5, 100 epochs of batches
# of 2 clips, as published for S4 (3,452 clips: 1,726 iterations an epoch). Mixed precision, on there, is --amp here.
epoch = 1726
optim_wrapper = dict(type='FiniteOptimWrapper', optimizer=dict(type='Adam', lr=1e-5), clip_grad=dict(max_norm=5))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=100 * epoch, val_interval=epoch)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
