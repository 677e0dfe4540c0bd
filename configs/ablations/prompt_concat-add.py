# Table 4: the frames' audio, joined, is added to the queries' positions
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(decode_head=dict(transformer_decoder=dict(audio_prompt=dict(type='ConcatAddPrompt'))))
