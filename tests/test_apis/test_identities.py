# SPDX-License-Identifier: Apache-2.0
"""Objects of labelled videos: in frames, files and summaries."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import TASK_UTILS
from test_inferencer import NAMES, noise

from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.video.sources import open_source


@pytest.fixture(scope='module')
def source():
    """Twelve seconds, two frames a second."""
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, 12 * 16000)
    frames = np.repeat(np.stack(noise(6)), 4, 0)
    return dict(frames=frames, sound=sound, sample_rate=16000, frame_rate=2.0)


def frames_of(inferencer, source, **settings):
    return list(inferencer.stream(open_source(source), inferencer.make_request(NAMES, **settings)))


def with_linker(tiny, linker):
    cfg = Config(dict(tiny[0].to_dict(), linker=linker))
    return AVSegInferencer(cfg, tiny[1], device='cpu', show_progress=False)


@pytest.mark.parametrize('fps', [1, 2])
def test_label_maps_are_those_without_identities(tiny, inferencer, source, fps):
    plain = frames_of(with_linker(tiny, None), source, fps=fps)
    linked = frames_of(inferencer, source, fps=fps)
    assert any(frame.objects for frame in linked)
    for a, b in zip(plain, linked, strict=True):
        assert a.label_map.dtype == b.label_map.dtype and (a.label_map == b.label_map).all()
        assert a.found == b.found and a.objects == [] and a.object_map is None
        assert ((b.object_map > 0) == (b.label_map > 0)).all()


def test_ids_do_not_depend_on_the_batch_size(inferencer, source):
    one, two = (frames_of(inferencer, source, fps=2, batch_size=size) for size in (1, 2))
    assert len(one) == len(two) == 24
    ids = [
        [(x.id, x.label, x.number) for frame in frames for x in frame.objects if x.area > 0.01] for frames in (one, two)
    ]
    assert ids[0] == ids[1]


def test_a_stream_begins_anew_with_each_video(inferencer, source):
    first, second = (frames_of(inferencer, source) for _ in range(2))
    assert [frame.objects for frame in first] == [frame.objects for frame in second]
    assert min(x.id for frame in first for x in frame.objects) == 1


def test_objects_in_the_files(inferencer, source, tmp_path):
    (prediction,) = inferencer(source, NAMES, out_dir=tmp_path, no_save_vis=True)['predictions']
    (path,) = (tmp_path / 'pred').glob('*.json')
    written = json.loads(path.read_text())
    assert written['objects'] == prediction['objects']
    listed = [dict(what, time=frame['time']) for frame in written['frames'] for what in frame['objects']]
    assert {what['id'] for what in listed} == {found['id'] for found in written['objects']}
    for name in written['names']:
        numbers = [what['number'] for what in listed if what['name'] == name]
        assert list(dict.fromkeys(numbers)) == list(range(1, max(numbers) + 1))  # in order of appearance
    for frame in written['frames']:
        assert {what['name'] for what in frame['objects']} <= set(frame['names'])
        areas = [[what['area'] for what in group] for group in (frame['names'].values(), frame['objects'])]
        assert sum(areas[0]) == pytest.approx(sum(areas[1]), abs=1e-5)
    for found in written['objects']:
        times = {what['time'] for what in listed if what['id'] == found['id']}
        assert sum(end - start for start, end in found['intervals']) == len(times) == found['seconds']


@TASK_UTILS.register_module()
class CountingLinker:
    """Of the protocol, and no more: each pair of each window is an object of its own."""

    def __init__(self):
        self.count = 0

    def __call__(self, numbers, pairs):
        assert pairs.masks.dtype == torch.bool and len(numbers) == pairs.masks.shape[1] and self.fps == 2
        pairs.ids = torch.arange(len(pairs)) + self.count
        self.count += len(pairs)
        return pairs


def test_a_linker_of_your_own(tiny, inferencer, source):
    own, linked = (frames_of(x, source, fps=2) for x in (with_linker(tiny, dict(type='CountingLinker')), inferencer))
    assert sum(len(frame.objects) for frame in own) > 0
    for a, b in zip(own, linked, strict=True):
        assert (a.label_map == b.label_map).all() and ((a.object_map > 0) == (a.label_map > 0)).all()


def test_a_wrong_value_is_named_when_the_model_is_built(tiny):
    with pytest.raises(ValueError, match='min_iou must be None, or above 0 and at most 1, got 2'):
        with_linker(tiny, dict(type='WindowLinker', min_iou=2))
