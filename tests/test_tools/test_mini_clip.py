# SPDX-License-Identifier: Apache-2.0
"""The mini world's two CLIPs: those that ship, and the script that trained them."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from open_clip.modified_resnet import ModifiedResNet
from open_clip.tokenizer import SimpleTokenizer
from safetensors import safe_open

import ovavss_mm  # noqa: F401
from ovavss_mm.mini_world.names import NAMES

ROOT = Path(__file__).parents[2]
# kind of image tower: the weights and the config that reads them
WEIGHTS = dict(
    vit=ROOT / 'ovavss_mm/mini_world/clip_mini.safetensors',
    resnet=ROOT / 'ovavss_mm/mini_world/clip_mini_rn.safetensors',
)
CONFIGS = dict(vit=ROOT / 'configs/mini/ovavss_mini.py', resnet=ROOT / 'configs/mini/ovavss_mini_clip-rn.py')
KINDS = tuple(WEIGHTS)
LEAST_IN_FRAMES = dict(vit=0.25, resnet=0.75)  # share of masks that are named right; by chance 0.05
MERGES = ROOT / 'ovavss_mm/mini_world/clip_mini_bpe.txt.gz'


@pytest.fixture(scope='module')
def script():
    sys.path.insert(0, str(ROOT / 'tools/model_converters'))  # as when it is run
    path = ROOT / 'tools/model_converters/train_mini_clip.py'
    spec = importlib.util.spec_from_file_location('train_mini_clip', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def torch_settings():
    """Put torch's global settings back after a test."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


@pytest.fixture(scope='module')
def tokenizer():
    return SimpleTokenizer(bpe_path=str(MERGES), context_length=40)


