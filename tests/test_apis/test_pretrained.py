# SPDX-License-Identifier: Apache-2.0
"""A model in a folder: every system gives exactly what it gave, with nothing but the folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from tiny_model import ROOT, draw_weights

import ovavss_mm
from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.pretrained import ModelCard, read_figures, read_model_folder, write_model_folder
from ovavss_mm.apis.video.sources import open_source
from ovavss_mm.models.layers.frozen import read_frozen

SYSTEMS = {
    'ovavss_mini_hearing': {'classifier/clip_mini_bpe.txt.gz'},
    'ovavss_mini_sound-naming': {'classifier/classifier/clip_mini_bpe.txt.gz', 'classifier/namer/tokenizer'},
    'tpavi_mini': set(),
    'catr_mini_s4': set(),
    'ov2seg_mini': {'classifier/clip_mini_bpe.txt.gz'},
    'openvis_mini': {'classifier/clip_mini_bpe.txt.gz'},
    'clip-vis_mini': {'classifier/clip_mini_bpe.txt.gz'},
    'gavs_mini': set(),
    'sam4avs_mini': {'namer/tokenizer', 'proposer/tokenizer'},
}


def config_of(name: str, places: Path | None = None) -> Config:
    """A mini config, whose weights are copies of the package's in a folder if one is given."""
    text = json.dumps(Config.fromfile(ROOT / f'configs/mini/{name}.py').to_dict())
    return Config(json.loads(text if places is None else text.replace('ovavss_mm://mini_world', str(places))))


def made(config: Config, path: Path, names: int = 20) -> AVSegInferencer:
    """An inferencer of a config, with drawn weights where it has any."""
    init_default_scope('mmseg')
    drawn = Config(json.loads(json.dumps(config.model.to_dict())))
    if drawn.type == 'PromptedSAM':
        drawn.init_cfg = None  # else its weights are memory that nobody has written
    model = draw_weights(MODELS.build(drawn), 0.05)
    weights = None
    if model.state_dict():
        weights, base = str(path / 'drawn.pth'), tuple(f'name-{i}' for i in range(names))
        meta = dict(dataset_meta=dict(classes=('background', *base), base_names=base[:-1]))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), weights)
    return AVSegInferencer(config, weights, device='cpu', show_progress=False)


def outputs(inferencer: AVSegInferencer) -> list:
    """All that it says of two frames with a sound: label maps and scores."""
    chance = np.random.RandomState(0)
    frames = chance.randint(0, 256, (2, 64, 96, 3), np.uint8)
    sound = (chance.randn(40_000) / 3).astype(np.float32)
    options = dict(classes=['red star', 'disc'], prompt_templates=None) if inferencer.is_open else {}
    options |= dict(score_thr=0.0) if inferencer.model.namer else {}
    options |= dict(min_sound_score=0.0) if inferencer.model.sound_gates else {}
    request = inferencer.make_request(**options)
    source = open_source(dict(frames=frames, sound=sound, sample_rate=16_000))
    told = []
    for window in inferencer.read(source):
        told.append({key: np.asarray(value) for key, value in window.items() if key in ('imgs', 'audio')})
    for frame in inferencer.stream(source, request):
        told += [frame.label_map, repr(frame.found)]
    return told


def assert_same(a: list, b: list) -> None:
    """Exactly equal outputs."""
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_equal(one, other)


@pytest.mark.filterwarnings('ignore:.*the last window of clips:UserWarning', 'ignore:TPAVI. clips of:UserWarning')
@pytest.mark.parametrize('name', SYSTEMS)
def test_every_system_is_whole_in_its_folder(name, tmp_path):
    """With weights, tokenizers and vocabularies of frozen parts, whose own files are gone when it is read."""
    places = tmp_path / 'places'
    shutil.copytree(ROOT / 'ovavss_mm/mini_world', places, ignore=shutil.ignore_patterns('*.py', '__pycache__'))
    config = config_of(name, places)
    if name == 'sam4avs_mini':
        config.model.proposer.box_thr = 0.0  # finds something in noise
    inferencer = made(config, tmp_path, 1 if name.endswith(('s4', 'gavs_mini')) else 20)
    before = outputs(inferencer)
    assert len(before) == 6 and any(np.any(labels) for labels in before[2::2])
    assert inferencer.save_pretrained(tmp_path / 'model') == tmp_path / 'model'
    shutil.rmtree(places)
    (tmp_path / 'drawn.pth').unlink(missing_ok=True)
    (tmp_path / 'model').rename(tmp_path / 'moved')
    other = ovavss_mm.from_pretrained(str(tmp_path / 'moved'), device='cpu', show_progress=False)
    assert other.is_open == inferencer.is_open and other.own_names == inferencer.own_names
    assert_same(before, outputs(other))
    files = json.loads((tmp_path / 'moved/config.json').read_text())['files']
    assert {next((p for p in SYSTEMS[name] if f.startswith(p)), f) for f in files} == SYSTEMS[name]
    assert str(tmp_path) not in ''.join(p.read_text() for p in (tmp_path / 'moved').rglob('*.json'))
    # what was read can be written again, and is the same
    ovavss_mm.save_pretrained(other, tmp_path / 'again')
    for path in (tmp_path / 'moved').rglob('*'):
        twin = tmp_path / 'again' / path.relative_to(tmp_path / 'moved')
        assert path.is_dir() or path.name == 'tokenizer_config.json' or path.read_bytes() == twin.read_bytes(), path


