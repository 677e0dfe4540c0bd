# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import load_state_dict
from torch import nn

from ovavss_mm.models.layers import FrozenModule, frozen
from ovavss_mm.utils.safe_loading import read_state_dict


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
        return read_state_dict(path)

    monkeypatch.setattr(frozen, 'read_state_dict', read)
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
    with pytest.raises(ValueError, match='Encoder: 1 missing: net.1.running_mean$'):
        Model(path).init_weights()


def test_init_weights_without_a_file_changes_nothing(reads):
    model = Model()
    before = {k: v.clone() for k, v in model.encoder.net.state_dict().items()}
    model.init_weights()
    assert has(model, before) and not reads


MISSPELT = dict(type='Pretrained', checkpoint='a.pth', chekpoint='b.pth')


@pytest.mark.parametrize(
    'init_cfg', [dict(type='Kaiming'), dict(type='Pretrained'), dict(checkpoint='a.pth'), MISSPELT]
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


@pytest.mark.parametrize('load', [Model.load_state_dict, load_state_dict], ids=['torch', 'mmengine'])
def test_checkpoint_without_own_weights_reads_the_file_once(path, weights, reads, load):
    checkpoint, model = Model(path).state_dict(), Model(path)
    keys = sorted(checkpoint)
    for _ in range(2):
        load(model, checkpoint, strict=True)
    assert has(model, weights) and reads == [path]
    assert torch.equal(model.head.weight, checkpoint['head.weight'])
    assert sorted(checkpoint) == keys, 'the checkpoint of the caller is not touched'


@pytest.mark.parametrize('load', [Model.load_state_dict, load_state_dict], ids=['torch', 'mmengine'])
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
    for part in ('1 missing: net.1.bias', '1 unexpected: net.odd', 'is (3, 7), expected (3, 2)'):
        assert part in str(error.value)
    assert has(model, before), 'nothing is half loaded'


def test_missing_file_says_where_to_get_it():
    model = Model('no/such/file.pth')
    checkpoint = model.state_dict()
    for read in (model.init_weights, lambda: model.load_state_dict(checkpoint)):
        with pytest.raises(FileNotFoundError, match=r'no/such/file\.pth.*data/README\.md'):
            read()


# ------------------------------------------------------------------ subclasses with more
class Adapted(Encoder):
    """An encoder with an adapter, a prompt and a buffer of its own."""

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.prompt = nn.Parameter(torch.zeros(2))
        self.adapter = nn.Linear(3, 3)
        self.register_buffer('count', torch.zeros(()))


def test_what_a_subclass_adds_is_trained_and_saved(path, weights):
    """It was left out of checkpoints, and its absence accepted."""
    module = Adapted(dict(type='Pretrained', checkpoint=path)).train()
    module.init_weights()
    trained = [name for name, value in module.named_parameters() if value.requires_grad]
    assert trained == ['prompt', 'adapter.weight', 'adapter.bias']
    state = module.state_dict()
    assert sorted(state) == ['adapter.bias', 'adapter.weight', 'count', 'prompt']
    nn.init.ones_(module.prompt)
    again = Adapted(dict(type='Pretrained', checkpoint=path))
    again.load_state_dict(module.state_dict(), strict=True)
    assert again.prompt.sum() == 2 and torch.equal(again.net[0].weight, weights['0.weight'])
    del state['prompt']
    with pytest.raises(RuntimeError, match=r'Missing key.*prompt'):
        again.load_state_dict(state, strict=True)


def test_frozen_weights_that_are_to_be_trained_are_refused(path):
    """No checkpoint would store them; without a file they are stored."""
    model = Model(path)
    model.encoder.net[0].weight.requires_grad_()
    for use in (model.train, model.state_dict):
        with pytest.raises(ValueError, match=r'Encoder\.net\.0\.weight is trainable.*init_cfg=None'):
            use()
    model = Model()
    model.encoder.net[0].weight.requires_grad_()
    assert 'encoder.net.0.weight' in model.train().state_dict()
