# The mini model with a small Swin as its backbone, whose norms and position biases do not decay
_base_ = ['./ovavss_mini.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=24,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=4,
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[24, 48, 96, 192]),
    decode_head=dict(in_channels=[24, 64, 64, 64]),
)
custom_keys = {
    'backbone': dict(_delete_=True, lr_mult=1.0),
    'backbone.*.relative_position_bias_table': dict(lr_mult=1.0, decay_mult=0.0),
}
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=custom_keys))