def test_weights_of_the_package_are_named_only(tmp_path):
    inferencer = made(config_of('sam4avs_mini'), tmp_path)
    inferencer.save_pretrained(tmp_path / 'model')
    assert sorted(path.name for path in (tmp_path / 'model').iterdir()) == [
        'README.md',
        'config.json',
        'preprocessing.json',
        'vocabulary.json',
    ]
    config = json.loads((tmp_path / 'model/config.json').read_text())
    assert config['weights'] is None and config['linker'] is None
    assert config['model']['namer']['init_cfg']['checkpoint'] == 'ovavss_mm://mini_world/clap_mini'


def test_mean_and_std_of_a_tag_are_kept(tmp_path):
    """They come with the weights' tag, which the folder does not name any more."""
    init_default_scope('mmseg')
    kind = MODELS.get('CLIPSquareCropClassifier')
    for tag, mean in (('openai', 0.48145466), ('laion2b_s34b_b88k', 0.48145466), (None, 0.48145466)):
        cfg = dict(type='x', clip_model='ViT-B-16', init_cfg=tag and dict(type='Pretrained', checkpoint=tag))
        assert kind.portable_cfg(cfg, None)['preprocess']['mean'][0] == mean
    cfg = dict(clip_model='ViT-B-16', preprocess=dict(std=[1, 2, 3]))
    assert kind.portable_cfg(cfg, None)['preprocess']['std'] == [1, 2, 3]
    with pytest.raises(ValueError, match='comes from a hub'):
        kind.portable_cfg(dict(clip_model='ViT-B-16-SigLIP'), None)


def test_vocabulary_and_preprocessing_have_one_place_each(tiny, tmp_path):
    inferencer = AVSegInferencer(*tiny, device='cpu', show_progress=False)
    inferencer.dataset_meta = dict(classes=('background', 'dog', 'cat'), base_names=('dog',))
    inferencer.save_pretrained(tmp_path / 'm')
    names = json.loads((tmp_path / 'm/vocabulary.json').read_text())
    assert names == dict(open=True, names=['dog', 'cat'], base=['dog'], prompt_templates=['a {}.', 'the {}'])
    told = json.loads((tmp_path / 'm/preprocessing.json').read_text())
    assert [step['type'] for step in told['pipeline']] == ['LoadClipAudio', 'ResizeClip']
    assert told['sample_rates'] == dict(audio=16000) and told['data_preprocessor']['mean'] == [123.675, 116.28, 103.53]
    model = json.loads((tmp_path / 'm/config.json').read_text())['model']
    assert 'data_preprocessor' not in model and 'templates' not in model['classifier']
    other = AVSegInferencer(tmp_path / 'm', device='cpu', show_progress=False)
    assert other.model.classifier.templates == ('a {}.', 'the {}')
    assert (other.dataset_meta['classes'], other.dataset_meta['base_names']) == (('background', 'dog', 'cat'), ('dog',))
    assert other.make_request(['dog']).vocabulary == ('dog',)


def test_half_precision(tiny, tmp_path):
    inferencer = AVSegInferencer(*tiny, device='cpu', show_progress=False)
    inferencer.save_pretrained(tmp_path / 'small', dtype='float16')
    inferencer.save_pretrained(tmp_path / 'large')
    small, large = ((tmp_path / name / 'model.safetensors').stat().st_size for name in ('small', 'large'))
    assert small < 0.6 * large
    other = ovavss_mm.from_pretrained(tmp_path / 'small', 'cpu', show_progress=False)
    for a, b in zip(inferencer.model.parameters(), other.model.parameters(), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="float32, float16, got 'int8'"):
        inferencer.save_pretrained(tmp_path / 'other', dtype='int8')


