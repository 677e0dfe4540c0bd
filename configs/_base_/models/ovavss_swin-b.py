_base_ = './ovavss_r50.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        pretrain_img_size=384,
        embed_dims=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        drop_path_rate=0.3,
        out_indices=(0, 1, 2, 3),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
    decode_head=dict(in_channels=[128, 256, 256, 256]),
    classifier=dict(
        clip_model='ViT-L-14-336-quickgelu',
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/ViT-L-14-336px.pt'),
    ),
)
