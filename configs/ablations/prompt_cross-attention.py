# Table 4: queries attend to audio before the decoder, not in its layers
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(decode_head=dict(transformer_decoder=dict(audio_prompt=dict(type='CrossAttentionPrompt'))))
