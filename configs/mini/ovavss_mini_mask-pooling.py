# Masks are named in one pass a frame of the mini CLIP with a ResNet, pooled over each; it differs at test time only
_base_ = ['./ovavss_mini_clip-rn.py']
kept = {k: v for k, v in _base_.model.classifier.items() if k not in ('type', 'anchor', 'mask_size')}  # not of crops
pooling = dict(type='MaskPoolingClassifier', share_backbone=False, combine='mean')
model = dict(classifier=dict(_delete_=True, **pooling, **kept))
