# SPDX-License-Identifier: Apache-2.0
"""Configs by name, devices, and checkpoints that are read without running them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import init_default_scope
from mmseg.apis import init_model
from mmseg.registry import MODELS
from safetensors.torch import save_file

from ovavss_mm.apis.loading import (
    MINI_WEIGHTS,
    choose_device,
    config_folder,
    find_config,
    find_default_model,
    load_strictly,
    names_of_training,
    read_checkpoint,
)
from ovavss_mm.models import AVEncoderDecoder
from ovavss_mm.utils.safe_loading import META_KEY


def test_configs_by_path_and_by_name(repo_root):
    path = repo_root / 'configs/mini/ovavss_mini.py'
    assert find_config(str(path)) == str(path)
    for name in ('ovavss_mini', 'ovavss_mini.py'):
        assert Path(find_config(name)).samefile(path)
    with pytest.raises(FileNotFoundError, match=r"no config 'mini\.py'; the package has: .*_mini"):
        find_config('mini.py')


def test_configs_of_a_wheel(tmp_path):
    """They lie inside the package; a folder ``configs`` beside it is somebody else's."""
    package = tmp_path / 'site-packages' / 'ovavss_mm'
    (package.parent / 'configs').mkdir(parents=True)
    assert config_folder(package) == package.parent / 'configs'
    (package / '.mim/configs').mkdir(parents=True)
    assert config_folder(package) == package / '.mim/configs'


def test_devices(monkeypatch):
    assert choose_device('cpu') == 'cpu'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert choose_device(None) == 'cuda' and choose_device('cuda:1') == 'cuda:1'
    with pytest.raises(ValueError, match=r"'cuda:2' here; choose of cpu, cuda, cuda:0, cuda:1"):
        choose_device('cuda:2')


def test_default_model(tmp_path, monkeypatch):
    """The best that is there, at least the package's own; the demo's folder may have been moved."""
    monkeypatch.chdir(tmp_path)
    config, weights = find_default_model()
    assert config == 'ovavss_mini_hearing' and Path(weights).name == 'ovavss_mini_hearing.safetensors'
    monkeypatch.setattr('ovavss_mm.apis.loading.MINI_WEIGHTS', 'nowhere')
    with pytest.raises(FileNotFoundError, match=r'make demo(.|\n)*ovavss_r50_release\.pth'):
        find_default_model()
    demo = tmp_path / 'work_dirs/demo'
    demo.mkdir(parents=True)
    (demo / 'iter_9.pth').touch()
    (demo / 'last_checkpoint').write_text('/elsewhere/iter_9.pth')
    assert find_default_model() == ('ovavss_mini_hearing', 'work_dirs/demo/iter_9.pth')
    (tmp_path / 'data/weights').mkdir(parents=True)
    (tmp_path / 'data/weights/ovavss_r50_release.pth').touch()
    assert find_default_model()[0] == 'ovavss_r50_release'


class Evil:
    """Does something when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ['EVIL_DIR'],)


def test_nothing_in_a_checkpoint_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv('EVIL_DIR', str(tmp_path / 'evil'))
    torch.save(dict(state_dict=dict(w=torch.ones(1)), x=Evil()), tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match=r'evil\.pth was not read: it asks for'):
        read_checkpoint(str(tmp_path / 'evil.pth'))
    assert not (tmp_path / 'evil').exists()


def test_training_checkpoints_are_read(tmp_path):
    """With what mmengine's message hub adds."""
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    hub = dict(log_scalars=dict(loss=buffer), rate=np.float64(0.1), f=HistoryBuffer.mean)
    torch.save(dict(state_dict=dict(w=torch.ones(2)), message_hub=hub, meta={}), tmp_path / 'a.pth')
    checkpoint = read_checkpoint(str(tmp_path / 'a.pth'))
    assert torch.equal(checkpoint['state_dict']['w'], torch.ones(2))
    torch.save(dict(w=torch.ones(2)), tmp_path / 'b.pth')
    assert list(read_checkpoint(str(tmp_path / 'b.pth'))) == ['state_dict']


