# Ways to label only what is heard, by name, for configs/ablations/hearing_*.py to put together
mix = dict(type='MixClipAudio', silence=0.05, noise=0.05, other=0.2, off_screen=0.3)
frame_sound = dict(type='FrameSoundScore')
presence = dict(type='PresenceScore')
gates = dict(fusion=dict(type='GatedFusion'))
gates_matched = dict(fusion=dict(type='GatedFusion'), loss_match=dict(type='SoundMatchLoss', memory=16))
