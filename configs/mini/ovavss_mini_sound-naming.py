# The mini model, whose names are also heard by the mini CLAP; it differs at test time only
_base_ = ['./ovavss_mini_ablation.py']
words = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
words.update(vocab_size=400, max_position_embeddings=80)
audio = dict(spec_size=128, window_size=4, patch_embeds_hidden_size=32, hidden_size=64, depths=[2, 2])
audio.update(num_attention_heads=[2, 4], num_hidden_layers=2, mlp_ratio=2.0, num_classes=1)
clap = dict(
    type='SoundNamer',
    config=dict(projection_dim=64, text_config=words, audio_config=audio),
    init_cfg=dict(type='Pretrained', checkpoint='ovavss_mm://mini_world/clap_mini'),
)
seen = dict(classifier=_base_.model.classifier, sound_weight=0.3)
model = dict(classifier=dict(_delete_=True, type='SoundNameScorer', namer=clap, **seen))
mels = dict(type='CLAPLogMel', sample_rate=16000, seconds=2, hop=160, max_hz=8000)
hear = dict(type='LoadClipAudio', key='naming_audio', front_end=mels)
test_pipeline = [dict(type='SwapClipAudio', source='own'), hear, *_base_.test_pipeline]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