def test_small_files_of_weights(tmp_path):
    path = str(tmp_path / 'a.safetensors')
    save_file(dict(w=torch.ones(2).half()), path, metadata={META_KEY: '{"iter": 7}'})
    checkpoint = read_checkpoint(path)
    assert checkpoint['meta'] == dict(iter=7)
    assert torch.equal(checkpoint['state_dict']['w'], torch.ones(2).half())
    save_file(dict(w=torch.ones(2)), path)
    assert read_checkpoint(path)['meta'] == {}
    Path(path).write_bytes(b'broken')
    with pytest.raises(ValueError, match=r'a\.safetensors cannot be read'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [b'', b'text', b'PK\x03\x04 broken'], ids=['empty', 'text', 'zip'])
def test_files_that_are_no_checkpoints(tmp_path, content):
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(ValueError, match=r'a\.pth cannot be read'):
        read_checkpoint(str(tmp_path / 'a.pth'))


def test_missing_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no weights at .*gone\.pth'):
        read_checkpoint(str(tmp_path / 'gone.pth'))
    with pytest.raises(FileNotFoundError, match=r'get .* as PUBLISHED\.pth'):
        read_checkpoint(str(tmp_path / 'ovavss_r50_release.pth'))
    torch.save(torch.ones(3), tmp_path / 'tensor.pth')
    with pytest.raises(ValueError, match='holds no state dict'):
        read_checkpoint(str(tmp_path / 'tensor.pth'))


def test_names_of_training():
    meta = dict(dataset_meta=dict(classes=('background', 'dog', 'cat')))
    assert names_of_training(dict(state_dict={}, meta=meta)) == ('dog', 'cat')
    for meta in (None, {}, dict(dataset_meta=None), dict(dataset_meta={}), dict(dataset_meta=3)):
        assert names_of_training(dict(state_dict={}, meta=meta)) is None


def test_weights_must_fit(tiny):
    config, path = tiny
    init_default_scope('mmseg')
    model = MODELS.build(config.model)
    checkpoint = read_checkpoint(path)
    load_strictly(model, checkpoint, config)
    key, value = next(iter(checkpoint['state_dict'].items()))
    assert torch.equal(model.state_dict()[key], value)
    with pytest.raises(ValueError, match='start of a training only'):
        load_strictly(model, dict(checkpoint, meta=dict(ovavss_init=True)), config)
    del checkpoint['state_dict'][key]
    with pytest.raises(ValueError, match='in the model but not in the checkpoint'):
        load_strictly(model, checkpoint, config)
    hook = dict(type='StrictCheckpointHook', allow_missing=[key])
    load_strictly(model, checkpoint, Config(dict(custom_hooks=[hook])))


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_mmsegs_own_function_loads_a_model(tmp_path, repo_root, suffix):
    """With its weights, those of CLIP from their own file, its names and colours."""
    checkpoint = read_checkpoint(MINI_WEIGHTS)
    path = MINI_WEIGHTS
    if suffix == '.pth':
        path = str(tmp_path / 'a.pth')
        torch.save(checkpoint, path)
    model = init_model(str(repo_root / 'configs/mini/ovavss_mini_hearing.py'), path, device='cpu')
    assert isinstance(model, AVEncoderDecoder) and not model.training
    state = model.state_dict()
    assert all(torch.equal(state[key], value.to(state[key].dtype)) for key, value in checkpoint['state_dict'].items())
    clip = read_checkpoint('ovavss_mm://mini_world/clip_mini.safetensors')['state_dict']
    assert torch.equal(model.classifier.clip_model.logit_scale, clip['logit_scale'])
    assert len(model.dataset_meta['classes']) == len(model.dataset_meta['palette']) == 21
    assert model.dataset_meta['classes'][:2] == ['background', 'blue-disc']
