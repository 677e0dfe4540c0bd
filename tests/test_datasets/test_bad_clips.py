# SPDX-License-Identifier: Apache-2.0
"""A clip that cannot be read stops a training, or another one takes its place and it is said so."""

import warnings
from pathlib import Path
from types import SimpleNamespace

import archive
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS, HOOKS
from mmseg.structures import SegDataSample
from torch import nn

from ovavss_mm.datasets import AVSBenchOVDataset
from ovavss_mm.datasets.samplers import SeededIndex
from ovavss_mm.engine.hooks import bad_clips_hook
from ovavss_mm.engine.runner import AVRunner

CLIPS = tuple(archive.Clip(f'clip_{i}', 'dog', 'train', 'v1s') for i in range(6))
PIPELINE = [
    dict(type='SampleClipFrames', num_frames=2),
    dict(type='LoadClipFrames'),
    dict(type='LoadClipLabels'),
    dict(type='LoadClipAudio'),
    dict(type='PackAVSegInputs'),
]
WAYS = ['cut frame', 'no frame', 'cut label', 'other size', 'no sound in it', 'text as sound']


@pytest.fixture(autouse=True, scope='module')
def scope():
    """Types without a prefix are those of mmseg, as in the configs."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def spoil(folder: Path, way: str) -> None:
    """Make a clip unreadable, in such a way that only reading tells."""
    if way == 'cut frame':
        for path in folder.glob('frames/*'):
            path.write_bytes(path.read_bytes()[:200])
    elif way == 'no frame':
        for path in folder.glob('frames/*'):
            path.write_bytes(b'')
    elif way == 'cut label':
        path = folder / 'labels_rgb/0.png'
        path.write_bytes(path.read_bytes()[:60])
    elif way == 'other size':
        archive.Image.new('RGB', (7, 5)).save(folder / 'labels_rgb/0.png')
    elif way == 'no sound in it':
        archive.soundfile.write(folder / 'audio.wav', archive.np.full(80000, archive.np.nan), 16000, 'FLOAT')
    else:
        (folder / 'audio.wav').write_text('no sound')


@pytest.fixture
def clips(tmp_path):
    return archive.write_archive(tmp_path / 'data', CLIPS)


def make(root: Path, **kwargs) -> AVSBenchOVDataset:
    """After which files may go bad, as on a failing disk."""
    cfg = dict(type='AVSBenchOVDataset', data_root=str(root), split='train', base_names='all')
    return DATASETS.build(cfg | dict(pipeline=PIPELINE) | kwargs)


def quietly(dataset: AVSBenchOVDataset, index: int) -> tuple[str, list]:
    """Which clip is given, and which bad ones it tells of."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        sample = dataset[index]['data_samples']
    return sample.clip_id, sample.get('bad_clips', [])


@pytest.mark.parametrize('way', WAYS)
def test_a_bad_clip_is_named_and_another_is_given(clips, way):
    dataset = make(clips, on_bad_clip='skip')
    folder = clips / 'v1s/clip_2'
    spoil(folder, way)
    with pytest.warns(RuntimeWarning, match='bad clip .*clip_2: '):
        sample = dataset[SeededIndex(2, seed=0, position=0)]['data_samples']
    assert sample.clip_id != 'clip_2'
    for met, reason in sample.bad_clips:
        assert met == str(folder) and str(folder) in reason
        assert reason.startswith(('OSError: ', 'ValueError: ', 'LabelSizeError: '))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert 'bad_clips' not in dataset[3]['data_samples'], 'nothing is said of good clips'


@pytest.mark.parametrize('kwargs', [dict(), dict(on_bad_clip='raise'), dict(on_bad_clip='skip', test_mode=True)])
def test_it_stops_by_default_and_always_in_a_test(clips, kwargs):
    dataset = make(clips, **kwargs)
    spoil(clips / 'v1s/clip_2', 'cut frame')
    with pytest.raises(OSError, match='clip_2'):
        dataset[2]
    assert dataset[1]['data_samples'].clip_id == 'clip_1'


