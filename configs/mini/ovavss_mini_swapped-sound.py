# Tests the mini model with every clip's sound swapped for another clip's: a model that listens must get worse
_base_ = ['./ovavss_mini.py']
test_pipeline = [dict(type='SwapClipAudio', source='other'), *_base_.test_pipeline]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
custom_hooks = [
    dict(type='StrictCheckpointHook'),
    dict(type='ContactSheetHook', num_clips=8, out_file='contact_sheet_swapped-sound.png'),
]
