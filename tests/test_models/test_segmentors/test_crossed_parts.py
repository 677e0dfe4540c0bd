# SPDX-License-Identifier: Apache-2.0
"""Any head of single frames takes any tracker, any query head any classifier."""

import pytest
import torch
from tiny_model import CLASSIFIER, NAMES, draw_weights, give_masks_edges, make_clip, prepare, tiny_model

from ovavss_mm.datasets import Vocabulary

DECODER = dict(audio_prompt=dict(type='NoAudioPrompt'))
FRAMES = dict(type='FrameQueryHead', object_hidden=2, with_iou=True, transformer_decoder=DECODER)
HEADS = {
    'clip': (dict(), None),
    'frames, momentum': (FRAMES, dict(type='MomentumTracker')),
    'frames, top K': (FRAMES, dict(type='TopKTracker', memory=3, top_k=2)),
}
RESNET = dict(CLASSIFIER['clip_model'], vision_cfg=dict(image_size=64, layers=[1, 1, 1, 1], width=8, head_width=32))
VIT = dict(CLASSIFIER['clip_model'], vision_cfg=dict(CLASSIFIER['clip_model']['vision_cfg'], layers=2))
CLASSIFIERS = {
    'crops': dict(CLASSIFIER),
    'best crops': dict(CLASSIFIER, crops='best'),
    'text space': dict(CLASSIFIER, type='TextSpaceClassifier'),
    'mask pooling': dict(CLASSIFIER, type='MaskPoolingClassifier', share_backbone=False, clip_model=RESNET),
    'instance tokens': dict(CLASSIFIER, type='InstanceTokenClassifier', clip_model=VIT, copy_after=1),
}


def build(head: str, classifier: str) -> torch.nn.Module:
    torch.manual_seed(0)
    (deltas, tracker), naming = HEADS[head], CLASSIFIERS[classifier]
    deltas = dict(deltas, text_channels=16)
    model = tiny_model(decode_head=deltas, tracker=tracker, classifier=dict(naming, _delete_=True, sound_thr=None))
    give_masks_edges(draw_weights(model.decode_head))
    model.test_cfg['score_thr'] = 0.0
    return model


@pytest.mark.parametrize('classifier', CLASSIFIERS)
@pytest.mark.parametrize('head', HEADS)
@torch.no_grad()
def test_a_clip_of_a_batch_gets_what_it_gets_alone(head, classifier):
    model = build(head, classifier)
    torch.manual_seed(1)
    batch = [make_clip(5), make_clip(7, (64, 64))]
    together = model.predict(**prepare(model, batch))
    for sample, clip in zip(together, batch, strict=True):
        (alone,) = model.predict(**prepare(model, [clip]))
        assert sample.pred_queries.scores.shape == alone.pred_queries.scores.shape
        assert torch.allclose(sample.pred_queries.scores, alone.pred_queries.scores, atol=1e-4)
        assert (sample.pred_sem_seg.data == alone.pred_sem_seg.data).float().mean() > 0.999
        assert len(sample.pred_queries.scores) and sample.pred_queries.labels.max() < len(NAMES)


@pytest.mark.parametrize(
    ('channels', 'classifier', 'message'),
    [
        (8, 'text space', 'gives 16 channels: set decode_head.text_channels=16, got 8'),
        (None, 'text space', 'gives 16 channels: set decode_head.text_channels=16, got None'),
        (8, 'crops', 'gives 16 channels: set decode_head.text_channels=16, got 8'),
        (8, None, 'text_channels=8 needs a classifier with a text tower'),
    ],
)
def test_another_text_width_is_refused_at_once(channels, classifier, message):
    naming = classifier and dict(CLASSIFIERS[classifier], _delete_=True)
    with pytest.raises(ValueError, match=message):
        tiny_model(decode_head=dict(text_channels=channels), classifier=naming)


def test_names_of_training_have_their_synonyms():
    model = build('clip', 'text space')
    imgs, audio, sample = make_clip(5)
    names = Vocabulary(NAMES, base=NAMES[1:], synonyms={NAMES[1]: ['puppy']}, templates=['a {}'])
    sample.set_metainfo(dict(vocabulary=names))
    model._add_text([sample])
    assert torch.allclose(sample.text_rows, model.classifier.text_rows(names)[1:])
    assert sample.text_columns.tolist() == [-1, 0, 1]


def test_names_are_trained_in_either_head():
    for head in ('clip', 'frames, momentum'):
        model = build(head, 'text space')
        data = prepare(model, [make_clip(5)], training=True)
        losses = model.loss(data['inputs'], data['data_samples'])
        losses['decode.loss_name'].backward()
        assert model.decode_head.text_embed.layers[0].weight.grad.abs().sum() > 0
        assert all(p.grad is None for p in model.classifier.parameters())
