# Every query with a mask is named, whatever its sound score
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(classifier=dict(sound_thr=None))
