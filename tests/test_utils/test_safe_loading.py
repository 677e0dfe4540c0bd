# SPDX-License-Identifier: Apache-2.0
"""Every format is read, and no file that a user names runs anything."""

import os
import pickle
import re
import subprocess
import sys
from collections import OrderedDict
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from archive import write_archive
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file

from ovavss_mm.engine import launch
from ovavss_mm.utils.known_weights import known_weights
from ovavss_mm.utils.safe_loading import CheckpointError, read_checkpoint, read_state_dict

ROOT = Path(__file__).resolve().parents[2]


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f'touch {self.mark}',)


@pytest.fixture
def evil(tmp_path) -> tuple[Path, Path]:
    """A checkpoint that makes a file, and that file; without care torch falls for it."""
    path, mark = tmp_path / 'evil.pth', tmp_path / 'mark'
    content = dict(state_dict={'layer.weight': torch.zeros(1, 1)}, meta=dict(iter=1, epoch=0))
    torch.save(content | dict(message_hub=Evil(mark)), path)
    torch.load(path, weights_only=False)
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
    with pytest.raises(CheckpointError, match=r'posix\.system') as error:
        launch.build_runner(toy).train()
    assert str(path) in str(error.value) and 'python -c' in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize('load', [load_checkpoint, CheckpointLoader.load_checkpoint])
def test_mmengine_itself_refuses_a_program(evil, load):
    """Also where no runner of ours is asked; a local address is one too."""
    path, mark = evil
    model = (torch.nn.Linear(1, 1),) if load is load_checkpoint else ()
    for name in (path, os.path.relpath(path)):
        with pytest.raises(CheckpointError, match=r'posix\.system'):
            load(*model, str(name), map_location='cpu')
    assert not mark.exists()


def test_downloads_are_refused_too(evil, tmp_path, monkeypatch):
    """They are fetched once, and read as any file."""
    path, mark = evil
    fetched = []
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))

    def fetch(url, target, progress):
        fetched.append(url)
        Path(target).write_bytes(path.read_bytes())

    monkeypatch.setattr(torch.hub, 'download_url_to_file', fetch)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r'hub/checkpoints/x\.pth was not read: it asks'):
            CheckpointLoader.load_checkpoint('https://example.org/a/x.pth?y', map_location='cpu')
    assert fetched == ['https://example.org/a/x.pth?y'] and not mark.exists()


@pytest.mark.parametrize('name', ['s3://a/x.pth', 'openmmlab:s3://a', 'torchvision://resnet50', 'mmcls://x'])
def test_stores_without_a_safe_reader_are_refused(name):
    with pytest.raises(CheckpointError, match='name a local file, or its address'):
        CheckpointLoader.load_checkpoint(name)


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
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(str(path))
    command = str(error.value).splitlines()[-1].strip().replace('python', sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    assert mark.exists()  # it was trusted
    copy = read_checkpoint(str(tmp_path / 'evil_plain.pth'))
    assert list(copy['state_dict']) == ['layer.weight']


def test_config_in_a_checkpoint_is_not_executed(toy, tmp_path):
    """mmengine parses, and so runs, the text in meta['config']."""
    launch.build_runner(toy).train()
    path, mark = Path(toy.work_dir) / 'iter_1.pth', tmp_path / 'mark'
    checkpoint = read_checkpoint(str(path))
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
    ours, theirs = read_checkpoint(path), torch.load(path, weights_only=False)
    for key, history in theirs['message_hub']['log_scalars'].items():
        read = ours['message_hub']['log_scalars'][key]
        assert type(read) is HistoryBuffer
        for a, b in zip(read.data, history.data, strict=True):
            assert a.dtype == b.dtype and np.array_equal(a, b)


ARRAYS = dict(
    f=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    half=np.ones(3, np.float16),
    big=np.arange(3, dtype='>i4'),
    empty=np.zeros((0, 2)),
    point=np.array(2.5),
    flags=np.array([True, False]),
    flag=np.bool_(True),
    number=np.float32(1.5),
)


@pytest.mark.parametrize('how', ['torch', *range(5)])
def test_arrays_are_read_as_they_are(tmp_path, how):
    """In torch's files and in detectron2's; in the order of numpy 1 and 2; saved again as arrays."""
    shared = [np.float64(2.5)]
    content = OrderedDict(ARRAYS, a=shared, b=(shared,), bytes=b'', more=b'x')
    path = tmp_path / ('x.pth' if how == 'torch' else 'x.pkl')
    if how == 'torch':
        torch.save(content, path)
    else:
        old, new = b'numpy.core.multiarray', b'numpy._core.multiarray'
        data = pickle.dumps(content, how)
        path.write_bytes(data.replace(new, old) if how < 2 else data)  # longer names have lengths
    read = read_checkpoint(str(path))
    for key, array in ARRAYS.items():
        assert np.array_equal(read[key], array) and read[key].dtype == array.dtype.newbyteorder('='), key
    assert read['a'] == [2.5] and read['b'][0] is read['a'] and read['more'] == b'x'
    torch.save(read, tmp_path / 'again.pth')
    with torch.serialization.safe_globals([np.ndarray]):
        again = torch.load(tmp_path / 'again.pth', weights_only=False)
    assert type(again['f']) is np.ndarray and np.array_equal(again['f'], ARRAYS['f'])


@pytest.mark.parametrize(
    'content',
    [
        np.array([object()], dtype=object),
        np.array(['text']),
        np.array(['2024-01-01'], 'datetime64[D]'),
        np.zeros(2, [('a', 'f4')]),
        np.ma.ones(2),
        slice(1),
        print,
        Fraction(1, 2),
    ],
    ids=lambda value: type(value).__name__ + str(getattr(value, 'dtype', ''))[:3],
)
def test_other_objects_are_refused(tmp_path, content):
    """What our checkpoints never hold; in torch's files and in detectron2's."""
    torch.save(dict(x=content), tmp_path / 'x.pth')
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps(dict(x=content)))
    for name in ('x.pth', 'x.pkl'):
        with pytest.raises(CheckpointError, match=rf'{name} (was not|cannot be) read'):
            read_checkpoint(str(tmp_path / name))


