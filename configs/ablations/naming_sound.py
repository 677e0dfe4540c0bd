# Names by what is seen and what CLAP hears (docs/open_vocabulary.md): p_image^(1 - a) * p_sound^a, a = sound_weight
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
clap = dict(type='SoundNamer', config=dict(), init_cfg=dict(type='Pretrained', checkpoint='laion/clap-htsat-unfused'))
seen = dict(classifier=_base_.model.classifier, sound_weight=0.3)
model = dict(classifier=dict(_delete_=True, type='SoundNameScorer', namer=clap, **seen))
hear = dict(type='LoadClipAudio', key='naming_audio', front_end=dict(type='CLAPLogMel'))
test_pipeline = [hear, *_base_.test_pipeline]
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
