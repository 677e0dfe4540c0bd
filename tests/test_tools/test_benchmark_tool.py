# SPDX-License-Identifier: Apache-2.0
"""The tools run on the mini model and write all figures; what they are is not tested."""

import json
import re
import sys
from pathlib import Path

import archive
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

tool = published.load_tool('analysis_tools/benchmark.py')
growth_tool = published.load_tool('analysis_tools/growth_benchmark.py')
MINI = str(published.ROOT / 'configs/mini/ovavss_mini.py')
SMALL = ['--device', 'cpu', '--repeats', '1', '--warmup', '1']
STAGES = ['preprocessing', 'audio', 'backbone', 'neck', 'pixel_decoder', 'decoder']
OWN = dict(train=['matching', 'losses', 'backward', 'optimizer'], test=['crops', 'clip', 'label_map', 'metric'])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Data and weights of the checkout are not found."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('mode', ['train', 'test'])
def test_all_figures_are_written(mode, tmp_path, capsys):
    out = tmp_path / 'figures' / 'out.json'
    sizes = ['--size', '32', '64', '--frames', '2', '--names', '4', '--queries', '8']
    compare = ['--compare', 'decoder=decode_head.num_frames:5']
    tool.main([MINI, '--mode', mode, *SMALL, *sizes, *compare, '--out', str(out)])
    text = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert list(result['stages']) == [*STAGES, *OWN[mode], 'other', 'total']
    for stage in result['stages']:
        assert f'| {stage} ' in text
    assert result['shape'] == dict(height=32, width=64, frames=2, names=4, batch=1)
    assert result['settings']['queries'] == 8 and result['config'] == MINI
    assert set(result['ceilings']) == {'float32', 'bfloat16'}
    assert result['memory']['peak'] > 0 and result['clips_per_second'] > 0
    assert result['hardware']['torch'] and result['hardware']['threads'] >= 1
    assert result['comparisons'][0]['difference'] == 0
    assert 'no data' in text and 'clips a second' in text
    if mode == 'test':
        assert result['crops'] == 10 and '10 crops go through CLIP' in text
        assert result['text_seconds_per_name'] > 0


def test_the_data_of_the_config_are_used(tmp_path, capsys):
    root = archive.write_archive(tmp_path / 'own', archive.CLIPS[:3])
    dataset = 'train_dataloader.dataset'
    options = [f'{dataset}.data_root={root}', f'{dataset}.base_names=all']
    out = tmp_path / 'out.json'
    tool.main([MINI, *SMALL, '--no-flops', '--out', str(out), '--cfg-options', *options])
    result = json.loads(out.read_text())
    assert result['data']['median'] > 0 and result['shape']['height'] == 96
    assert 'clips of the data set' in capsys.readouterr().out
    assert result['ceilings'] == {} and result['stages']['total']['flops'] is None


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--compare', 'neck=fast'], 'no variant .*compile'),
        (['--compare', 'neck=no_key:1', '--no-flops'], 'no_key'),
        (['--repeats', '0'], 'repeats must be at least 1, got 0'),
        (['--size', '8', '8'], 'size must be at least 32'),
        (['--checkpoint', 'gone.pth'], 'no checkpoint gone.pth'),
    ],
    ids=['variant', 'key', 'repeats', 'size', 'checkpoint'],
)
def test_mistakes_are_named(arguments, words):
    sizes = ['--size', '32', '64', '--frames', '1'] if '--size' not in arguments else []
    assert re.search(words, published.error_of(tool.main, [MINI, *SMALL, *sizes, *arguments]))


def test_other_mistakes_are_named(capsys):
    assert 'there is no config gone.py' in published.error_of(tool.main, ['gone.py', *SMALL])
    with pytest.raises(SystemExit):
        tool.main([MINI, '--sounding', 'many'])
    assert "a number or 'all', got 'many'" in capsys.readouterr().err


def fake_point(calls):
    """Stands in for a run in another process."""

    def measure(args, point, device):
        calls.append(point)
        seconds = dict(decoder=0.1 * point.frames, total=0.2 * point.frames)
        return dict(seconds=seconds, peak=900.0, memory=10.0 * point.frames, crops=1)

    return measure


def test_growth_goes_on_where_it_was(tmp_path, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(growth_tool, 'measure_point', fake_point(calls))
    base = [MINI, '--device', 'cpu', '--out-dir', str(tmp_path), '--axes', 'frames', 'size']
    growth_tool.main([*base, '--values', 'frames=1,5', 'size=256'])
    assert [(p.frames, p.size) for p in calls] == [(1, 256), (5, 256)]  # held is measured once
    growth_tool.main([*base, '--values', 'frames=1,2,5', 'size=256'])
    assert [p.frames for p in calls] == [1, 5, 2]
    growth_tool.main([*base, '--values', 'frames=5', 'size=256', '--repeats', '7'])
    assert len(calls) == 4
    assert len(json.loads((tmp_path / 'growth.json').read_text())['points']) == 4
    assert (tmp_path / 'growth.png').stat().st_size > 1000
    out = capsys.readouterr().out
    assert '| total, ms' in out and '1.00 |' in out


def test_growth_measures_in_another_process(tmp_path, capsys):
    point = ['--axes', 'frames', '--values', 'frames=1', '--names', '4', '--size', '32']
    growth_tool.main([MINI, '--out-dir', str(tmp_path), *SMALL, *point])
    (row,) = json.loads((tmp_path / 'growth.json').read_text())['points']
    assert 'error' not in row['figures'] and row['figures']['seconds']['crops and CLIP'] > 0
    assert row['figures']['crops'] == 5 and row['key']['point']['size'] == 32


def test_growth_tells_of_points_that_fail():
    args = growth_tool.parse_args([MINI, *SMALL, '--sounding', 'many'])
    error = growth_tool.measure_point(args, make_point(args), 'cpu')['error']
    assert "--sounding must be a number or 'all', got 'many'" in error
    args.timeout = 0.01
    assert growth_tool.measure_point(args, make_point(args), 'cpu')['error'] == 'not done in 0.01 s'


def make_point(args):
    """The point that a command line holds."""
    from ovavss_mm.engine.benchmark.growth import Point

    return Point(args.frames, args.queries, args.names, args.size)


def test_growth_refuses_what_cannot_be():
    for arguments, words in (
        (['--mode', 'train', '--axes', 'names'], 'training knows no names'),
        (['--axes', 'depth'], "no axis 'depth'"),
        (['--values', 'frames'], 'AXIS=1,2,5'),
    ):
        assert words in published.error_of(growth_tool.main, [MINI, *arguments])
