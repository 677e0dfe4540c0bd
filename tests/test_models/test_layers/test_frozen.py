# SPDX-License-Identifier: Apache-2.0
import pickle
import re
import zipfile

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import load_state_dict
from safetensors.torch import save_file
from torch import nn

from ovavss_mm.models.layers import FrozenModule, frozen
from ovavss_mm.models.layers.frozen import read_weights


class Encoder(FrozenModule):
    """A linear layer and a batch norm, which has buffers and two modes."""

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.freeze()

    def convert_state_dict(self, state):
        return {f'net.{key}': value for key, value in state.items()}


class Model(BaseModule):
    """A trained layer beside a frozen one."""

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1)
        self.encoder = Encoder(path and dict(type='Pretrained', checkpoint=path))


@pytest.fixture
def weights() -> dict:
    """What a file holds: weights of the encoder by names of its own."""
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    net[1].running_mean.normal_()
    return net.state_dict()


@pytest.fixture
def path(tmp_path, weights) -> str:
    torch.save(weights, tmp_path / 'weights.pth')
    return str(tmp_path / 'weights.pth')


@pytest.fixture
def reads(monkeypatch) -> list:
    """Paths of the files that were read."""
    paths = []

    def read(path):
        paths.append(path)
        return read_weights(path)

    monkeypatch.setattr(frozen, 'read_weights', read)
    return paths


def has(model: Model, weights: dict) -> bool:
    own = model.encoder.net.state_dict()
    return own.keys() == weights.keys() and all(torch.equal(own[k], weights[k]) for k in own)


# ------------------------------------------------------------------ never trained
def test_stays_in_evaluation_mode_and_out_of_training():
    model = Model().train()
    assert model.training and model.head.training
    assert not any(module.training for module in model.encoder.modules())
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    before = model.encoder.net(torch.ones(4, 2))
    assert torch.equal(model.encoder.net(torch.ones(4, 2)), before), 'statistics do not move'
    model.encoder.train(True)
    assert not model.encoder.training and not model.encoder.net[1].training


# ------------------------------------------------------------------ init_weights
def test_constructor_reads_nothing(reads):
    Model('no/such/file.pth')
    assert not reads


def test_init_weights_reads_the_file_once(path, weights, reads):
    model = Model(path)
    assert not has(model, weights)
    model.init_weights()
    model.encoder.init_weights()
    assert has(model, weights) and reads == [path]
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())


def test_a_file_may_lack_the_counters_of_training_steps_and_nothing_else(tmp_path, weights):
    path = str(tmp_path / 'archive.pth')
    counter = weights.pop('1.num_batches_tracked')
    torch.save(weights, path)
    model = Model(path)
    model.init_weights()
    assert has(model, weights | {'1.num_batches_tracked': counter})
    weights.pop('1.running_mean')
    torch.save(weights, path)
    with pytest.raises(ValueError, match='missing net.1.running_mean .1 in all'):
        Model(path).init_weights()


def test_init_weights_without_a_file_changes_nothing(reads):
    model = Model()
    before = {k: v.clone() for k, v in model.encoder.net.state_dict().items()}
    model.init_weights()
    assert has(model, before) and not reads


@pytest.mark.parametrize(
    'init_cfg', [dict(type='Kaiming'), dict(type='Pretrained'), dict(checkpoint='a.pth')]
)
def test_init_cfg_is_checked(init_cfg):
    with pytest.raises(ValueError, match="Encoder takes init_cfg=dict.type='Pretrained'"):
        Encoder(init_cfg)


# ------------------------------------------------------------------ checkpoints
def test_checkpoints_leave_own_weights_out(path):
    assert sorted(Model(path).state_dict()) == ['head.bias', 'head.weight']
    assert not Model(path).encoder.state_dict()


def test_without_a_file_weights_are_stored(weights):
    model, other = Model(), Model()
    assert sum(key.startswith('encoder.net.') for key in model.state_dict()) == len(weights)
    other.load_state_dict(model.state_dict())
    assert has(other, model.encoder.net.state_dict())


@pytest.mark.parametrize(
    'load', [Model.load_state_dict, load_state_dict], ids=['torch', 'mmengine']
)
def test_checkpoint_without_own_weights_reads_the_file_once(path, weights, reads, load):
    checkpoint, model = Model(path).state_dict(), Model(path)
    keys = sorted(checkpoint)
    for _ in range(2):
        load(model, checkpoint, strict=True)
    assert has(model, weights) and reads == [path]
    assert torch.equal(model.head.weight, checkpoint['head.weight'])
    assert sorted(checkpoint) == keys, 'the checkpoint of the caller is not touched'