def test_the_card(tiny, tmp_path):
    """Figures are those that are given; licences of frozen weights are known."""
    config = Config(tiny[0].to_dict())
    config.load_from = '/somewhere/ViT-B-16.pt'
    inferencer = AVSegInferencer(config, tiny[1], device='cpu', show_progress=False)
    (tmp_path / 'f.json').write_text('{"mIoU": 51.5, "time": 3.1, "data_time": 1}')
    card = ModelCard('A: model', 'cc-by-4.0', read_figures(str(tmp_path / 'f.json')), 'the mini world')
    inferencer.save_pretrained(tmp_path / 'm', card)
    text = (tmp_path / 'm/README.md').read_text()
    _, head, body = text.split('---\n', 2)
    told = yaml.safe_load(head)
    assert (told['license'], told['library_name'], told['metrics']) == ('cc-by-4.0', 'ovavss_mm', ['mIoU'])
    assert 'open-vocabulary' in told['tags']
    assert '| mIoU | 51.5 |' in body and 'on the mini world' in body and "OpenAI's CLIP ViT-B/16" in body
    assert 'time' not in body.split('## Measured')[1]
    other = ovavss_mm.from_pretrained(tmp_path / 'm', 'cpu')
    other.save_pretrained(tmp_path / 'n')
    text = (tmp_path / 'n/README.md').read_text()
    assert 'license: unknown' in text and 'Nothing is noted' in text and "OpenAI's CLIP ViT-B/16" in text
    assert text.startswith('---\n') and '# A: model\n' in text
    for wrong in ('[1]', '{}', '{"a": "b"}', '{"a": NaN}', '{"a": true}', '{"a": [1]}'):
        (tmp_path / 'f.json').write_text(wrong)
        with pytest.raises(ValueError, match=r'f\.json: figures are'):
            read_figures(str(tmp_path / 'f.json'))
    with pytest.raises(ValueError, match='licence of a card must be a line'):
        inferencer.save_pretrained(tmp_path / 'o', ModelCard(licence='a\nb: c'))
    assert not (tmp_path / 'o').exists()


def test_folders_that_others_write(tmp_path):
    """Weights are not needed, and files may be named."""
    config = config_of('sam4avs_mini')
    cfg = dict(model=config.model.to_dict(), pipeline=[dict(type='ResizeClip', short_side=32)], linker=None)
    cfg['model']['namer']['tokenizer'] = 'model://texts'
    names = dict(open=True, names=None, base=None, prompt_templates=None)
    files = {'texts': lambda path: shutil.copytree(ROOT / 'ovavss_mm/mini_world/clap_mini', path)}
    folder = write_model_folder(tmp_path / 'm', cfg, None, names, ModelCard('mine'), files)
    read = read_model_folder(folder)
    assert read.weights is None and read.name == 'mine' and read.cfg.model.namer.tokenizer == str(folder / 'texts')
    model = ovavss_mm.from_pretrained(folder, 'cpu').model
    read_frozen(model)
    assert len(model.text_embeddings(['disc'])) == 1
    (tmp_path / 'localize.onnx').write_bytes(b'x')
    with pytest.raises(ValueError, match=r'cannot be kept in a folder: .*/n/config\.json: model\.file: gone\.onnx is'):
        cfg['model']['file'] = 'model://gone.onnx'
        write_model_folder(tmp_path / 'n', cfg, None, names, ModelCard('m'), {'a.onnx': tmp_path / 'localize.onnx'})
    with pytest.raises(ValueError, match=r"'evil\.py' is not allowed"):
        write_model_folder(tmp_path / 'n', cfg, None, names, ModelCard('m'), {'evil.py': tmp_path / 'localize.onnx'})
    with pytest.raises(ValueError, match=r"files: '\.\./a\.onnx' is no name of a file"):
        write_model_folder(tmp_path / 'n', cfg, None, names, ModelCard('m'), {'../a.onnx': tmp_path / 'localize.onnx'})
    assert sorted(path.name for path in tmp_path.iterdir()) == ['localize.onnx', 'm']


def test_targets_that_are_there(inferencer, tmp_path):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/mine').touch()
    for name in ('full', 'full/mine'):
        with pytest.raises(FileExistsError, match=f'{name} is there and not empty'):
            inferencer.save_pretrained(tmp_path / name)
    assert [path.name for path in tmp_path.rglob('*')] == ['full', 'mine']
    (tmp_path / 'empty').mkdir()
    inferencer.save_pretrained(tmp_path / 'empty')
    assert (tmp_path / 'empty/config.json').is_file()


def test_importing_the_package_stays_light():
    code = (
        'import sys, ovavss_mm; assert "ovavss_mm.apis" not in sys.modules; '
        'assert {"from_pretrained", "save_pretrained"} <= set(ovavss_mm.__all__)'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match='no_such'):
        ovavss_mm.no_such  # noqa: B018
