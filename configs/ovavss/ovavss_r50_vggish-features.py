# The R50 model with VGGish embeddings that were extracted before (extract_vggish.py): the same ones
# to 1e-5, without reading sounds and running VGGish in each iteration
_base_ = ['./ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
load_features = dict(
    type='LoadClipAudioFeatures',
    features='data/avsbench_ov/vggish.safetensors',
    weights='data/weights/vggish-10086976.pth',  # must be those that the embeddings were made with
)
train_pipeline = [*_base_.load_train, load_features, *_base_.finish_train]
test_pipeline = [_base_.load_frames, load_features, *_base_.finish_test]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
