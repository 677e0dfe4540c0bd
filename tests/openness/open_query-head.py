# Another query decoder, named by the same classifier
_base_ = ['./open_base.py']
model = dict(neck=None, decode_head=dict(_delete_=True, type='PlainQueryHead', in_channels=16, num_queries=6))