def test_the_other_clip_follows_from_the_place_in_the_training(clips):
    dataset = make(clips, on_bad_clip='skip')
    for i in (4, 5, 0):
        spoil(clips / f'v1s/clip_{i}', 'cut frame')
    given = [quietly(dataset, SeededIndex(4, 0, position)) for position in range(8)]
    assert given == [quietly(dataset, SeededIndex(4, 0, position)) for position in range(8)]
    assert {name for name, _ in given} == {'clip_1', 'clip_2', 'clip_3'}
    assert all(met[0][0].endswith('clip_4') for _, met in given)


def test_it_stops_if_no_clip_can_be_read(clips):
    dataset = make(clips, on_bad_clip='skip', max_refetch=4)
    for i in range(6):
        spoil(clips / f'v1s/clip_{i}', 'text as sound')
    message = '5 clips in a row cannot be read, from .*clip_2 .OSError.* is the disk there'
    for _ in range(2):
        with pytest.raises(ValueError, match=message), pytest.warns(RuntimeWarning):
            dataset[2]


def test_errors_of_the_program_are_not_taken_for_bad_clips(clips):
    def fail(results):
        raise TypeError('a bug')

    with pytest.raises(TypeError, match='a bug'):
        make(clips, on_bad_clip='skip', pipeline=[fail])[0]


def test_only_these_choices(clips):
    with pytest.raises(ValueError, match="on_bad_clip must be .*got 'ignore'"):
        make(clips, on_bad_clip='ignore')


class Nothing(BaseModel):
    """Learns nothing, from clips."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples, mode):
        return dict(loss=self.weight.sum())


@pytest.mark.parametrize('start', [None, 'fork', 'spawn'], ids=['no worker', 'fork', 'spawn'])
def test_the_log_of_a_training_names_and_counts_bad_clips(clips, tmp_path, start):
    """Also those that loader processes met, however these were started."""
    workers = dict(num_workers=1, multiprocessing_context=start) if start else dict(num_workers=0)
    runner = AVRunner(
        model=Nothing(),
        work_dir=str(tmp_path / 'run'),
        train_dataloader=dict(
            batch_size=1,
            **workers,
            dataset=make(clips, on_bad_clip='skip'),
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=12),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=6), bad_clips=dict(type='BadClipsHook')),
        log_processor=dict(by_epoch=False),
        default_scope='mmseg',
        experiment_name=f'bad_clips_{start}',
        cfg=Config(dict(work_dir=str(tmp_path))),
    )
    spoil(clips / 'v1s/clip_2', 'cut frame')
    spoil(clips / 'v1s/clip_3', 'text as sound')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        runner.train()
    log = Path(runner.logger.log_file).read_text()
    for name, reason in (('clip_2', 'cannot read the picture'), ('clip_3', 'cannot read the sound')):
        said = [line for line in log.splitlines() if f'WARNING - bad clip {clips}/v1s/{name}: OSError' in line]
        assert len(said) == 1 and reason in said[0], 'once, though it was met again'
    lines = [line for line in log.splitlines() if 'Iter(train)' in line]
    counts = [int(line.split('bad_clips: ')[1].split()[0]) for line in lines]
    assert counts[0] >= 2 and counts[1] >= counts[0] + 2  # both were met twice
    assert runner.message_hub.get_info('bad_clips') == counts[1], 'kept in checkpoints'


def test_two_processes_tell_each_other(monkeypatch):
    """What another process met is in the log of the first, at an iteration at which all of them report."""
    monkeypatch.setattr(bad_clips_hook, 'get_world_size', lambda: 2)
    monkeypatch.setattr(bad_clips_hook, 'all_gather_object', lambda met: [met, [('there', 'why')]])
    said = []
    runner = SimpleNamespace(iter=0, message_hub=MessageHub('two'), logger=SimpleNamespace(warning=said.append))
    hook = HOOKS.build(dict(type='BadClipsHook', interval=3))
    sample = SegDataSample(metainfo=dict(bad_clips=[('here', 'so')]))
    for runner.iter in range(3):
        hook.after_train_iter(runner, runner.iter, dict(data_samples=[sample]))
        assert len(said) == (2 if runner.iter == 2 else 0)
    assert 'here: so' in said[0] and 'there: why' in said[1]
    assert runner.message_hub.get_info('bad_clips') == 4
    with pytest.raises(ValueError, match='interval.*0'):
        HOOKS.build(dict(type='BadClipsHook', interval=0))
