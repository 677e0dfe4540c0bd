# SPDX-License-Identifier: Apache-2.0
"""The tool that measures identities: its videos, and its figures on frames whose identities are known."""

import builtins
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

from ovavss_mm.apis.video.request import LabelledFrame  # noqa: E402
from ovavss_mm.mini_world.drawing import render_pictures  # noqa: E402
from ovavss_mm.mini_world.names import NAMES  # noqa: E402
from ovavss_mm.models.segmentors.windows import FrameObject  # noqa: E402

tool = published.load_tool('analysis_tools/measure_identities.py')


@pytest.mark.parametrize('seed', [0, 2])
def test_true_maps_are_the_labels_by_object(seed):
    scene = tool.make_scene(seed, 20)
    assert scene == tool.make_scene(seed, 20) and len(scene.objects) == 3
    labels = render_pictures(scene, 2)[1]
    index = np.array([0, *(NAMES.index(obj.name) + 1 for obj in scene.objects)])
    for i, label in enumerate(labels):
        assert (index[tool.true_map(scene, i / 2)] == label).all()
    names = [obj.name for obj in scene.objects if any(obj.sounding)]
    assert len(names) == 2 and len(set(names)) == (1 if seed == 2 else 2)


def frames_of(rows):
    """Frames with two objects at fixed places, of the ids that a row has; and the truth, 1 and 2."""
    truth = np.zeros((4, 8), np.uint8)
    truth[:2], truth[2:] = 1, 2
    frames = []
    for time, ids in enumerate(rows):
        objects = [FrameObject(0.5, 1, 1, i, 0, (0, 0, 8, 2)) for i in ids]
        frames.append(LabelledFrame(float(time), truth, {}, objects, truth.astype(np.int16)))
    return [truth] * len(rows), frames


@pytest.mark.parametrize(
    ('rows', 'switches', 'idf1'),
    [
        ([(5, 6)] * 6, 0, 100),
        ([(5, 6)] * 3 + [(5, 7)] * 3, 5, 75),  # one switch in 12 seconds of objects
        ([(5, 6)] * 3 + [(6, 5)] * 3, 10, 50),
        ([(5, 5)] * 6, 0, 0),  # the union of both is neither
    ],
)
def test_figures_of_known_links(rows, switches, idf1):
    truth, frames = frames_of(rows)
    figures = tool.measure(truth, frames)
    if idf1:
        assert figures == pytest.approx({'while sounding': switches, 'all': switches, 'IDF1': idf1, 'found': 100})
        assert tool.measure(truth, frames, perfect=True)['IDF1'] == pytest.approx(100)
    else:
        assert figures['found'] < 100


def test_switches_after_silence_are_told_apart():
    truth, frames = frames_of([(5, 6), (5, 6), (5, 7), (8, 7)])
    truth[2] = truth[2] * (truth[2] == 2)  # object 1 is silent
    figures = tool.measure(truth, frames)
    assert figures['while sounding'] == pytest.approx(60 / 7) and figures['all'] == pytest.approx(120 / 7)


def test_mean_interval():
    mean, half = tool.mean_interval([1.0, 2.0, 3.0, None])
    assert mean == 2 and half == pytest.approx(4.302653 / 3**0.5)


def test_differences_are_taken_video_by_video():
    """Of two ways that differ by 1 in each video, which differ among themselves by much more."""
    videos = [
        {name: dict.fromkeys(tool.FIGURES, value + (name == 'names')) for name in tool.LINKERS} | dict(part='two names')
        for value in (0.0, 10.0, 40.0)
    ]
    videos.append(dict(videos[0], names=dict.fromkeys(tool.FIGURES)))  # where nothing is found
    (row,) = (row for row in tool.table_of(videos, tool.DEFAULT).rows if row[1] == 'names')
    assert row[2:] == ['1.00 ± 0.00'] * 4


def test_nothing_sounds():
    nothing = np.zeros((4, 8), np.int16)
    figures = tool.measure([nothing] * 2, [LabelledFrame(float(i), nothing, {}, [], nothing) for i in range(2)])
    assert json.loads(json.dumps(figures, allow_nan=False)) == dict.fromkeys(tool.FIGURES)


def test_a_run(tmp_path, capsys):
    """Links by both kinds of evidence lose fewer identities than none."""
    out = tmp_path / 'out.json'
    tool.main(['--videos', '3', '--seconds', '12', '--device', 'cpu', '--out', str(out)])
    videos = json.loads(out.read_text())['videos']
    assert [video['part'] for video in videos] == ['two names', 'two names', 'one name twice']
    assert sum(v['overlap and names']['all'] for v in videos) < sum(v['none']['all'] for v in videos)
    assert all(v['truth']['IDF1'] >= v['overlap and names']['IDF1'] - 1e-6 for v in videos)
    shown = capsys.readouterr().out
    assert 'linked by' in shown and 'one name twice (1)' in shown and 'less overlap and names' in shown


def test_a_run_with_the_names_of_the_video(tmp_path):
    out = tmp_path / 'out.json'
    tool.main(['--videos', '1', '--seconds', '12', '--device', 'cpu', '--own-names', '--out', str(out)])
    (video,) = json.loads(out.read_text())['videos']
    assert video['names']['all'] < video['none']['all']


def test_bad_input(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        tool.main(['--videos', '0'])
    assert '--videos must be at least 1, got 0' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tool.main(['--seed', '-1'])
    assert '--seed must be from 0 to 999999, got -1' in capsys.readouterr().err
    real = builtins.__import__

    def gone(name, *args, **kwargs):
        if name == 'motmetrics':
            raise ImportError('none')
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', gone)
    with pytest.raises(SystemExit, match='pip install motmetrics'):
        tool.main([])
