# SPDX-License-Identifier: Apache-2.0
"""Folders of models that are hostile or broken, and the cache of the hub: clear errors, and nothing is run."""

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from tiny_model import ROOT

import ovavss_mm
from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.loading import fetch_model, find_model
from ovavss_mm.apis.model_folder import find_part, read_model_folder
from ovavss_mm.apis.pretrained import ModelCard, write_model_folder
from ovavss_mm.datasets.transforms import LoadClipAudio

ATTACK = 'from pathlib import Path\nPath(__file__).with_name("was_run").touch()\nPath("was_run").touch()\n'


@pytest.fixture(scope='module')
def model(inferencer, tmp_path_factory) -> Path:
    """The tiny model in a folder, which nobody changes."""
    return inferencer.save_pretrained(tmp_path_factory.mktemp('model') / 'model')


@pytest.fixture
def folder(model, tmp_path, monkeypatch) -> Path:
    """A copy of it, with programs in it and as the current folder, where Python finds them."""
    folder = tmp_path / 'model'
    shutil.copytree(model, folder)
    for name in ('evil.py', 'evil/__init__.py', 'evil/registry.py', 'HungarianAssigner.py', 'sitecustomize.py'):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(ATTACK)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    assert not list(folder.rglob('was_run'))
    assert not {'evil', 'evil.registry', 'HungarianAssigner'} & set(sys.modules)


def change(folder: Path, name: str, where: str, value: object) -> None:
    """Set a value in a JSON file of a folder."""
    told = json.loads((folder / name).read_text())
    node, keys = told, where.split('.')
    for key in keys[:-1]:
        node = node[int(key) if isinstance(node, list) else key]
    node[int(keys[-1]) if isinstance(node, list) else keys[-1]] = value
    (folder / name).write_text(json.dumps(told))


def pretrained(checkpoint: str) -> dict:
    """An ``init_cfg``."""
    return dict(type='Pretrained', checkpoint=checkpoint)