def read_clip(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Metadata and tensors of a file of weights."""
    with safe_open(str(path), 'pt') as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}


@pytest.fixture(scope='module')
def models():
    """The models that ship, by kind, built from what their files say."""
    models = {}
    for kind, path in WEIGHTS.items():
        metadata, state = read_clip(path)
        models[kind] = open_clip.CLIP(**json.loads(metadata['model_cfg']))
        models[kind].load_state_dict(state, strict=True)
        models[kind].eval()
    return models


@pytest.fixture
def crops_for(script):
    """A function that makes pictures of each name at the input size of a kind."""

    def make(kind: str, count: int, seed: int) -> torch.Tensor:
        size = script.VISION[kind]['image_size']
        return torch.cat([script.make_crops(name, count, seed, size) for name in NAMES])

    return make


@pytest.mark.parametrize('kind', KINDS)
def test_files_are_small_and_say_where_they_come_from(kind):
    assert WEIGHTS[kind].stat().st_size < 2.5e6 and MERGES.stat().st_size < 10_000
    metadata, _ = read_clip(WEIGHTS[kind])
    assert sorted(metadata) == ['command', 'model_cfg', 'seed']
    command = metadata['command'].split()
    assert command[:2] == ['python', 'tools/model_converters/train_mini_clip.py']
    # the ViT is the script's default
    assert ('--vision' in command) == (kind == 'resnet')


@pytest.mark.parametrize('kind', KINDS)
def test_config_of_the_script_is_that_of_the_weights_and_of_the_config(script, tokenizer, kind):
    config = script.model_config(tokenizer.vocab_size, kind)
    assert config == json.loads(read_clip(WEIGHTS[kind])[0]['model_cfg'])
    assert config == Config.fromfile(CONFIGS[kind]).model.classifier.clip_model.to_dict()
    assert config == json.loads(json.dumps(config)), 'a config that survives being written'
    assert script.model_config(10, kind) is not script.model_config(10, kind)
    config['vision_cfg']['width'] = 0
    assert script.VISION[kind]['width'] > 0, 'the table is not handed out'


def test_resnet_differs_from_the_vit_in_its_images_alone(script):
    vit, resnet = (script.model_config(600, kind) for kind in KINDS)
    assert vit.pop('vision_cfg') != resnet.pop('vision_cfg') and vit == resnet


@pytest.mark.parametrize('kind', KINDS)
def test_classifier_of_the_config_reads_the_weights_and_names_crops(models, crops_for, kind):
    """The classifier that the config describes embeds crops as the trained model does."""
    classifier = MODELS.build(Config.fromfile(CONFIGS[kind]).model.classifier)
    classifier.init_weights()
    assert classifier.state_dict() == {}, 'checkpoints leave CLIP out, so one fits both configs'
    for key, value in models[kind].state_dict().items():
        assert torch.equal(classifier.clip_model.state_dict()[key], value), key
    crops = crops_for(kind, 1, seed=5)
    assert classifier.image_size == crops.shape[-1]
    with torch.no_grad():
        embeddings = classifier.encode(crops.float())
        names = (embeddings @ classifier.text_embeddings(NAMES).T).argmax(1)
    assert (names == torch.arange(len(NAMES))).float().mean() >= 0.85
    classifier.train()
    with torch.no_grad():  # the statistics of batch norm stay those of the file
        torch.testing.assert_close(classifier.encode(crops[:3].float()), embeddings[:3])


def test_config_of_the_resnet_differs_in_the_classifier_alone():
    mini, resnet = (Config.fromfile(CONFIGS[kind]).to_dict() for kind in KINDS)
    changed = {
        key
        for key in mini['model']['classifier']
        if mini['model']['classifier'][key] != resnet['model']['classifier'][key]
    }
    assert changed == {'clip_model', 'init_cfg'}
    del mini['model']['classifier'], resnet['model']['classifier']
    assert mini == resnet


def test_resnet_has_statistics_of_its_pictures(models):
    assert isinstance(models['resnet'].visual, ModifiedResNet)
    layers = [m for m in models['resnet'].modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(layers) > 10
    seen = {int(layer.num_batches_tracked) for layer in layers}
    command = read_clip(WEIGHTS['resnet'])[0]['command'].split()
    assert seen == {int(command[command.index('--iters') + 1])}
    assert all((layer.running_mean != 0).any() for layer in layers)


def test_tokenizer_file_is_what_the_script_makes(script, tokenizer, models):
    assert MERGES.read_bytes() == script.tokenizer_file()
    assert not WEIGHTS['resnet'].with_name('clip_mini_rn_bpe.txt.gz').exists(), 'one for both'
    model = models['vit']
    merges = len(script.learn_merges([f'a {name}' for name in NAMES] + list(script.TEMPLATES)))
    assert 512 < tokenizer.vocab_size == model.vocab_size < 512 + 2 * merges
    assert '' not in tokenizer.encoder, 'a newline at the end of the file makes an empty token'
    assert tokenizer.sot_token_id == model.vocab_size - 2
    assert tokenizer.eot_token_id == model.vocab_size - 1


def test_words_of_captions_are_one_token_and_others_are_spelled(script, tokenizer):
    for template in script.TEMPLATES:
        for name in NAMES:
            caption = template.replace('{}', name)
            assert len(tokenizer.encode(caption)) == len(script._words(caption))
    text = 'a harmonica, 2 ukuleles & the Müller'
    ids = tokenizer.encode(text)
    assert len(ids) > len(text.split())
    assert tokenizer.decode(ids).replace(' ', '') == text.lower().replace(' ', '')


def test_merges_build_each_word_of_their_texts(script):
    texts = ['banana bandana', 'an ananas', 'aaaa aaa']
    merges = script.learn_merges(texts)
    assert len(set(merges)) == len(merges)
    for word in ' '.join(texts).split():
        parts = [*word[:-1], word[-1] + '</w>']
        for pair in merges:
            parts = script._merge(parts, pair)
        assert parts == [word + '</w>']
    assert script._merge(['a', 'a', 'a'], ('a', 'a')) == ['aa', 'a']


def test_frames_show_what_their_captions_say(script, tokenizer):
    frames, shown = script.make_frames(8, seed=3, size=24)
    again, same = script.make_frames(8, seed=3, size=24)
    other, _ = script.make_frames(8, seed=4, size=24)
    assert frames.shape == (8, 3, 24, 24) and frames.dtype == torch.uint8
    assert torch.equal(frames, again) and shown == same and not torch.equal(frames, other)
    assert {len(names) for names in shown} <= {1, 2, 3, 4} and all(len(set(names)) == len(names) for names in shown)
    rng = np.random.default_rng(0)
    captions = [script.caption(rng, shown[0]) for _ in range(20)]
    assert all(sum(name in text for name in NAMES) == len(shown[0]) for text in captions)
    assert len(set(captions)) > 5, 'templates and order change'
    longest = max(script.TEMPLATES, key=len).replace('{}', ', '.join(NAMES[:4]))
    assert len(tokenizer.encode(longest)) < 40 - 2, 'no caption is cut'


@pytest.mark.parametrize('kind', KINDS)
def test_masks_are_named_within_their_frames(script, kind):
    """One pass a frame, true masks: each is named by what it covers, not by what the frame shows most."""
    kinds = dict(vit='InstanceTokenClassifier', resnet='MaskPoolingClassifier')
    keys = dict(vit={}, resnet=dict(share_backbone=False, combine='mean'))
    cfg = Config.fromfile(CONFIGS[kind]).model.classifier
    kept = {key: cfg[key] for key in ('clip_model', 'init_cfg', 'tokenizer', 'templates')}
    classifier = MODELS.build(dict(kept, type=kinds[kind], **keys[kind]))
    classifier.init_weights()
    text, rng, hits = classifier.text_embeddings(NAMES), np.random.default_rng(11), []
    for _ in range(30):
        names = [str(name) for name in rng.permutation(NAMES)[:2]]
        frame, visible = script.draw_objects(rng, names)
        if any(seen is None for seen in visible):
            continue
        masks = torch.from_numpy(np.stack(visible)).float()[:, None] * 20 - 10  # (S, 1, H, W)
        frames = torch.from_numpy(frame).permute(2, 0, 1)[None]
        queries = InstanceData(scores=torch.ones(len(masks)), masks=masks)
        with torch.no_grad():
            embeddings, valid = classifier.embed_masks(frames, queries, frames.shape[-2:])
        guesses = (embeddings @ text.T).argmax(1)
        truth = torch.tensor([NAMES.index(name) for name in names])[valid[:, 0]]
        hits += (guesses == truth).tolist()
    assert len(hits) > 30 and np.mean(hits) >= LEAST_IN_FRAMES[kind]


@pytest.mark.parametrize('kind', KINDS)
def test_zero_shot_accuracy(script, tokenizer, models, crops_for, kind):
    """On new pictures, masks as bad as a segmentor's."""
    count, model = 8, models[kind]
    crops = crops_for(kind, count, seed=77)
    probabilities = script.classify(model, tokenizer, crops)
    truth = torch.arange(len(NAMES)).repeat_interleave(count)
    assert (probabilities.argmax(1) == truth).float().mean() >= 0.9
    assert probabilities.max(1).values.median() > 0.9
    # The pictures decide, not their order.
    flipped = script.classify(model, tokenizer, crops.flip(0)).flip(0)
    torch.testing.assert_close(flipped, probabilities, rtol=1e-3, atol=1e-4)
