# Masks are named in one pass of CLIP RN50 a frame, pooled over each (docs/open_vocabulary.md), not by crops
_base_ = ['./crop_square_rn50.py']
kept = {k: v for k, v in _base_.model.classifier.items() if k not in ('type', 'anchor', 'mask_size')}  # not of crops
pooling = dict(type='MaskPoolingClassifier', share_backbone=False, combine='mean')
model = dict(classifier=dict(_delete_=True, **pooling, **kept))
