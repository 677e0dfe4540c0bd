_base_ = [
    '../_base_/models/ovavss_r50.py',
    '../_base_/datasets/avsbench_ov.py',
    '../_base_/schedules/schedule_82k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_frames=_base_.num_frames), test_cfg=dict(window=_base_.num_frames))
# from COCO, see tools/model_converters/mask2former_detectron2.py
load_from = 'data/weights/mask2former_r50_coco.pth'