@pytest.mark.parametrize(
    'load', [Model.load_state_dict, load_state_dict], ids=['torch', 'mmengine']
)
def test_checkpoint_with_own_weights_is_loaded_as_it_is(path, weights, reads, load):
    stored, model = Model(), Model(path)
    load(model, stored.state_dict(), strict=True)
    assert has(model, stored.encoder.net.state_dict()) and not reads
    model.encoder.init_weights()
    assert not has(model, weights), 'the file does not overwrite what a checkpoint brought'


def test_checkpoint_without_weights_needs_them_where_there_is_no_file(path):
    with pytest.raises(RuntimeError, match=r'Missing key.*encoder\.net\.0\.weight'):
        Model().load_state_dict(Model(path).state_dict())


# ------------------------------------------------------------------ files that do not fit
def test_wrong_file_is_named_with_what_is_wrong(tmp_path, weights):
    bad = dict(weights, odd=torch.zeros(1))
    bad['0.weight'] = torch.zeros(3, 7)
    del bad['1.bias']
    torch.save(bad, tmp_path / 'bad.pth')
    model = Model(str(tmp_path / 'bad.pth'))
    before = {k: v.clone() for k, v in model.encoder.net.state_dict().items()}
    with pytest.raises(ValueError, match=r'bad\.pth does not fit') as error:
        model.encoder.init_weights()
    for part in ('missing net.1.bias', 'unexpected net.odd', r'(3, 7) in the file, (3, 2)'):
        assert part in str(error.value)
    assert '(3 in all)' in str(error.value)
    assert has(model, before), 'nothing is half loaded'


def test_missing_file_says_where_to_get_it():
    model = Model('no/such/file.pth')
    checkpoint = model.state_dict()
    for read in (model.init_weights, lambda: model.load_state_dict(checkpoint)):
        with pytest.raises(FileNotFoundError, match=r'no/such/file\.pth.*data/README\.md'):
            read()


# ------------------------------------------------------------------ reading files
def same(state: dict, weights: dict) -> bool:
    return state.keys() == weights.keys() and all(
        torch.equal(state[k], weights[k]) for k in weights
    )


def test_reads_every_format(tmp_path, weights):
    torch.save(weights, tmp_path / 'plain.pth')
    torch.save(dict(state_dict=weights, meta=dict(iter=3)), tmp_path / 'mmengine.pth')
    torch.save(dict(state_dict={f'module.{k}': v for k, v in weights.items()}), tmp_path / 'ddp.pt')
    save_file(weights, tmp_path / 'weights.safetensors')
    for name in ('plain.pth', 'mmengine.pth', 'ddp.pt', 'weights.safetensors'):
        assert same(read_weights(str(tmp_path / name)), weights), name


def test_reads_torchscript_archives(tmp_path):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
    torch.jit.trace(net, torch.zeros(1, 2)).save(str(tmp_path / 'archive.pt'))
    assert same(read_weights(str(tmp_path / 'archive.pt')), dict(net.state_dict()))


class Scripted(nn.Module):
    """Tensors of every kind, nested, some of them views or in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.again = nn.Linear(3, 3).half()
        self.turned = nn.Parameter(torch.randn(4, 2).t())
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer('passing', torch.zeros(3), persistent=False)
        self.register_buffer('none', torch.zeros(0, 3))
        self.no_weight = torch.ones(5)
        self.sizes, self.names = [1, 2], {'a': 1}

    def forward(self, x):
        return self.net(x) * self.scale + self.turned.sum() + self.no_weight.sum()


@pytest.mark.parametrize(
    'how', [torch.jit.script, lambda net: torch.jit.trace(net, torch.ones(1, 2))]
)
def test_torchscript_archives_are_read_as_torch_reads_them(tmp_path, how):
    path = str(tmp_path / 'archive.pt')
    how(Scripted().eval()).save(path)
    ours, theirs = read_weights(path), torch.jit.load(path).state_dict()
    assert same(ours, theirs) and 'net.1.running_mean' in ours and 'no_weight' not in ours
    for key, value in ours.items():
        assert (value.dtype, value.stride()) == (theirs[key].dtype, theirs[key].stride()), key


class ScriptBomb(nn.Module):
    """Writes a file when it is loaded: TorchScript has an operator for that."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.weight, self.path = nn.Parameter(torch.ones(2)), path

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]):
        self.weight, self.path, self.training = state
        torch.save(self.weight, self.path)


