# OV2Seg on the mini world: names are learned from scratch, which takes three times as long as the rows of the ablations
_base_ = ['./ovavss_mini.py', '../_base_/models/frame_queries.py']
clip = _base_.model.classifier
model = _base_.frame_queries
model.decode_head.update(object_hidden=1, text_channels=64)
model.decode_head.criterion.match_costs = [dict(type='JointScoreCost', weight=2.0), *_base_.mask_costs]
model.tracker = dict(type='MomentumTracker', momentum=0.7)
parts = dict(clip_model=clip.clip_model, init_cfg=clip.init_cfg, tokenizer=clip.tokenizer, templates=clip.templates)
model.classifier = dict(_delete_=True, type='TextSpaceClassifier', **parts)
