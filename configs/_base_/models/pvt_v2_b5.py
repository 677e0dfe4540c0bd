# PVT-v2-B5 as the published TPAVI and CATR have it, and its channels
pvt_v2_b5 = dict(
    _delete_=True,
    type='PVTv2',
    embed_dims=64,
    num_layers=[3, 6, 40, 3],
    num_heads=[1, 2, 5, 8],
    mlp_ratios=[4, 4, 4, 4],
    sr_ratios=[8, 4, 2, 1],
    drop_path_rate=0.1,
    norm_cfg=dict(type='LN', eps=1e-6),
    embed_eps=1e-5,
    init_cfg=dict(type='Pretrained', checkpoint='data/weights/pvt_v2_b5.pth'),
)
pvt_channels = [64, 128, 320, 512]
