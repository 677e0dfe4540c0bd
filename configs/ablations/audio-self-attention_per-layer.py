# Audio tokens attend to each other before each decoder layer
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(decode_head=dict(transformer_decoder=dict(audio_prompt=dict(audio_self_attn='per_layer'))))
