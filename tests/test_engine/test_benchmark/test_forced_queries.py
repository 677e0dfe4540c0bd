# SPDX-License-Identifier: Apache-2.0

import pytest
import tiny_model
import torch
from mmengine.structures import InstanceData

from ovavss_mm.engine.benchmark.forced import drawn_embeddings, force_queries, smooth_masks


def predict(batch=1, queries=6):
    return [InstanceData(masks=torch.randn(queries, 3, 8, 12)) for _ in range(batch)]


@pytest.mark.parametrize(('sounding', 'expected'), [(2, 2), (9, 6), ('all', 6)], ids=['two', 'more', 'all'])
def test_so_many_queries_sound_and_have_pixels_in_every_frame(sounding, expected):
    results = force_queries(predict, sounding)(batch=2)
    assert len(results) == 2
    for result in results:
        sounds = result.sound_scores > 0.5
        assert sounds.sum() == expected and sounds[:expected].all()
        has_pixels = (result.masks > 0).flatten(2).any(-1)
        assert has_pixels[:expected].all() and not has_pixels[expected:].any()


def test_discs_differ_and_are_smooth():
    masks = smooth_masks(queries=5, sounding=5, frames=2, height=24, width=32)
    assert len({tuple(mask.flatten().gt(0).tolist()) for mask in masks}) == 5
    assert not torch.equal(masks[:, 0], masks[:, 1])  # they move
    tiny = smooth_masks(queries=3, sounding=3, frames=1, height=1, width=1)
    assert (tiny > 0).all()


def test_results_are_new_each_time():
    forced = force_queries(predict, 1)
    first = forced()[0]
    del first.masks
    assert 'masks' in forced()[0]


def test_known_number_of_crops_whatever_the_threshold():
    for sound_thr in (0.5, None):
        model = tiny_model.tiny_model(classifier=dict(sound_thr=sound_thr))
        queries = force_queries(predict, 2)()[0]
        frames = torch.zeros(3, 3, 32, 48, dtype=torch.uint8)
        crops = []
        encode = model.classifier.encode
        model.classifier.encode = lambda x, e=encode, c=crops: (c.append(len(x)), e(x))[1]
        named = model.classifier(frames, queries, tiny_model.NAMES, (32, 64))
        assert sum(crops) == 2 * 3 and len(named) == 2


def test_what_was_made_is_made_once_for_a_shape():
    made = {}
    for _ in range(2):
        force_queries(predict, 1, made)()
    assert list(made) == [(6, 3, 8, 12)]


def test_drawn_embeddings_have_length_one():
    class Classifier:
        mean = torch.zeros(1)

        def text_embeddings(self, names):
            raise AssertionError('not called')

    embeddings = drawn_embeddings(Classifier().text_embeddings, 7)
    rows = embeddings(('a', 'b', 'c'))
    assert rows.shape == (3, 7) and torch.allclose(rows.norm(dim=1), torch.ones(3))
    assert embeddings(('d', 'e', 'f')) is rows and len(embeddings(('a',))) == 1
