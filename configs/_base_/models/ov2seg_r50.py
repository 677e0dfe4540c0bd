# OV2Seg with ResNet-50: Mask2Former on single frames, names in CLIP's text space, queries linked by a memory
_base_ = ['./ovavss_r50.py', './frame_queries.py']
model = _base_.frame_queries
model.decode_head.update(object_hidden=1, text_channels=512)
model.decode_head.transformer_decoder.num_layers = 6
model.decode_head.criterion.match_costs = [dict(type='JointScoreCost', weight=2.0), *_base_.mask_costs]
model.decode_head.criterion.name_weight = 3.4  # 2, of the binary cross-entropy times 1.7
model.tracker = dict(type='MomentumTracker', momentum=0.7)
model.classifier = dict(
    _delete_=True,
    type='TextSpaceClassifier',
    clip_model='ViT-B-32-quickgelu',
    init_cfg=dict(type='Pretrained', checkpoint='data/weights/ViT-B-32.pt'),
    templates='vild',
    logit_scale=50.0,
)
