# SPDX-License-Identifier: Apache-2.0
"""No file that a user names runs anything."""

import os
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from archive import write_archive
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from ovavss_mm.engine import launch
from ovavss_mm.engine.plain_checkpoints import (
    RefusedCheckpointError,
    plain_checkpoints,
    read_plain,
)

ROOT = Path(__file__).resolve().parents[2]


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f'touch {self.mark}',)


@pytest.fixture
def evil(tmp_path) -> tuple[Path, Path]:
    """A checkpoint that makes a file, and that file; mmengine's own loader is shown to fall for it."""
    path, mark = tmp_path / 'evil.pth', tmp_path / 'mark'
    content = dict(state_dict={'layer.weight': torch.zeros(1, 1)}, meta=dict(iter=1, epoch=0))
    torch.save(content | dict(message_hub=Evil(mark)), path)
    CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert mark.exists()
    mark.unlink()
    return path, mark


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Config:
    """Config of a training of one layer."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())

    @MODELS.register_module(name='PlainToy', force=True)
    class PlainToy(BaseModel):
        def __init__(self, init_cfg=None):
            super().__init__(init_cfg=init_cfg)
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, x, mode='tensor'):
            return dict(loss=(self.layer(x.float()[:, None]) - 1).square().mean())

    return Config(
        dict(
            model=dict(type='PlainToy'),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                dataset=[dict(x=1.0), dict(x=2.0)] * 4,
                sampler=dict(type='InfiniteSampler'),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(by_epoch=False, max_iters=3),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)),
            visualizer=dict(type='Visualizer', vis_backends=[]),
            work_dir=str(tmp_path / 'work'),
            experiment_name=tmp_path.name,
        )
    )


@pytest.mark.parametrize('way', ['load_from', 'resume', 'init_cfg'])
def test_training_refuses_a_program(evil, toy, way):
    """Each way in which a training reads a file; the message names file, function and remedy."""
    path, mark = evil
    if way == 'init_cfg':
        toy.model.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    else:
        toy.load_from, toy.resume = str(path), way == 'resume'
    with pytest.raises(RefusedCheckpointError, match=r'posix\.system') as error:
        launch.build_runner(toy).train()
    assert str(path) in str(error.value) and 'python -c' in str(error.value)
    assert not mark.exists()


def test_test_tool_refuses_a_program(evil, tmp_path):
    """One message and an exit code, no traceback."""
    path, mark = evil
    archive = write_archive(tmp_path / 'archive')
    process = subprocess.run(
        [
            sys.executable,
            'tools/test.py',
            'configs/mini/ovavss_mini.py',
            path,
            '--work-dir',
            tmp_path / 'work',
            '--cfg-options',
            f'test_dataloader.dataset.data_root={archive}',
            'test_dataloader.num_workers=0',
            'test_dataloader.persistent_workers=False',
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1, process.stderr[-2000:]
    assert 'error:' in process.stderr and 'posix.system' in process.stderr
    assert 'Traceback' not in process.stderr and not mark.exists()


def test_the_command_in_the_message_makes_a_plain_copy(evil, tmp_path):
    """What to do for a file that is trusted works as it stands."""
    path, mark = evil
    with pytest.raises(RefusedCheckpointError) as error:
        read_plain(str(path))
    command = str(error.value).splitlines()[-1].strip().replace('python', sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    assert mark.exists()  # it was trusted
    copy = read_plain(str(tmp_path / 'evil_plain.pth'))
    assert list(copy['state_dict']) == ['layer.weight']


def test_config_in_a_checkpoint_is_not_executed(toy, tmp_path):
    """mmengine parses, and so runs, the text in meta['config']."""
    launch.build_runner(toy).train()
    path, mark = Path(toy.work_dir) / 'iter_1.pth', tmp_path / 'mark'
    checkpoint = read_plain(str(path))
    checkpoint['meta']['config'] = f'open({str(mark)!r}, "w").close()\nx = 1\n'
    torch.save(checkpoint, path)
    toy.load_from, toy.resume, toy.experiment_name = str(path), True, 'again'
    runner = launch.build_runner(toy)
    runner.train()
    assert runner.iter == 3 and not mark.exists()


def test_own_checkpoints_keep_their_logs(toy):
    """Histories of the log and numpy's numbers come back as they were."""
    runner = launch.build_runner(toy)
    runner.train()
    path = str(Path(toy.work_dir) / 'iter_3.pth')
    ours, theirs = read_plain(path), torch.load(path, weights_only=False)
    for key, history in theirs['message_hub']['log_scalars'].items():
        read = ours['message_hub']['log_scalars'][key]
        assert type(read) is HistoryBuffer
        for a, b in zip(read.data, history.data, strict=True):
            assert a.dtype == b.dtype and np.array_equal(a, b)


def test_arrays_of_all_kinds_and_shared_objects(tmp_path):
    """Order, byte order and sharing are kept."""
    shared = [np.float64(2.5)]
    content = OrderedDict(
        f=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        big=np.arange(3, dtype='>i4'),
        empty=np.zeros((0, 2)),
        flag=np.bool_(True),
        a=shared,
        b=(shared,),
    )
    torch.save(content, tmp_path / 'x.pth')
    read = read_plain(str(tmp_path / 'x.pth'))
    for key in ('f', 'big', 'empty', 'flag'):
        assert np.array_equal(read[key], content[key]) and read[key].dtype == content[key].dtype
    assert read['a'] == [2.5] and read['b'][0] is read['a']


@pytest.mark.parametrize(
    'content',
    [np.array([object()], dtype=object), HistoryBuffer.update, slice(1), print],
    ids=['objects', 'method', 'slice', 'print'],
)
def test_other_objects_are_refused(tmp_path, content):
    """What our checkpoints never hold."""
    torch.save(dict(x=content), tmp_path / 'x.pth')
    with pytest.raises(RefusedCheckpointError, match=r'x\.pth'):
        read_plain(str(tmp_path / 'x.pth'))


def test_statistics_of_a_history_are_not_taken_over(tmp_path):
    """They would be shared by all histories of the process."""
    history = HistoryBuffer([1.0], [1])
    torch.save(dict(x=history), tmp_path / 'x.pth')
    before = dict(HistoryBuffer._statistics_methods)
    assert 'statistics_methods' not in read_plain(str(tmp_path / 'x.pth'))['x'].__dict__
    assert HistoryBuffer._statistics_methods == before


def test_damaged_and_blown_up_files_are_refused(tmp_path):
    """Cut off, empty, of another kind, compressed."""
    whole = tmp_path / 'whole.pth'
    torch.save(dict(x=torch.zeros(100000)), whole)
    (tmp_path / 'cut.pth').write_bytes(whole.read_bytes()[:5000])
    (tmp_path / 'empty.pth').write_bytes(b'')
    (tmp_path / 'text.pth').write_text('no checkpoint')
    with (
        zipfile.ZipFile(whole) as source,
        zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in source.namelist():
            bomb.writestr(name, source.read(name))
    for name in ('cut', 'empty', 'text', 'bomb'):
        with pytest.raises(RefusedCheckpointError, match=f'{name}.pth'):
            read_plain(str(tmp_path / f'{name}.pth'))


def test_only_within_the_runner(tmp_path):
    """mmengine's loaders are as before afterwards, also after an error; stores without a reader are refused."""
    before = CheckpointLoader._schemes
    model = torch.nn.Linear(1, 1)
    with pytest.raises(RefusedCheckpointError, match='copy it here'), plain_checkpoints():
        load_checkpoint(model, 's3://bucket/x.pth')
    assert CheckpointLoader._schemes is before
