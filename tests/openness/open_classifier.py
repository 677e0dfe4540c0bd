# Another classifier: CLIP on masked frames instead of crops
_base_ = ['./open_base.py']
clip = _base_.model.classifier
parts = dict(clip_model=clip.clip_model, init_cfg=clip.init_cfg, tokenizer=clip.tokenizer, templates=clip.templates)
model = dict(classifier=dict(_delete_=True, type='MaskedFrameClassifier', **parts))
