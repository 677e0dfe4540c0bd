# A fusion over time
_base_ = ['./open_base.py']
model = dict(neck=dict(fusion=dict(_delete_=True, type='TemporalFusion')))
