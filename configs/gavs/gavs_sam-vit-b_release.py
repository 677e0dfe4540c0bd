# GAVS as its published code trains and tests it on S4: BGR with the means of RGB, noise in place of sound in training,
# embeddings without the final ReLU, frame 0's annotation for all five frames, the best epoch by its own threshold
_base_ = ['./gavs_sam-vit-b_1xb1-60e_s4.py']
model = dict(data_preprocessor=dict(rgb_to_bgr=True), audio_encoder=dict(final_relu=False), prompt_noise='replace')
load_labels = dict(type='LoadClipLabels', first_for_all=True)
train_pipeline = [*_base_.load_resized, load_labels, _base_.load_audio, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(checkpoint=dict(save_best='J_video@0.4'))
