# SPDX-License-Identifier: Apache-2.0
"""``tools/model_converters/publish.py``, and the mini weights that were made with it."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.loading import load_strictly, names_of_training, read_checkpoint

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / 'configs/mini/ovavss_mini_hearing.py'
SHIPPED = ROOT / 'ovavss_mm/mini_world/ovavss_mini_hearing.safetensors'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('publish', ROOT / 'tools/model_converters/publish.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model():
    init_default_scope('mmseg')
    return MODELS.build(Config.fromfile(CONFIG).model)


@pytest.fixture
def checkpoint(model, tmp_path):
    """As a training writes it."""
    names = dict(classes=('background', 'cat'), palette=[[0, 0, 0], [128, 0, 0]], base_names=('cat',))
    meta = dict(iter=12, seed=3, cfg='text', dataset_meta=names)
    optimizer = dict(state={0: torch.ones(10**6)})
    content = dict(state_dict=model.state_dict(), optimizer=optimizer, meta=meta)
    torch.save(content, tmp_path / 'a.pth')
    return tmp_path / 'a.pth'


def test_a_small_file_with_the_same_weights(tool, model, checkpoint, tmp_path, capsys):
    target = tmp_path / 'small.safetensors'
    tool.main(['ovavss_mini_hearing', str(checkpoint), str(target)])
    assert '2.7 MB' in capsys.readouterr().out and target.stat().st_size < 3e6
    small = read_checkpoint(str(target))
    assert small['meta']['config'] == 'ovavss_mini_hearing.py'
    assert (small['meta']['iter'], small['meta']['seed']) == (12, 3)
    assert small['meta']['dataset_meta'] == dict(classes=['background', 'cat'], palette=[[0, 0, 0], [128, 0, 0]])
    assert names_of_training(small) == ('cat',)
    wanted = {key: value.clone() for key, value in model.state_dict().items()}
    assert small['state_dict'].keys() == wanted.keys()
    assert not any(key.startswith('classifier.clip_model') for key in wanted)
    load_strictly(model, small, Config.fromfile(CONFIG))
    for key, value in model.state_dict().items():
        assert value.dtype == wanted[key].dtype
        torch.testing.assert_close(value, wanted[key], rtol=1e-3, atol=1e-7)
    again = tmp_path / 'again.safetensors'
    tool.main([str(CONFIG), str(checkpoint), str(again)])
    assert again.read_bytes() == target.read_bytes()


def test_a_folder(tool, model, checkpoint, tmp_path, capsys):
    """With the frozen parts' config, the names, the figures of a test, and weights in half precision or as they are."""
    (tmp_path / 'result.json').write_text('{"mIoU": 53.58, "time": 0.2}')
    target = tmp_path / 'model'
    card = ['--license', 'mit', '--figures', str(tmp_path / 'result.json'), '--measured-on', 'clips', '--name', 'Mine']
    tool.main(['ovavss_mini_hearing', str(checkpoint), str(target), *card])
    assert f'{target}/model.safetensors: 2.7 MB' in capsys.readouterr().out
    text = (target / 'README.md').read_text()
    assert 'license: mit\n' in text and '# Mine\n' in text and '| mIoU | 53.58 |' in text and 'on clips' in text
    names = json.loads((target / 'vocabulary.json').read_text())
    assert names['open'] and names['names'] == names['base'] == ['cat']
    tool.main(['ovavss_mini_hearing', str(checkpoint), str(tmp_path / 'exact'), '--dtype', 'float32'])
    for folder, options in ((target, dict(rtol=1e-3, atol=1e-7)), (tmp_path / 'exact', dict(rtol=0, atol=0))):
        other = AVSegInferencer(folder, device='cpu').model.state_dict()
        for key, value in model.state_dict().items():
            torch.testing.assert_close(other[key], value, **options)
    with pytest.raises(SystemExit, match='error: .*model is there and not empty'):
        tool.main(['ovavss_mini_hearing', str(checkpoint), str(target)])
    with pytest.raises(SystemExit, match='error: no weights were given'):
        tool.main(['ovavss_mini_hearing', 'none', str(tmp_path / 'other')])
    for wrong in (
        ['a.safetensors', '--license', 'mit'],
        ['a.pth'],
        ['a', '--measured-on', 'x'],
        ['a', '--dtype', 'int8'],
    ):
        with pytest.raises(SystemExit) as error:
            tool.main(['ovavss_mini_hearing', str(checkpoint), *wrong])
        assert error.value.code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.pth', 'exact', 'model', 'result.json']


def test_nothing_is_written_of_what_does_not_fit(tool, model, tmp_path):
    state = dict(model.state_dict())
    key = next(key for key, value in state.items() if value.ndim == 4)
    for change, message in (
        ({key: state[key] * 1e9}, f'{key} .* float16 cannot hold'),
        ({'new': torch.ones(1)}, 'does not fit the model'),
    ):
        torch.save(dict(state_dict=state | change), tmp_path / 'a.pth')
        with pytest.raises(SystemExit, match=f'error: .*{message}'):
            tool.main(['ovavss_mini_hearing', str(tmp_path / 'a.pth'), str(tmp_path / 'b.safetensors')])
    with pytest.raises(SystemExit, match='no weights'):
        tool.main(['ovavss_mini_hearing', str(tmp_path / 'no.pth'), str(tmp_path / 'b.safetensors')])
    with pytest.raises(SystemExit) as error:
        tool.main(['ovavss_mini_hearing', str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth')])
    assert error.value.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


def test_the_shipped_weights_fit_the_shipped_config(model):
    load_strictly(model, read_checkpoint(str(SHIPPED)), Config.fromfile(CONFIG))
    assert SHIPPED.stat().st_size < 3e6
