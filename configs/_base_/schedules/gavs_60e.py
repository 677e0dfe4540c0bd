# AdamW with a constant learning rate and decay for all weights, no clipping, as published: 60 epochs of a clip a step.
# Evaluation after each epoch is ours. Iterations are those of the 3,452 clips of S4.
epoch = 3452
optim_wrapper = dict(type='FiniteOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=60 * epoch, val_interval=epoch)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
