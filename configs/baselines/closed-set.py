# Table 2: closed set, a head that tells the names of the data set apart instead of sound head and CLIP
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(
    decode_head=dict(num_classes=_base_.num_names, criterion=dict(loss_sound=dict(num_classes=_base_.num_names))),
    classifier=dict(_delete_=True, type='ClosedSetClassifier'),
)
