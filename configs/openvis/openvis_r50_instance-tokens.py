# OpenVIS that names in one pass of CLIP a frame, as the paper's later version does (docs/open_vocabulary.md). It
# differs at test time only
_base_ = ['./openvis_r50_clip-vit-b32_1xb1-82k_avsbench-ov.py']
classifier = dict(
    type='InstanceTokenClassifier',
    clip_model='ViT-B-32-quickgelu',
    init_cfg=dict(type='Pretrained', checkpoint='data/weights/ViT-B-32.pt'),
    sound_thr=None,
)
model = dict(classifier=dict(_delete_=True, **classifier))
