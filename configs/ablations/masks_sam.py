# Masks are drawn anew by SAM (ViT-B) before they are named, and their contours measured
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
sam = dict(
    type='BoxMasker',
    config=dict(mask_decoder_config=dict(layer_norm_eps=1e-5)),  # the original's
    init_cfg=dict(type='Pretrained', checkpoint='facebook/sam-vit-base'),
)
model = dict(refiner=dict(type='SAMMaskRefiner', masker=sam))
test_evaluator = dict(boundary=True)
