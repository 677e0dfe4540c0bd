# GAVS on the AVSBench-OV clips of the mini world, sounding or not
_base_ = ['./gavs_mini_s4.py']
dataset = dict(_delete_=True, type='AVSBenchOVDataset', data_root=_base_.data_root, base_names='base_names.txt')
test_dataset = dict(**dataset, binary=True, pipeline=_base_.test_pipeline, test_mode=True)
train_pipeline = [dict(type='SampleClipFrames', num_frames=_base_.num_frames), *_base_.train_pipeline]
train_dataloader = dict(dataset=dict(**dataset, binary=True, split='train', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**test_dataset, split='val'))
test_dataloader = dict(dataset=dict(**test_dataset, split='test'))
