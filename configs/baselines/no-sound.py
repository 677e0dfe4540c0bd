# Table 2: open vocabulary without sound, as video-only methods: no audio anywhere
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(
    audio_encoder=None,
    neck=dict(fusion=None),
    decode_head=dict(transformer_decoder=dict(audio_prompt=dict(type='NoAudioPrompt'))),
)