TYPE, PLACE, KEY = 'is no registered part', 'is no file of the folder', 'is not allowed'
HOSTILE = {
    'module': ('config.json', 'model.type', 'evil', TYPE),
    'dotted': ('config.json', 'model.backbone.type', 'evil.Backbone', TYPE),
    'library': ('config.json', 'model.backbone.type', 'os.system', TYPE),
    'scope': ('config.json', 'model.backbone.type', 'evil.ResNet', TYPE),
    'scope-key': ('config.json', 'model.backbone._scope_', 'evil', KEY),
    'deep': ('config.json', 'model.backbone.type', 'mmdet.evil.X', TYPE),
    'other-registry': ('config.json', 'model.backbone.type', 'HungarianAssigner', TYPE),
    'no-type': ('config.json', 'model.backbone.type', ['evil'], TYPE),
    'linker': ('config.json', 'linker.type', 'evil', TYPE),
    'step': ('preprocessing.json', 'pipeline.1.type', 'evil', TYPE),
    'front-end': ('preprocessing.json', 'pipeline.0.front_end', dict(type='evil'), TYPE),
    'preprocessor': ('preprocessing.json', 'data_preprocessor.type', 'evil', TYPE),
    'downloads': ('config.json', 'model.backbone.type', 'TIMMBackbone', KEY),
    'reads-configs': ('config.json', 'model.type', 'mmdet.LAD', KEY),
    'reads-pickles': ('config.json', 'model.decode_head.class_weight', 'evil.pkl', PLACE),
    'imports': ('config.json', 'custom_imports', dict(imports=['evil']), 'it differs in'),
    'inner-imports': ('config.json', 'model.custom_imports', dict(imports=['evil']), KEY),
    'base': ('config.json', '_base_', 'evil.py', 'it differs in'),
    'inner-base': ('config.json', 'model._base_', 'evil.py', KEY),
    'delete': ('config.json', 'model.backbone._delete_', True, KEY),
    'environment': ('config.json', 'model.backbone.style', '{{$HOME:x}}', PLACE),
    'http': ('config.json', 'model.backbone.init_cfg', pretrained('http://127.0.0.1:9/evil.pth'), PLACE),
    'torchvision': ('config.json', 'model.backbone.init_cfg', pretrained('torchvision://resnet50'), PLACE),
    'absolute': ('config.json', 'model.classifier.init_cfg', pretrained('/etc/passwd'), PLACE),
    'hub-id': ('config.json', 'model.classifier.init_cfg', pretrained('openai/clip'), PLACE),
    'tag': ('config.json', 'model.classifier.init_cfg', pretrained('openai'), PLACE),
    'initializer': ('config.json', 'model.backbone.init_cfg', dict(type='evil'), 'only type Pretrained'),
    'initializers': ('config.json', 'model.backbone.init_cfg', [dict(type='evil')], TYPE),
    'up': ('config.json', 'model.classifier.init_cfg', pretrained('model://../evil.pth'), 'is no name of a file'),
    'root': ('config.json', 'model.classifier.init_cfg', pretrained('model:///etc/passwd'), 'is no name of a file'),
    'drive': ('config.json', 'model.classifier.init_cfg', pretrained('model://C:\\x'), 'is no name of a file'),
    'package-up': ('config.json', 'model.classifier.init_cfg', pretrained('ovavss_mm://../x'), 'is no name of a file'),
    'package-none': ('config.json', 'model.classifier.init_cfg', pretrained('ovavss_mm://x'), 'has no ovavss_mm://x'),
    'unlisted': ('config.json', 'model.classifier.init_cfg', pretrained('model://evil.pth'), 'not among the files'),
    'bpe': ('config.json', 'model.classifier.tokenizer', dict(bpe_path='vocab.gz'), PLACE),
    'hub-clip': ('config.json', 'model.classifier.clip_model', 'hf-hub:org/name', PLACE),
    'siglip': ('config.json', 'model.classifier.clip_model', 'ViT-B-16-SigLIP', 'has parts on the hub'),
    'roberta': ('config.json', 'model.classifier.clip_model', 'roberta-ViT-B-32', 'has parts on the hub'),
    'hf': ('config.json', 'model.classifier.clip_model.text_cfg.hf_model_name', 'bert', 'has parts on the hub'),
    'trust': ('config.json', 'model.classifier.tokenizer', dict(trust_remote_code=True), KEY),
    'kernels': ('config.json', 'model.classifier.attn_implementation', 'kernels', KEY),
    'program': ('config.json', 'files', ['evil.py'], KEY),
    'pickle': ('config.json', 'files', ['evil.pth'], KEY),
    'outside': ('config.json', 'files', ['../x.json'], 'is no name of a file'),
    'weights': ('config.json', 'weights', 'evil.pth', 'weights must be null'),
    'nested': ('config.json', 'model.backbone.x', json.loads('[' * 99 + ']' * 99), 'nested more than'),
    'names': ('vocabulary.json', 'names', ['a\x1b[0m'], 'without control characters'),
    'templates': ('vocabulary.json', 'prompt_templates', ['{0.__class__} {}'], 'templates must be'),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_folders_are_refused(name, folder):
    """Each with a message that says where, before anything is built."""
    file, where, value, message = HOSTILE[name]
    (folder / 'evil.pth').write_bytes(pickle.dumps(Attack()))
    change(folder, file, where, value)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        ovavss_mm.from_pretrained(folder, 'cpu')
    assert str(folder) in str(error.value)


class Attack:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ('was_run',)


def test_programs_beside_a_model_are_not_run(folder):
    (folder / 'configs.py').write_text(ATTACK)
    (folder / 'model.pth').write_bytes(pickle.dumps(Attack()))
    assert ovavss_mm.from_pretrained(folder, 'cpu').make_request(['dog']).vocabulary == ('dog',)


def test_weights_are_no_pickle(folder):
    (folder / 'model.safetensors').write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ValueError, match=r'model\.safetensors cannot be read as a checkpoint'):
        ovavss_mm.from_pretrained(folder, 'cpu')


