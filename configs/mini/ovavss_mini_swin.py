# The mini model with a small Swin as its backbone
_base_ = ['../{{$OVAVSS_BASE:mini/ovavss_mini}}.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=24,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=4,
        drop_path_rate=0.1,
        out_indices=(0, 1, 2, 3),
    ),
    neck=dict(in_channels=[24, 48, 96, 192]),
    decode_head=dict(in_channels=[24, 64, 64, 64]),
)
