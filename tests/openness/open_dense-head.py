# A dense head that gives logits per class: no neck, no queries, no classifier
_base_ = ['./open_base.py']
head = dict(_delete_=True, type='PlainDenseHead', in_channels=16, audio_channels=128, num_classes=_base_.num_names + 1)
model = dict(neck=None, decode_head=head, classifier=None)