def test_tokenizers_run_no_code(tmp_path, monkeypatch):
    """The library runs a file beside a tokenizer if its table asks for that and somebody says yes."""
    shutil.copytree(ROOT / 'ovavss_mm/mini_world/clap_mini', tmp_path / 'texts')
    (tmp_path / 'texts/evil.py').write_text(ATTACK)
    model = dict(type='SoundNamer', config={}, tokenizer='model://texts')
    names = dict(open=True, names=None)
    files = {f'texts/{name}': tmp_path / 'texts' / name for name in ('tokenizer.json', 'tokenizer_config.json')}
    folder = write_model_folder(tmp_path / 'm', dict(model=model, pipeline=[]), None, names, ModelCard('m'), files)
    path = folder / 'texts/tokenizer_config.json'
    told = json.loads(path.read_text()) | dict(auto_map=dict(AutoTokenizer=['evil.Tokenizer', 'evil.Tokenizer']))
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r'tokenizer_config\.json: auto_map is not allowed'):
        read_model_folder(folder)
    from ovavss_mm.models.foundation.base import read_tokenizer

    shutil.copy(path, tmp_path / 'texts')
    monkeypatch.chdir(tmp_path / 'texts')
    read_tokenizer(str(tmp_path / 'texts'))  # with the library's own code
    assert not list(tmp_path.rglob('was_run'))


@pytest.mark.parametrize('file', ['config.json', 'vocabulary.json', 'preprocessing.json', 'model.safetensors'])
def test_links_lead_nowhere_else_and_no_file_is_missing(file, folder, tmp_path):
    (tmp_path / file).write_bytes((folder / file).read_bytes())
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=f'has no {file}: it is incomplete'):
        ovavss_mm.from_pretrained(folder, 'cpu')
    (folder / file).symlink_to(tmp_path / file)
    with pytest.raises(ValueError, match='leads out of the folder'):
        ovavss_mm.from_pretrained(folder, 'cpu')
    (folder / f'x{file}').write_bytes((tmp_path / file).read_bytes())
    (folder / file).unlink()
    (folder / file).symlink_to(f'x{file}')
    read_model_folder(folder)


def test_a_linked_folder_of_files(folder, tmp_path):
    change(folder, 'config.json', 'files', ['texts/a.json'])
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere/a.json').write_text('{}')
    (folder / 'texts').symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(ValueError, match='leads out of the folder'):
        read_model_folder(folder)


def test_other_kinds_of_folders(model, tmp_path):
    """Of transformers, empty, newer, of other weights, and half copied."""
    with pytest.raises(ValueError, match="is no model folder of ovavss_mm .it seems to be of 'clap'"):
        ovavss_mm.from_pretrained(ROOT / 'ovavss_mm/mini_world/clap_mini')
    with pytest.raises(FileNotFoundError, match=r'has no config\.json'):
        ovavss_mm.from_pretrained(tmp_path)
    folder = tmp_path / 'model'
    shutil.copytree(model, folder)
    for where, value, message in (
        ('format', 2, r'has format 2, written by ovavss_mm .*: pip install --upgrade ovavss_mm'),
        ('format', 'x', 'format must be a whole number'),
        ('weights', None, r'cannot be used: no weights were given'),
        ('model.decode_head.num_queries', 7, r'cannot be used: .*does not fit.*of another shape'),
        ('model.backbone.depth', 'many', r'cannot be used: '),
        ('linker', dict(type='WindowLinker', min_iou=7), 'min_iou'),
    ):
        change(folder, 'config.json', where, value)
        with pytest.raises(ValueError, match=message):
            ovavss_mm.from_pretrained(folder, 'cpu')
        shutil.copy(model / 'config.json', folder)
    change(folder, 'vocabulary.json', 'open', False)
    with pytest.raises(ValueError, match=r'vocabulary\.json says open: false'):
        ovavss_mm.from_pretrained(folder, 'cpu')
    change(folder, 'vocabulary.json', 'open', True)
    change(folder, 'preprocessing.json', 'sample_rates', dict(audio=8000))
    with pytest.raises(ValueError, match="sample_rates are {'audio': 16000} by the pipeline"):
        ovavss_mm.from_pretrained(folder, 'cpu')
    (folder / 'preprocessing.json').write_text('{')
    with pytest.raises(ValueError, match=r'preprocessing\.json, line 1: not valid JSON'):
        ovavss_mm.from_pretrained(folder, 'cpu')
    shutil.copy(model / 'preprocessing.json', folder)
    content = (folder / 'model.safetensors').read_bytes()
    (folder / 'model.safetensors').write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r'model\.safetensors cannot be read as a checkpoint.*: is it complete'):
        ovavss_mm.from_pretrained(folder, 'cpu')