def test_code_in_a_torchscript_archive_is_never_run(tmp_path):
    path, mark = str(tmp_path / 'bomb.pt'), tmp_path / 'it ran'
    torch.jit.script(ScriptBomb(str(mark))).save(path)
    with pytest.raises(ValueError, match=r'bomb\.pt is no readable checkpoint'):
        read_weights(path)
    assert not mark.exists()
    torch.jit.load(path)
    assert mark.exists(), 'what the test above guards against'


def rewrite(path, part: str, content: bytes, **how) -> None:
    """Put another content into a part of an archive."""
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, 'w', **how) as new:
        for name, before in parts.items():
            new.writestr(name, content if name.endswith(part) else before)


def test_pickles_in_a_torchscript_archive_are_not_run(tmp_path):
    path = tmp_path / 'archive.pt'
    torch.jit.script(nn.Linear(2, 3)).save(str(path))
    for content in (pickle.dumps(Bomb(tmp_path / 'it ran'), 2), b'ctorch\nTensor\n.', b'', b'N.'):
        rewrite(path, '/data.pkl', content)
        with pytest.raises(ValueError, match=r'archive\.pt is no readable checkpoint'):
            read_weights(str(path))
    assert not (tmp_path / 'it ran').exists()


def test_torchscript_archives_that_are_larger_than_their_file_are_refused(tmp_path):
    path = tmp_path / 'archive.pt'
    torch.jit.script(nn.Linear(2, 3)).save(str(path))
    rewrite(path, '/data/0', bytes(10**6), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r'archive\.pt is no readable checkpoint'):
        read_weights(str(path))
    torch.jit.script(nn.Linear(2, 3)).save(str(path))
    rewrite(path, '/data/0', bytes(4))
    with pytest.raises(ValueError, match=r'archive\.pt is no readable checkpoint'):
        read_weights(str(path))


@pytest.mark.parametrize('times', [1, 2])
def test_modules_that_hold_themselves_are_refused(tmp_path, times):
    """One ``a`` would be followed without end; twenty modules with ``a`` and ``b`` the same, a million times."""
    path = tmp_path / 'archive.pt'
    torch.jit.script(nn.Linear(2, 3)).save(str(path))
    with zipfile.ZipFile(path) as archive:
        module = re.search(rb'c__torch__\S+\nLinear\n', archive.read('archive/data.pkl'))[0]
    module += b')\x81'
    keys = [b'X\x01\x00\x00\x00' + key for key in (b'a', b'b')]
    content = module + b'q\x00}' + keys[0] + b'h\x00sb'  # holds itself
    if times == 2:
        content = module + b'}bq\x00'
        for i in range(20):  # two times the one before
            content += (
                module + b'}' + b''.join(key + b'h%cs' % i for key in keys) + b'bq%c' % (i + 1)
            )
    rewrite(path, '/data.pkl', b'\x80\x02' + content + b'.')
    with pytest.raises(ValueError, match=r'archive\.pt is no readable checkpoint \(ValueError\)'):
        read_weights(str(path))


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('how', [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x, 2))])
def test_code_in_a_file_is_never_run(tmp_path, how):
    how(dict(state_dict=Bomb(tmp_path / 'it ran')), tmp_path / 'bomb.pth')
    with pytest.raises(ValueError, match=r'bomb\.pth is no readable checkpoint'):
        read_weights(str(tmp_path / 'bomb.pth'))
    assert not (tmp_path / 'it ran').exists()


@pytest.mark.parametrize('name', ['a.pth', 'a.safetensors'])
@pytest.mark.parametrize('content', [b'', b'no weights at all', b'PK\x03\x04 cut off'])
def test_other_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf'{name} is no readable checkpoint'):
        read_weights(str(tmp_path / name))


@pytest.mark.parametrize(
    'content', [[torch.zeros(1)], dict(epoch=3), torch.zeros(2), dict(state_dict=1)]
)
def test_files_without_a_state_dict_are_named(tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'a\.pth holds no state dict'):
        read_weights(str(tmp_path / 'a.pth'))
