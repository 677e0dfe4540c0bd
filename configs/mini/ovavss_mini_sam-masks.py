# The mini model, whose masks the mini SAM draws anew before they are named; it differs at test time only
_base_ = ['./ovavss_mini_ablation.py']
square = dict(image_size=128, patch_size=8)
decoder = dict(hidden_size=64, mlp_dim=128, num_attention_heads=4, iou_head_hidden_dim=64, layer_norm_eps=1e-5)
vision = dict(square, hidden_size=64, output_channels=64, num_hidden_layers=3, num_attention_heads=4, mlp_ratio=2.0)
vision.update(window_size=0, global_attn_indexes=[0, 1, 2], num_pos_feats=32)
prompts = dict(square, hidden_size=64, mask_input_channels=16)
sam = dict(
    type='BoxMasker',
    config=dict(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder),
    init_cfg=dict(type='Pretrained', checkpoint='ovavss_mm://mini_world/sam_mini'),
)
model = dict(refiner=dict(type='SAMMaskRefiner', masker=sam))
test_evaluator = dict(boundary=True)
