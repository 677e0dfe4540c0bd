# OV-AVSS on the mini world: the R50 model in small, trained from scratch on a CPU within minutes
_base_ = [
    '../_base_/models/ovavss_r50.py',
    '../_base_/datasets/mini_world.py',
    '../_base_/schedules/schedule_mini.py',
    '../_base_/default_runtime.py',
]
attn_cfg = dict(embed_dims=64, num_heads=4)
ffn_cfg = dict(embed_dims=64, feedforward_channels=128)
model = dict(
    # from scratch, batch norm learns; the frame rate, names, losses and code paths are those of the R50 model
    backbone=dict(depth=18, base_channels=16, norm_cfg=dict(requires_grad=True), norm_eval=False),
    audio_encoder=dict(_delete_=True, type='LogMelEncoder'),
    neck=dict(
        in_channels=[16, 32, 64, 128],
        out_channels=64,
        norm_cfg=dict(num_groups=8),
        fusion=dict(embed_dims=128, num_heads=4),
    ),
    decode_head=dict(
        in_channels=[16, 64, 64, 64],
        feat_channels=64,
        out_channels=64,
        num_queries=10,
        num_frames=_base_.num_frames,
        pixel_decoder=dict(
            norm_cfg=dict(num_groups=8),
            encoder=dict(num_layers=3, layer_cfg=dict(self_attn_cfg=attn_cfg, ffn_cfg=ffn_cfg)),
            positional_encoding=dict(num_feats=32),
        ),
        transformer_decoder=dict(
            num_layers=3, layer_cfg=dict(self_attn_cfg=attn_cfg, cross_attn_cfg=attn_cfg, ffn_cfg=ffn_cfg)
        ),
        positional_encoding=dict(num_feats=32),
        criterion=dict(num_points=512),
    ),
    classifier=dict(
        clip_model=dict(
            _delete_=True,
            embed_dim=64,
            vision_cfg=dict(image_size=64, patch_size=8, width=96, layers=4, head_width=32),
            text_cfg=dict(context_length=40, vocab_size=577, width=64, heads=2, layers=2),
        ),
        init_cfg=dict(checkpoint='ovavss_mm://mini_world/clip_mini.safetensors'),
        tokenizer=dict(bpe_path='ovavss_mm://mini_world/clip_mini_bpe.txt.gz'),
    ),
    test_cfg=dict(window=_base_.num_frames),
)
custom_hooks = [dict(type='StrictCheckpointHook'), dict(type='ContactSheetHook', num_clips=8)]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=300, max_keep_ckpts=1))