@pytest.mark.parametrize('kind', ['O8', 'V8', 'M8[s]', 'f8'])
def test_a_forged_array_is_refused(tmp_path, kind):
    """Of numpy's own dtype a pickle may say that eight bytes are a pointer."""
    code = (
        b'\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R'
        b'(K\x01K\x01\x85cnumpy\ndtype\nU%c%s\x89\x88\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff'
        b'J\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x00\x00\x00\x00\xf0?tb.'
    ) % (len(kind), kind.encode())
    (tmp_path / 'x.pkl').write_bytes(code)
    if kind == 'f8':
        assert read_checkpoint(str(tmp_path / 'x.pkl')) == [1.0]
        (tmp_path / 'x.pkl').write_bytes(code.replace(b'(K\x01K\x01\x85', b'(K\x01K\x02\x85'))
    with pytest.raises(CheckpointError, match='is no number|with 8 bytes'):
        read_checkpoint(str(tmp_path / 'x.pkl'))


def test_programs_in_pickles_are_not_run(tmp_path):
    """The name that they ask for is in the message, and so is the way to copy one that is trusted."""
    path, mark = tmp_path / 'x.pkl', tmp_path / 'mark'
    for protocol in range(5):
        path.write_bytes(pickle.dumps(dict(model=dict(a=np.ones(2)), x=Evil(mark)), protocol))
        with pytest.raises(CheckpointError, match=r'asks for (posix|nt)\.system') as error:
            read_checkpoint(str(path))
    assert not mark.exists()
    command = str(error.value).splitlines()[-1].strip().replace('python', sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    assert same(read_state_dict(str(tmp_path / 'x_plain.pth')), dict(a=torch.ones(2).double()))
    poison = b'cnumpy.core.multiarray\nscalar\n}S"__kwdefaults__"\nI1\nsb.'  # sets an attribute
    path.write_bytes(poison)
    with pytest.raises(CheckpointError):
        read_state_dict(str(path))
    path.write_bytes(pickle.dumps(np.float32(2)))
    assert read_checkpoint(str(path)) == 2


def test_statistics_of_a_history_are_not_taken_over(tmp_path):
    """They would be shared by all histories of the process."""
    history = HistoryBuffer([1.0], [1])
    torch.save(dict(x=history), tmp_path / 'x.pth')
    before = dict(HistoryBuffer._statistics_methods)
    assert 'statistics_methods' not in read_checkpoint(str(tmp_path / 'x.pth'))['x'].__dict__
    assert HistoryBuffer._statistics_methods == before


@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors', 'x.pkl', 'x.pt'])
@pytest.mark.parametrize('content', [b'', b'no checkpoint', b'PK\x03\x04 cut off', 'cut'])
def test_damaged_files_are_named(tmp_path, name, content):
    if content == 'cut':
        torch.save(dict(x=torch.zeros(100000)), tmp_path / 'whole.pth')
        content = (tmp_path / 'whole.pth').read_bytes()[:5000]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf'{name} cannot be read .*is it complete'):
        read_checkpoint(str(tmp_path / name))


