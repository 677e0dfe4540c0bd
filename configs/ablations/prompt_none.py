# Table 4: queries without audio
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(decode_head=dict(transformer_decoder=dict(audio_prompt=dict(type='NoAudioPrompt'))))
find_unused_parameters = True  # nobody reads the audio that the fusion gives back
