# OpenVIS as its published code has it: the released OV-AVSS without all that hears (docs/open_vocabulary.md)
_base_ = './release.py'
openvis = dict(
    audio_encoder=None,
    neck=dict(fusion=None),
    decode_head=dict(transformer_decoder=dict(audio_prompt=dict(type='NoAudioPrompt')), criterion=_base_.bce_criterion),
    classifier=dict(sound_thr=None, anchor='corner', mask_size='padded'),
    test_cfg=dict(mode='whole'),
)
