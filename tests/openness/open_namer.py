# Another namer of open_clip's kinds: like SigLIP, with a bias and sigmoid scores
_base_ = ['./open_base.py']
text_cfg = dict(context_length=40, vocab_size=577, width=32, heads=2, layers=1, no_causal_mask=True, pool_type='last')
siglip = dict(
    _delete_=True,
    custom_text=True,
    init_logit_bias=-10.0,
    embed_dim=32,
    vision_cfg=dict(image_size=16, patch_size=8, width=32, layers=1, head_width=16),
    text_cfg=text_cfg,
)
preprocess = dict(mean=[0.5] * 3, std=[0.5] * 3)
classifier = dict(clip_model=siglip, init_cfg=None, score='sigmoid', logit_scale=None, preprocess=preprocess)
model = dict(classifier=classifier)
