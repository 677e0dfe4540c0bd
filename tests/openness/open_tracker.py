# Queries of single frames, and a tracker that puts them in order
_base_ = ['./open_base.py']
model = dict(
    neck=None,
    decode_head=dict(_delete_=True, type='PerFrameQueryHead', in_channels=16, num_queries=6),
    tracker=dict(type='NearestTracker'),
)
