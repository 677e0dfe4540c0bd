# Masks are named in one pass of CLIP a frame, by a token each (docs/open_vocabulary.md), not by crops
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
kept = {k: v for k, v in _base_.model.classifier.items() if k not in ('type', 'anchor', 'mask_size')}  # not of crops
model = dict(classifier=dict(_delete_=True, type='InstanceTokenClassifier', **kept))
