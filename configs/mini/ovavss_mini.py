# OV-AVSS on the mini world: the R50 model in small, trained from scratch on a CPU within minutes
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
load_from = None
max_iters = 1200
data_root = 'data/mini'
num_names = 20
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
        pixel_decoder=dict(
            norm_cfg=dict(num_groups=8),
            encoder=dict(num_layers=3, layer_cfg=dict(self_attn_cfg=attn_cfg, ffn_cfg=ffn_cfg)),
            positional_encoding=dict(num_feats=32),
        ),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(self_attn_cfg=attn_cfg, cross_attn_cfg=attn_cfg, ffn_cfg=ffn_cfg),
        ),
        positional_encoding=dict(num_feats=32),
        criterion=dict(num_points=512),
    ),
    classifier=dict(
        clip_model=dict(
            _delete_=True,
            embed_dim=64,
            vision_cfg=dict(image_size=32, patch_size=8, width=96, layers=3, head_width=32),
            text_cfg=dict(context_length=40, vocab_size=577, width=64, heads=2, layers=2),
        ),
        init_cfg=dict(checkpoint='ovavss_mm://mini_world/clip_mini.safetensors'),
        tokenizer=dict(bpe_path='ovavss_mm://mini_world/clip_mini_bpe.txt.gz'),
    ),
)
train_pipeline = [
    dict(type='SampleClipFrames', num_frames=5),
    dict(type='LoadClipFrames'),
    dict(type='LoadClipLabels'),
    dict(type='LoadClipAudio'),
    dict(type='ResizeClip', short_side=96),
    dict(type='FlipClip', prob=0.5),
    dict(type='PackAVSegInputs'),
]
test_pipeline = [
    dict(type='SampleClipFrames', num_frames=None),
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAudio'),
    dict(type='ResizeClip', short_side=96),
    dict(type='LoadClipLabels'),
    dict(type='PackAVSegInputs'),
]
dataset = dict(data_root=data_root, base_names='base_names.txt', pipeline=test_pipeline)
# on two cores a worker costs the training more than it saves
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, base_names='base_names.txt', pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=8, num_workers=1, dataset=dataset)
test_dataloader = dict(batch_size=8, num_workers=1, dataset=dataset)
val_evaluator = dict(eval_size=None)
test_evaluator = val_evaluator
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, fused=True),
    clip_grad=dict(max_norm=0.1),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=1.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=100, end=max_iters, by_epoch=False, eta_min=1e-5),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
custom_hooks = [dict(type='StrictCheckpointHook'), dict(type='ContactSheetHook', num_clips=8)]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=300, max_keep_ckpts=1))
