# The mini model, whose names are also heard by the mini CLAP; it differs at test time only
_base_ = ['./ovavss_mini_ablation.py', '../_base_/models/foundation_mini.py']
seen = dict(classifier=_base_.model.classifier, sound_weight=0.3)
model = dict(classifier=dict(_delete_=True, type='SoundNameScorer', namer=_base_.mini_clap, **seen))
hear = dict(type='LoadClipAudio', key='naming_audio', front_end=_base_.mini_clap_front)
test_pipeline = [hear, *_base_.test_pipeline]
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
