# CLIP-VIS on AVSBench-OV, with the data and the schedule of OV-AVSS (ours: the authors of Table 2 published none);
# every frame is an image, names are used when testing only
_base_ = [
    '../_base_/models/clip_vis_rn50.py',
    '../_base_/datasets/avsbench_ov.py',
    '../_base_/schedules/schedule_82k.py',
    '../_base_/default_runtime.py',
]
model = dict(test_cfg=dict(window=_base_.num_frames))
