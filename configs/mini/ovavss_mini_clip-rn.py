# Table 5 in small: a CLIP whose image tower is a ResNet names the masks. It differs at test time only:
# the model trained with ovavss_mini.py is tested as it is, as its checkpoints leave CLIP out.
_base_ = ['./ovavss_mini.py']
model = dict(
    classifier=dict(
        clip_model=dict(
            _delete_=True,
            embed_dim=64,
            vision_cfg=dict(image_size=96, layers=[1, 1, 2, 2], width=8, head_width=32),
            text_cfg=dict(context_length=40, vocab_size=577, width=64, heads=2, layers=2),
        ),
        init_cfg=dict(checkpoint='ovavss_mm://mini_world/clip_mini_rn.safetensors'),
    )
)
