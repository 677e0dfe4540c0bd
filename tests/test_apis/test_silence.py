# SPDX-License-Identifier: Apache-2.0
"""What sounds too little is not labelled, and where nothing is labelled it is said."""

import json

import numpy as np
import pytest
from test_inferencer import NAMES, noise, variant

from ovavss_mm.apis.video.sources import open_source


@pytest.fixture(scope='module')
def source():
    """Seven seconds, two frames a second."""
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, 7 * 16000)
    return dict(frames=np.stack(noise(14)), sound=sound, sample_rate=16000, frame_rate=2.0, name='clip')


@pytest.fixture(scope='module')
def scores(inferencer, source):
    """Sound scores of all that is labelled."""
    (prediction,) = inferencer(source, NAMES)['predictions']
    return sorted(what['sound'] for frame in prediction['frames'] for what in frame['names'].values())


def label_maps(inferencer, source, **settings):
    request = inferencer.make_request(NAMES, **settings)
    return np.stack([frame.label_map for frame in inferencer.stream(open_source(source), request)])


def test_what_sounds_less_is_not_labelled(inferencer, source, scores):
    """The threshold is above what a frame says of its names; with 0 at least what any other labels is labelled."""
    assert 0 < scores[0] < scores[-1] < 1
    everything = label_maps(inferencer, source, min_sound_score=0) > 0
    counts = []
    for least in (0.5, np.mean(scores).item(), scores[-1], 1.0):
        maps = label_maps(inferencer, source, min_sound_score=least)
        assert everything[maps > 0].all()
        counts.append((maps > 0).sum())
        (prediction,) = inferencer(source, NAMES, min_sound_score=least)['predictions']
        assert all(x['sound'] > least - 1e-4 for frame in prediction['frames'] for x in frame['names'].values())
    assert counts == sorted(counts, reverse=True) and 0 == counts[-1] < counts[1] < everything.sum()


@pytest.mark.parametrize('fps', [1, 2])
def test_silence_is_told_in_file_and_result(inferencer, source, tmp_path, fps):
    result = inferencer(source, NAMES, out_dir=tmp_path, min_sound_score=1, fps=fps)
    (prediction,) = result['predictions']
    written = json.loads((tmp_path / 'pred/clip.json').read_text())
    frames = written.pop('frames')
    assert written == {key: value for key, value in prediction.items() if key != 'files'}
    assert written['silent'] == dict(intervals=[[0, 7]], seconds=7) and written['names'] == {}
    assert written['min_sound_score'] == 1
    assert len(frames) == 7 * fps and all(frame['names'] == {} == dict(frame['objects']) for frame in frames)


def test_frames_with_a_label_are_not_silent(inferencer, source, scores):
    """Silent are the seconds of the frames without names, and no others."""
    (prediction,) = inferencer(source, NAMES, fps=2, min_sound_score=np.quantile(scores, 0.9).item())['predictions']
    silent = [frame['time'] for frame in prediction['frames'] if not frame['names']]
    told = [t / 2 for t in range(14) if any(a <= t / 2 < b for a, b in prediction['silent']['intervals'])]
    assert 0 < len(silent) < 14 and told == silent and prediction['silent']['seconds'] == len(silent) / 2
    (sample,) = inferencer(source, NAMES, return_datasamples=True)['predictions']
    assert sample.metainfo['timeline']['silent'] == dict(intervals=[], seconds=0)


def test_the_threshold_is_that_of_the_call(tiny, source, tmp_path, monkeypatch):
    """The model has its own again afterwards, also after an error."""
    inferencer = variant(tiny, tmp_path, classifier=dict(sound_thr=0.25))
    model, seen = inferencer.model, []
    run = model.test_step
    monkeypatch.setattr(model, 'test_step', lambda data: (seen.append(model.classifier.sound_thr), run(data))[1])
    for asked, used in ((None, 0.25), (0.75, 0.75), (0, 0)):
        (prediction,) = inferencer(source, NAMES, min_sound_score=asked)['predictions']
        assert prediction['min_sound_score'] == used == seen[-1]
        assert model.classifier.sound_thr == 0.25
    monkeypatch.setattr(model, 'test_step', lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        inferencer(source, NAMES, min_sound_score=0.75)
    assert model.classifier.sound_thr == 0.25


def test_a_model_that_leaves_out_nothing_says_none(inferencer, source):
    assert inferencer(source, NAMES)['predictions'][0]['min_sound_score'] is None
