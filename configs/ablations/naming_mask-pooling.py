# Masks are named in one pass of CLIP RN50 a frame, pooled over each (docs/open_vocabulary.md), not by crops
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
kept = {k: v for k, v in _base_.model.classifier.items() if k not in ('type', 'anchor', 'mask_size')}  # not of crops
kept.update(clip_model='RN50-quickgelu', init_cfg=dict(type='Pretrained', checkpoint='data/weights/RN50.pt'))
model = dict(classifier=dict(_delete_=True, type='MaskPoolingClassifier', share_backbone=False, combine='mean', **kept))
