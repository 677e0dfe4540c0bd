# Tests with the clips' own sound and with six others, in one run: what is labelled that does not sound?
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
sounds = ['own', 'silence', 'noise', 'other', 'off_screen_0dB', 'off_screen_6dB', 'off_screen_12dB']
test_dataloader = dict(dataset=dict(sounds=sounds))
