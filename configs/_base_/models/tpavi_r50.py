# TPAVI with ResNet-50 in its semantic setting; every number is that of the published code
_base_ = './resnet50.py'
resnet50 = _base_.resnet50
resnet50.pop('_delete_')
model = dict(
    type='AVEncoderDecoder',
    data_preprocessor=dict(
        type='AVSegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        size_divisor=32,
        num_frames=10,  # shorter clips are filled up in training, and batch norm sees what they are filled with
        input_size=(224, 224),
    ),
    backbone=resnet50,
    audio_encoder=dict(
        type='VGGishEncoder', init_cfg=dict(type='Pretrained', checkpoint='data/weights/vggish-10086976.pth')
    ),
    neck=dict(
        type='DilatedContextNeck', in_channels=_base_.resnet50_channels, out_channels=256, dilations=(3, 6, 12, 18)
    ),
    decode_head=dict(
        type='TPAVIHead',
        num_classes=71,
        channels=256,
        audio_channels=128,
        output_channels=(128, 32),
        window=5,
        audio_bias=False,
        relu_residual=True,
        unused_unit=True,
        extra_branch=resnet50,  # its last two stages, never run
        loss_avm=dict(type='AudioVisualMatchLoss', loss_weight=0.5, reduction='mean'),
    ),
    test_cfg=dict(mode='slide', window=10),
)
find_unused_parameters = True  # several processes must know that parameters may have no gradient
