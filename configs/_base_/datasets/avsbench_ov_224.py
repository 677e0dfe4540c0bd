# AVSBench-OV as the closed-set models read AVSBench-semantic: whole clips of up to 10 frames, 224 x 224 pixels
_base_ = './avsbench_ov.py'
num_frames = 10
sample_frames = dict(type='SampleClipFrames', num_frames=num_frames)
train_resize = dict(type='ResizeClip', short_side=224)
crop = dict(type='CropClip', size=224)
load_train = [sample_frames, _base_.load_frames, _base_.load_labels]
finish_train = [train_resize, crop, _base_.pack]  # TPAVI's; CATR's is augmented
affine = dict(type='AffineClip', degrees=20, scale=(0.5, 1.0), shear=10)
finish_train_catr = [train_resize, affine, dict(**crop, random=True), _base_.flip, _base_.pack]
finish_test = [_base_.load_labels, _base_.pack]  # the data preprocessor brings frames to 224 x 224
train_pipeline = [*load_train, _base_.load_audio, *finish_train]
test_pipeline = [_base_.load_frames, _base_.load_audio, *finish_test]
train_dataloader = dict(batch_size=4, num_workers=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
