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

sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

from ovavss_mm.datasets import AVSBenchOVDataset  # noqa: E402
from ovavss_mm.engine import launch  # noqa: E402

tool = published.load_tool('analysis_tools/compare_settings.py')
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
    result = run('default', '', 'classifier.sound_thr=0.5', 'classifier.chunk_size=3,test_cfg.max_pairs=10')
    rows = result['settings']
    assert result['clips'] == 2 and result['pixels'] == PIXELS
    assert [row['setting'] for row in rows[:2]] == ['default', 'default']
    assert rows[3]['changes'] == {'classifier.chunk_size': 3, 'test_cfg.max_pairs': 10}
    for row in rows:
        assert row['equal_pixels'] == PIXELS and row['equal_share'] == 1
        assert row['crops'] == rows[0]['crops'] > 0
        assert row['mIoU'] == rows[0]['mIoU'] and row['seconds_per_clip'] > 0
    out = capsys.readouterr().out
    assert out.count(' 100.000 |') == 4 and '2 clips (test), cpu' in out
    for heading in ('crops that CLIP sees', 'Base', 'Novel', 'Harmonic', 'mIoU', 'seconds a clip'):
        assert heading in out


def test_figures_are_those_of_a_test(run, files, tmp_path):
    (row,) = run('default')['settings']
    cfg = launch.load_config(files[0], str(tmp_path / 'work'), 'none', None)
    cfg.load_from = files[1]
    cfg.experiment_name = 'test_compare_settings'
    metrics = launch.build_runner(cfg).test()
    for key in tool.FIGURES:
        assert row[key] == pytest.approx(metrics[key], abs=1e-9)


def test_the_sound_threshold_decides_what_clip_sees(run):
    every, some, none = run(ALL, SOME, NONE)['settings']
    assert every['crops'] > some['crops'] > none['crops'] == 0
    assert every['equal_share'] == 1 > some['equal_share'] > none['equal_share']
    assert every['novel_mIoU'] > none['novel_mIoU'] == 0, 'nothing but background'


def test_agreement_is_counted_with_the_first_setting(run):
    """Two that differ agree as far the other way round; what agrees with neither is not counted."""
    there, back = (run(*order)['settings'][1] for order in ((SOME, NONE), (NONE, SOME)))
    assert there['equal_pixels'] == back['equal_pixels'] < PIXELS
    assert (there['setting'], back['setting']) == (NONE, SOME)


def test_each_clip_is_loaded_once(run, monkeypatch):
    loaded = []
    load = AVSBenchOVDataset.prepare_data
    monkeypatch.setattr(AVSBenchOVDataset, 'prepare_data', lambda self, i: loaded.append(i) or load(self, i))
    run('default', 'precision=bfloat16')
    assert sorted(loaded) == [0, 1]


def test_another_split_and_fewer_clips(run):
    result = run('default', '--split', 'val', '--clips', '1')
    assert (result['split'], result['clips']) == ('val', 1)
    assert result['settings'][0]['novel_mIoU'] is not None  # val_cat, the first of two
    result = run('default', '--clips', '9', '--cfg-options', 'test_dataloader.batch_size=2')
    assert result['clips'] == 2 and result['cfg_options'] == {'test_dataloader.batch_size': 2}


def test_settings_share_their_weights(files):
    with DefaultScope.overwrite_default_scope('mmseg'):
        cfg = Config.fromfile(files[0])
        cfg.load_from = files[1]
        base = tool.load_model(cfg, 'cpu')
        other = tool.changed_model(cfg, base, {'test_cfg.window': 2, 'precision': 'bfloat16'}, 'x')
    assert (other.window, other.precision) == (2, 'bfloat16')
    assert (base.window, base.precision, cfg.model.get('precision')) == (5, 'float32', None)
    pairs = zip(base.parameters(), other.parameters(), strict=True)
    assert all(one is two for one, two in pairs)
    saved = torch.load(files[1], weights_only=True)['state_dict']
    assert all(torch.equal(value, saved[key]) for key, value in other.state_dict().items())


@pytest.mark.parametrize(
    ('text', 'changes'),
    [
        (' default ', {}),
        ('a.b=None, c=0.5', {'a.b': None, 'c': 0.5}),
        ("precision='bfloat16'", {'precision': 'bfloat16'}),
        ('precision=bfloat16', {'precision': 'bfloat16'}),
        ("compile=['neck', 'clip'],a=(1, 2)", {'compile': ['neck', 'clip'], 'a': (1, 2)}),
    ],
    ids=['default', 'two', 'quoted', 'bare', 'lists'],
)
def test_settings_are_read(text, changes):
    assert tool.parse_setting(text) == changes


@pytest.mark.parametrize(
    ('setting', 'words'),
    [
        ('classifier.sound=1', 'model.classifier has no key .sound. .*sound_thr.*chunk_size'),
        ('test_cfg.thr=1', 'model.test_cfg has no key .thr. .*score_thr'),
        ('clasifier.sound_thr=1', 'model has no key .clasifier. .*classifier'),
        ('classifier.sound_thr.x=1', 'model.classifier.sound_thr has no key .x. .*none'),
        ('classifier.init_cfg=None', 'no key .init_cfg.'),
        ('classifier.sound_thr=3', 'is refused: .*sound_thr None or in .0, 1., got .*3'),
        ('default,precision=int8', "KEY=VALUE.*'default,precision=int8'"),
        ('precision=int8', "is refused: precision must be of .*'int8'"),
        ('classifier.sound_thr=high', "'classifier.sound_thr=high' is refused"),
        ('test_cfg.score_thr=high', "'test_cfg.score_thr=high' is refused: .*number, got 'high'"),
        ('classifier.chunk_size=1.5', "'classifier.chunk_size=1.5' fails: slice indices"),
        ('decode_head.num_queries=5', 'needs other weights .*query.*5, 32. instead of .6, 32'),
        ('classifier=None', 'needs other weights .*classifier.* is absent'),
        ('precision', "KEY=VALUE.* got 'precision'"),
        ('precision=', "KEY=VALUE.* got 'precision='"),
        ('precision=float32,precision=float32', 'has precision twice'),
    ],
    ids=[
        *('key', 'dict-key', 'module', 'below-a-value', 'weights-file', 'range', 'mixed', 'choice'),
        *('type', 'test-cfg', 'type-met-late', 'shape', 'part', 'no-value', 'empty-value', 'twice'),
    ],
)
def test_bad_settings_are_named(files, setting, words):
    error = published.error_of(tool.main, [*files, 'default', setting, '--device', 'cpu'])
    assert re.search(words, error)


def test_other_mistakes_are_named(files, tmp_path, capsys):
    config, checkpoint = files
    (tmp_path / 'text.pth').write_text('no weights')
    for args, words in (
        ((config, 'gone.pth', 'default'), "no checkpoint 'gone.pth'"),
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
