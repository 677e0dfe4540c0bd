# SPDX-License-Identifier: Apache-2.0
"""CLAP and SAM as parts of the model: what reaches them, and what a clip gets, from end to end."""

import pytest
import torch
from mmseg.registry import MODELS
from tiny_foundation import CLAP, CLAP_SHAPE, SAM, roberta_tokenizer
from tiny_model import CLASSIFIER, NAMES, collate, draw_weights, give_masks_edges, make_clip, tiny_config
from torch import nn

REFINER = dict(type='SAMMaskRefiner', masker=dict(type='BoxMasker', config=SAM), sound_thr=0.0, min_iou=0.0, reach=9.0)


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return roberta_tokenizer(tmp_path_factory.mktemp('clap'))


def heard(weight: float, tokenizer: str) -> dict:
    """A classifier that hears with a drawn CLAP."""
    seen = dict(CLASSIFIER, sound_thr=None)
    namer = dict(type='SoundNamer', config=CLAP, tokenizer=tokenizer)
    return dict(_delete_=True, type='SoundNameScorer', classifier=seen, namer=namer, sound_weight=weight)


def build(**deltas) -> nn.Module:
    """A tiny model that finds something everywhere."""
    torch.manual_seed(3)
    config = tiny_config(**deltas)
    config.test_cfg.update(score_thr=0.0, return_masks=True)
    model = draw_weights(MODELS.build(config))
    give_masks_edges(model.decode_head)
    return model.eval()


def predict(model: nn.Module, clips: list[tuple], sounds: list | None = None) -> list:
    """Samples with the predictions of clips, with the sound that is for naming."""
    data = collate(clips)
    if sounds is not None:
        data['inputs']['naming_audio'] = sounds
    data = model.data_preprocessor(data)
    with torch.no_grad():
        return model.predict(data['inputs'], data['data_samples'])


@pytest.fixture(scope='module')
def clips():
    torch.manual_seed(0)
    return [make_clip(t, (40, 72)) for t in (7, 5)], [torch.randn(t, *CLAP_SHAPE) for t in (7, 5)]


def pairs_of(sample) -> dict[str, torch.Tensor]:
    return {key: sample.pred_queries[key] for key in ('labels', 'scores', 'masks', 'window_start')}


def test_sound_reaches_the_namer_window_by_window(tokenizer, clips):
    clips, sounds = clips
    model = build(classifier=heard(0.5, tokenizer))
    rows = []
    run = model.classifier.namer.probabilities
    model.classifier.namer.probabilities = lambda audio, names: (rows.append(audio), run(audio, names))[1]
    together = predict(model, clips, sounds)
    wanted = [sounds[0][:5], sounds[0][2:], sounds[1]]
    assert len(rows) == 3 and all(any(torch.equal(row, x) for x in rows) for row in wanted)
    for clip, sound, sample in zip(clips, sounds, together, strict=True):
        (alone,) = predict(model, [clip], [sound])
        for key, value in pairs_of(alone).items():
            torch.testing.assert_close(value, pairs_of(sample)[key])
    other = predict(model, clips, [sound.flip(0) for sound in sounds])
    assert not torch.equal(other[0].pred_queries.scores, together[0].pred_queries.scores)


def test_weight_0_is_the_model_without_sound_in_naming(tokenizer, clips):
    clips, sounds = clips
    plain, off = build(classifier=dict(sound_thr=None)), build(classifier=heard(0.0, tokenizer))
    state = {key: value for key, value in off.state_dict().items() if 'namer' not in key}
    plain.load_state_dict({key.replace('classifier.classifier', 'classifier'): x for key, x in state.items()})
    for some in (None, sounds):
        for ours, theirs in zip(predict(off, clips, some), predict(plain, clips), strict=True):
            for key, value in pairs_of(theirs).items():
                assert torch.equal(value, pairs_of(ours)[key]), key
    missing = off.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys and all('namer' in key for key in missing.missing_keys)


def test_a_step_that_is_missing_is_named(tokenizer, clips):
    with pytest.raises(ValueError, match="needs the step dict.type='LoadClipAudio', key='naming_audio'"):
        predict(build(classifier=heard(0.3, tokenizer)), clips[0])


def test_masks_are_drawn_anew_by_sam(clips):
    clips, _ = clips
    model = build(classifier=dict(sound_thr=None), refiner=REFINER)
    refiner, model.refiner = model.refiner, None
    before = predict(model, clips)
    model.refiner = refiner
    together = predict(model, clips)
    for clip, sample, old in zip(clips, together, before, strict=True):
        assert sample.pred_sem_seg.data.shape == old.pred_sem_seg.data.shape
        assert not torch.equal(sample.pred_sem_seg.data, old.pred_sem_seg.data)
        assert not torch.equal(sample.pred_queries.scores, old.pred_queries.scores), 'the new masks name'
        (alone,) = predict(model, [clip])
        assert torch.equal(alone.pred_sem_seg.data, sample.pred_sem_seg.data)
    model.refiner.min_iou = 1.0  # every mask stays
    for sample, old in zip(predict(model, clips), before, strict=True):
        assert torch.equal(sample.pred_sem_seg.data, old.pred_sem_seg.data)


def test_parts_that_leave_out_queries_by_their_sound_score(tokenizer):
    """The one that is wrapped, and the refiner, which would else leave out more than what names."""
    model = build(classifier=heard(0.5, tokenizer), refiner=REFINER)
    assert set(model.sound_gates) == {model.refiner, model.classifier.classifier}


def test_a_refiner_needs_queries():
    with pytest.raises(ValueError, match=r'set model\.refiner=None'):
        MODELS.build(tiny_config(classifier=None, refiner=REFINER))


def test_names_are_given_as_to_any_classifier(tokenizer):
    classifier = build(classifier=heard(0.3, tokenizer)).classifier
    assert classifier.open_vocabulary and len(classifier.text_embeddings(NAMES)) == len(NAMES)