def test_parts_by_name():
    assert find_part('LoadClipAudio', 'TRANSFORMS') is LoadClipAudio
    assert find_part('mmdet.DiceLoss', 'MODELS') and find_part('GN', 'MODELS')
    assert find_part('DiceLoss', 'TRANSFORMS') is find_part('nn.GN', 'MODELS') is find_part('', 'MODELS') is None


# ---------------------------------------------------------------------- names of models
def test_a_folder_has_its_own_weights(model, tiny):
    with pytest.raises(ValueError, match='leave out weights='):
        AVSegInferencer(str(model), tiny[1])
    with pytest.raises(ValueError, match="is a folder, and has no revision 'v1'"):
        ovavss_mm.from_pretrained(model, revision='v1')


def test_configs_of_the_package_win_over_folders_and_these_over_ids(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / 'sam4avs_mini')
    assert find_model('sam4avs_mini', None).folder is None
    assert find_model('./sam4avs_mini', None).folder.path == tmp_path / 'sam4avs_mini'
    shutil.copytree(model, tmp_path / 'org/name')
    assert fetch_model('org/name') == str(tmp_path / 'org/name')


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, without network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    return tmp_path / 'hub/models--org--name'


def in_cache(model: Path, cache: Path, commit: str, ref: str) -> Path:
    """Put a model where the hub's client keeps it: links to contents."""
    snapshot = cache / 'snapshots' / commit
    snapshot.mkdir(parents=True)
    for folder in (cache / 'blobs', cache / 'refs'):
        folder.mkdir(exist_ok=True)
    (cache / 'refs' / ref).write_text(commit)
    for path in (path for path in model.rglob('*') if path.is_file()):
        blob, link = cache / 'blobs' / f'{commit[:9]}{path.name}', snapshot / path.relative_to(model)
        shutil.copy(path, blob)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_ids_of_the_hub_from_its_cache(model, cache, tmp_path):
    main = in_cache(model, cache, 'a' * 40, 'main')
    assert Path(ovavss_mm.from_pretrained('org/name', 'cpu').weights) == main / 'model.safetensors'
    assert Path(AVSegInferencer('org/name', device='cpu').weights) == main / 'model.safetensors'
    other = in_cache(model, cache, 'b' * 40, 'v2')
    for revision in ('v2', 'b' * 40):
        assert fetch_model('org/name', revision) == str(other)
    assert torch.equal(*(next(ovavss_mm.from_pretrained(x, 'cpu').model.parameters()) for x in (model, main)))
    (main / 'model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match=r'has no model\.safetensors: it is incomplete'):
        ovavss_mm.from_pretrained('org/name', 'cpu')


def test_ids_that_are_nowhere(cache):
    with pytest.raises(FileNotFoundError, match=r'org/name is no folder here.*network is there.*or copy the folder'):
        ovavss_mm.from_pretrained('org/name')
    with pytest.raises(FileNotFoundError, match="org/name at revision 'v1' is no folder"):
        ovavss_mm.from_pretrained('org/name', revision='v1')
    for name in ('nowhere', './no/where', 'configs/gone.py'):
        with pytest.raises(FileNotFoundError, match='there is no'):
            ovavss_mm.from_pretrained(name)
        with pytest.raises(FileNotFoundError, match='there is no config .*; the package has'):
            AVSegInferencer(name)


def test_only_the_files_of_the_model_are_fetched(model, cache, monkeypatch):
    snapshot, asked = in_cache(model, cache, 'c' * 40, 'main'), []
    monkeypatch.setattr(
        'huggingface_hub.snapshot_download', lambda name, **options: asked.append(options) or str(snapshot)
    )
    assert fetch_model('org/name', 'v1') == str(snapshot)
    assert [sorted(options['allow_patterns']) for options in asked] == [
        ['config.json', 'preprocessing.json', 'vocabulary.json'],
        [
            'classifier/clip_mini_bpe.txt.gz',
            'config.json',
            'model.safetensors',
            'preprocessing.json',
            'vocabulary.json',
        ],
    ]
    assert [options['revision'] for options in asked] == ['v1', 'c' * 40]
