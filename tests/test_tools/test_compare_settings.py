# SPDX-License-Identifier: Apache-2.0
"""The tool that compares settings of one model: figures, agreement, crops, and mistakes."""

import json
import re
import sys
from pathlib import Path

import archive
import pytest
import tiny_model
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / 'tools/analysis_tools')]

import compare_settings as tool  # noqa: E402
import published  # noqa: E402

from ovavss_mm.datasets import AVSBenchOVDataset  # noqa: E402
from ovavss_mm.engine import launch  # noqa: E402

PIPELINE = [
    dict(type='SampleClipFrames', num_frames=None),
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAudio'),
    dict(type='ResizeClip', short_side=32),
    dict(type='LoadClipLabels'),
    dict(type='PackAVSegInputs'),
]
# Scores of the drawn model are 0.80 to 0.86.
ALL, SOME, NONE = (f'classifier.sound_thr={value}' for value in (None, 0.83, 1.0))
PIXELS = 15 * archive.SIZE[0] * archive.SIZE[1]


@pytest.fixture(scope='module')
def files(tmp_path_factory) -> list[str]:
    """Config and checkpoint of a drawn model that finds something everywhere, with two test clips."""
    folder = tmp_path_factory.mktemp('settings')
    uids = ('val_cat', 'val_away', 'test_silent', 'test_violin_dog')
    clips = tuple(clip for clip in archive.CLIPS if clip.uid in uids)
    root = archive.write_archive(folder / 'archive', clips)
    torch.manual_seed(3)
    dataset = dict(type='AVSBenchOVDataset', data_root=str(root), base_names='base_names.txt')
    dataset['serialize_data'] = False  # it takes longer than the test
    config = Config(
        dict(
            default_scope='mmseg',
            model=tiny_model.tiny_config(test_cfg=dict(score_thr=0.0)),
            test_dataloader=dict(
                batch_size=1,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(dataset, split='test', test_mode=True, pipeline=PIPELINE),
            ),
            test_evaluator=dict(type='OVIoUMetric'),
            test_cfg=dict(type='TestLoop'),
        )
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = tiny_model.draw_weights(MODELS.build(config.model))
    tiny_model.give_masks_edges(model.decode_head)
    paths = [str(folder / 'settings_tiny.py'), str(folder / 'tiny.pth')]
    config.dump(paths[0])
    torch.save(dict(state_dict=model.state_dict()), paths[1])
    return paths


@pytest.fixture
def run(files, tmp_path):
    """Function that runs the tool and gives what it wrote to its file."""

    def run(*args: str) -> dict:
        out = tmp_path / 'new' / 'out.json'
        tool.main([*files, *args, '--device', 'cpu', '--out', str(out)])
        assert [path.name for path in out.parent.iterdir()] == ['out.json']
        return json.loads(out.read_text())

    return run


def test_equal_settings_agree_fully(run, capsys):
    rows = run('default', 'classifier.sound_thr=0.5', 'amp=False,test_cfg.max_pairs=10')['settings']
    assert [row['setting'] for row in rows[:2]] == ['default', 'classifier.sound_thr=0.5']
    for row in rows:
        assert row['equal_share'] == 1 and row['mIoU'] == rows[0]['mIoU']
        assert row['seconds_per_clip'] > 0
    out = capsys.readouterr().out
    assert out.count(' 100.000 |') == 3 and '2 clips' in out


def test_figures_are_those_of_a_test(run, files, tmp_path):
    (row,) = run('default')['settings']
    cfg = launch.load_config(files[0], str(tmp_path / 'work'), 'none', None)
    cfg.load_from = files[1]
    cfg.experiment_name = 'test_compare_settings'
    metrics = launch.build_runner(cfg).test()
    for key in tool.FIGURES:
        assert row[key] == pytest.approx(metrics[key], abs=1e-9)


def test_agreement_is_counted_with_the_first_setting(run):
    """Two that differ agree as far the other way round; what agrees with neither is not counted."""
    every, some, none = run(ALL, SOME, NONE)['settings']
    assert every['equal_share'] == 1 > some['equal_share'] > none['equal_share']
    assert every['novel_mIoU'] > none['novel_mIoU'] == 0, 'nothing but background'
    there, back = (run(*order)['settings'][1] for order in ((SOME, NONE), (NONE, SOME)))
    assert there['equal_share'] == back['equal_share'] < 1
    assert (there['setting'], back['setting']) == (NONE, SOME)


def test_each_clip_is_loaded_once(run, monkeypatch):
    loaded = []
    load = AVSBenchOVDataset.prepare_data
    monkeypatch.setattr(AVSBenchOVDataset, 'prepare_data', lambda self, i: loaded.append(i) or load(self, i))
    run('default', 'amp=True')
    assert sorted(loaded) == [0, 1]


def test_another_split_and_fewer_clips(run):
    result = run('default', '--split', 'val', '--clips', '1')
    assert result['clips'] == 1
    assert result['settings'][0]['novel_mIoU'] is not None  # val_cat, the first of two
    result = run('default', '--clips', '9', '--cfg-options', 'test_dataloader.batch_size=2')
    assert result['clips'] == 2 and result['pixels'] == PIXELS


def test_settings_share_their_weights(files):
    cfg = Config.fromfile(files[0])
    saved = torch.load(files[1], weights_only=True)['state_dict']
    with DefaultScope.overwrite_default_scope('mmseg'):
        base = MODELS.build(cfg.model)
        base.load_state_dict(saved)
        other = tool.changed_model(cfg, base, {'test_cfg.max_pairs': 2}, 'x')
    assert (other.test_cfg['max_pairs'], base.test_cfg['max_pairs']) == (2, 10)
    pairs = zip(base.parameters(), other.parameters(), strict=True)
    assert all(one is two for one, two in pairs)
    assert all(torch.equal(value, saved[key]) for key, value in other.state_dict().items())


@pytest.mark.parametrize(
    ('text', 'changes'),
    [
        ('default', {}),
        ('a.b=None, c=0.5', {'a.b': None, 'c': 0.5}),
        ("anchor='corner',b=corner", {'anchor': 'corner', 'b': 'corner'}),
        ("templates=['a {}', 'the {}'],a=(1, 2)", {'templates': ['a {}', 'the {}'], 'a': (1, 2)}),
    ],
    ids=['default', 'two', 'text', 'lists'],
)
def test_settings_are_read(text, changes):
    assert tool.parse_setting(text) == changes


@pytest.mark.parametrize(
    ('setting', 'words'),
    [
        ('classifier.sound=1', "'classifier.sound=1' is refused: .*'sound'"),
        ('clasifier.sound_thr=1', "is refused: .*'clasifier'"),
        ('classifier.sound_thr=3', 'is refused: .*sound_thr must be None or in .0, 1., got .*3'),
        ('test_cfg.score_thr=high', "'test_cfg.score_thr=high' is refused: .*number, got 'high'"),
        ('decode_head.num_queries=5', 'needs other weights: .*query.* is .5, 32., not .6, 32'),
        ('classifier=None', 'needs other weights: classifier.* is absent'),
        ('default,amp=True', "KEY=VALUE.*'default,amp=True'"),
        ('amp=', "KEY=VALUE.* got 'amp='"),
        ('amp=True,amp=True', 'KEY=VALUE.*amp=True,amp=True'),
    ],
    ids=['key', 'part', 'range', 'type', 'shape', 'absent', 'mixed', 'no-value', 'twice'],
)
def test_bad_settings_are_named(files, setting, words):
    error = published.error_of(tool.main, [*files, 'default', setting, '--device', 'cpu'])
    assert re.search(words, error)


def test_other_mistakes_are_named(files, tmp_path, capsys):
    config, checkpoint = files
    (tmp_path / 'text.pth').write_text('no weights')
    for args, words in (
        ((config, 'gone.pth', 'default'), 'no weights at gone.pth'),
        ((config, str(tmp_path / 'text.pth'), 'default'), 'text.pth cannot be read'),
        (('gone.py', checkpoint, 'default'), "no config 'gone.py'"),
        ((*files, 'default', '--device', 'tpu'), "no device 'tpu'"),
    ):
        assert words in published.error_of(tool.main, list(args))
    option = ['--cfg-options', 'test_dataloader.dataset.data_root=gone']
    with pytest.raises(SystemExit, match='error: There are no data at'):
        tool.main([*files, 'default', *option])
    with pytest.raises(SystemExit):
        tool.main([*files, 'default', '--clips', '0'])
    assert '--clips must be at least 1, got 0' in capsys.readouterr().err
