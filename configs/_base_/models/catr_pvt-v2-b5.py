# CATR in its published binary setting, with PVT-v2-B5; every number is that of the published code, or of the code that
# it is built on where it leaves a number to a file that is not published (marked: assumed)
_base_ = './pvt_v2_b5.py'
backbone = _base_.pvt_v2_b5
backbone.pop('_delete_')
model = dict(
    type='AVEncoderDecoder',
    data_preprocessor=dict(
        type='AVSegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        size_divisor=32,
        input_size=(448, 448),  # of frames of 224 x 224; labels keep their size
    ),
    backbone=backbone,
    audio_encoder=dict(
        type='VGGishEncoder', init_cfg=dict(type='Pretrained', checkpoint='data/weights/vggish-10086976.pth')
    ),
    neck=dict(
        type='DilatedContextNeck',
        in_channels=_base_.pvt_channels,
        out_channels=256,
        dilations=(3, 6, 12, 18),
        skip=(0,),  # f4: its output would not be used
    ),
    decode_head=dict(
        type='CATRHead',
        num_classes=1,
        channels=256,
        audio_channels=128,
        num_queries=50,
        num_layers=3,  # assumed, as layer_cfg
        layer_cfg=dict(num_heads=8, feedforward_channels=2048, dropout=0.1),
        window=5,
        temporal_cfg=dict(squared_product=True, first_frame_audio=True, shared_gate=True),
        mask_levels=(3, 2),
        mask_channels=64,
        unused_positions=15680,
        criterion=dict(
            match_costs=[
                dict(type='mmdet.ClassificationCost', weight=2.0),  # assumed
                dict(type='mmdet.DiceCost', weight=7.0, pred_act=True, eps=1.0),
            ],
            loss_focal=dict(type='MaskFocalLoss', loss_weight=5.0),
            loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0, loss_weight=5.0),  # weight assumed
            class_weight=1.0,
            no_object_weight=0.1,  # assumed
            bce_weight=4.0,
            double_sigmoid=True,
        ),
    ),
    test_cfg=dict(mode='slide', window=5),
)
find_unused_parameters = True  # several processes must know that parameters may have no gradient
