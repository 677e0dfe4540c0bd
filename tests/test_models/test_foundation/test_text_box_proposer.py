# SPDX-License-Identifier: Apache-2.0
"""Grounding DINO finds boxes of names: as the library alone, each frame and each text encoded once."""

import pytest
import tiny_foundation
import torch

from ovavss_mm.models import TextBoxProposer

PAIRS = [(0, 'red star'), (0, 'cat'), (1, 'red star'), (1, 'a'), (0, 'a')]


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory) -> str:
    return tiny_foundation.bert_tokenizer(tmp_path_factory.mktemp('bert'))


@pytest.fixture(scope='module')
def make(tokenizer):
    def build(**keys) -> TextBoxProposer:
        torch.manual_seed(0)
        keys = dict(short_side=48, long_side=80, box_thr=0.0) | keys
        return TextBoxProposer(tiny_foundation.GROUNDING_DINO, tokenizer=tokenizer, **keys)

    return build


@pytest.fixture(scope='module')
def proposer(make) -> TextBoxProposer:
    return make()


@pytest.fixture(scope='module')
def frames() -> torch.Tensor:
    return torch.randint(256, (2, 3, 30, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def assert_equal(ours, theirs) -> None:
    torch.testing.assert_close((ours.boxes, ours.scores), (theirs.boxes, theirs.scores), atol=1e-4, rtol=0)


def test_boxes_are_those_of_the_library(make, frames):
    from transformers import GroundingDinoProcessor

    proposer = make(box_thr=0.5)
    processor = GroundingDinoProcessor(proposer.processor, proposer.tokenizer)
    inputs = processor(images=frames[0], text='red star.', return_tensors='pt')
    with torch.no_grad():
        out = proposer.model(**inputs)
    scores = out.logits.sigmoid().amax(-1)[0]
    for thr in (float(scores.median()), float(scores.max())):  # a score equal to it is not above it
        proposer.box_thr = thr
        (expected,) = processor.post_process_grounded_object_detection(out, threshold=thr, target_sizes=[(30, 40)])
        (found,) = proposer(frames, [(0, ' Red Star ')])
        assert len(found) == len(expected['boxes']) == int((scores > thr).sum())
        torch.testing.assert_close(found.boxes, expected['boxes'])


def test_pairs_are_independent_whatever_the_chunk(make, proposer, frames):
    together = proposer(frames, PAIRS)
    assert [len(found) for found in together] == [6] * 5
    for size in (1, 2, 5):
        for ours, theirs in zip(make(chunk_size=size)(frames, PAIRS), together, strict=True):
            assert_equal(ours, theirs)
    for pair, expected in zip(PAIRS, together, strict=True):
        assert_equal(proposer(frames[pair[0], None], [(0, pair[1])])[0], expected)
    assert not torch.allclose(together[0].boxes, together[1].boxes), 'names have an effect'


def test_each_frame_and_each_text_is_encoded_once(make, frames):
    proposer, seen, read = make(chunk_size=2), [], []
    net = proposer.model.model
    net.backbone.conv_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    net.text_backbone.encoder.register_forward_pre_hook(lambda _, inputs: read.append(len(inputs[0])))
    for _ in range(2):  # what one call has seen the next does not trust
        seen.clear(), read.clear()
        proposer(frames, PAIRS)
        assert (sum(seen), sum(read)) == (2, 3)


def test_names_longer_than_the_model_reads(proposer, frames):
    fits, long = 'b' * 13, 'b' * 14  # with a full stop, the start and the end of a text 16 and 17 of 16
    assert proposer.truncated_words([fits, long]) == [long]
    cut, longer = proposer(frames[:1], [(0, long), (0, 'b' * 60)])
    assert_equal(cut, longer)


def test_no_pairs(proposer, frames):
    assert proposer(frames, []) == []


def test_bfloat16_runs(make, frames):
    found = make(dtype='bfloat16')(frames, PAIRS)
    assert all(f.boxes.dtype == torch.float32 and f.boxes.isfinite().all() for f in found)


@pytest.mark.parametrize('keys', [dict(short_side=90), dict(chunk_size=0), dict(box_thr=1.5)])
def test_bad_keys_are_named(make, keys):
    with pytest.raises(ValueError, match=f'got .*{next(iter(keys.values()))}'):
        make(**keys)
