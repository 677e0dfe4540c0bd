# OpenVIS on AVSBench-OV (Table 2); data, schedule, start and targets are those of OV-AVSS (our reading)
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py', '../_base_/models/openvis.py']
model = _base_.openvis
# Table 2's size; the published code's own config has 9 layers and ViT-B/16
model.decode_head.transformer_decoder.num_layers = 6
model.classifier.clip_model = 'ViT-B-32-quickgelu'
model.classifier.init_cfg = dict(checkpoint='data/weights/ViT-B-32.pt')
# the start has 9 decoder layers
left_out = [r'decode_head\.transformer_decoder\.layers\.[678]\.']
custom_hooks = [dict(type='StrictCheckpointHook', allow_unexpected=left_out)]