# ------------------------------------------------------------------ state dicts
@pytest.fixture
def weights() -> dict:
    """Of a linear layer and a batch norm, which has a counter."""
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()


def same(state: dict, weights: dict) -> bool:
    """Whether names, values and types are equal."""
    return state.keys() == weights.keys() and all(
        torch.equal(state[k], weights[k]) and state[k].dtype == weights[k].dtype for k in weights
    )


def test_every_format_gives_a_state_dict(tmp_path, weights):
    torch.save(weights, tmp_path / 'plain.pth')
    torch.save(dict(state_dict=weights, meta=dict(iter=3)), tmp_path / 'mmengine.pth')
    torch.save(dict(state_dict={f'module.{k}': v for k, v in weights.items()}), tmp_path / 'ddp.pt')
    torch.save(dict(model=weights), tmp_path / 'model.pth')
    save_file(weights, tmp_path / 'weights.safetensors')
    arrays = {k: v.numpy().astype(v.numpy().dtype.newbyteorder('>')) for k, v in weights.items()}
    content = dict(model=arrays, __author__='x', matching_heuristics=True)
    (tmp_path / 'detectron2.pkl').write_bytes(pickle.dumps(content))
    for path in tmp_path.iterdir():
        assert same(read_state_dict(str(path)), weights), path


@pytest.mark.parametrize(
    'content', [[torch.zeros(1)], dict(epoch=3), torch.zeros(2), dict(state_dict=1), {3: torch.zeros(1)}]
)
def test_files_without_a_state_dict_are_named(tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'a\.pth holds no state dict'):
        read_state_dict(str(tmp_path / 'a.pth'))


class ScriptBomb(torch.nn.Module):
    """Writes a file when it is loaded: TorchScript has an operator for that."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.weight, self.path = torch.nn.Parameter(torch.ones(2)), path

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]):
        self.weight, self.path, self.training = state
        torch.save(self.weight, self.path)


def test_archives_of_openai_alone_are_opened(tmp_path, monkeypatch):
    """By their SHA-256; the command in the message copies one that is trusted."""
    path, mark = str(tmp_path / 'bomb.pt'), tmp_path / 'it ran'
    torch.jit.script(ScriptBomb(str(mark))).save(path)
    with pytest.raises(CheckpointError, match=r'bomb\.pt was not read: it asks for TorchScript') as error:
        read_state_dict(path)
    with pytest.raises(CheckpointError, match=r'bomb\.pt was not read'):
        load_checkpoint(torch.nn.Linear(1, 1), path)
    assert not mark.exists()
    command = str(error.value).splitlines()[-1].strip().replace('python', sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    assert mark.exists(), 'what the test above guards against'
    assert same(read_state_dict(str(tmp_path / 'bomb_plain.pth')), dict(weight=torch.ones(2)))

    digest = sha256(Path(path).read_bytes()).hexdigest()
    monkeypatch.setattr(open_clip, 'get_pretrained_url', lambda *_: f'https://x.org/{digest}/a.pt')
    assert same(read_state_dict(path), dict(weight=torch.ones(2)))


def test_published_archives_are_those_of_the_known_weights():
    """The addresses of open_clip end in ``<sha256>/<file>``."""
    urls = [open_clip.get_pretrained_url(m, t) for m, t in open_clip.list_pretrained() if t == 'openai']
    assert all(re.fullmatch(r'[0-9a-f]{64}', url.split('/')[-2]) for url in urls)
    clips = [w.source for w in known_weights().values() if w.title.startswith("OpenAI's CLIP")]
    assert len(clips) == 4 and set(clips) <= set(urls)
