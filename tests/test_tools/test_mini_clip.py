# SPDX-License-Identifier: Apache-2.0
"""The mini world's CLIP: the one that ships, and the script that trained it."""

import importlib.util
import json
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors import safe_open

import ovavss_mm  # noqa: F401
from ovavss_mm.datasets.mini_world.names import NAMES

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / 'configs/mini/clip_mini.safetensors'
MERGES = ROOT / 'configs/mini/clip_mini_bpe.txt.gz'


@pytest.fixture(scope='module')
def script():
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


@pytest.fixture(scope='module')
def model():
    with safe_open(str(WEIGHTS), 'pt') as file:
        config = json.loads(file.metadata()['model_cfg'])
        state = {key: file.get_tensor(key) for key in file.keys()}
    model = open_clip.CLIP(**config)
    model.load_state_dict(state, strict=True)
    return model.eval()


def test_files_are_small_and_say_where_they_come_from():
    assert WEIGHTS.stat().st_size < 2.5e6 and MERGES.stat().st_size < 10_000
    with safe_open(str(WEIGHTS), 'pt') as file:
        metadata = file.metadata()
    assert sorted(metadata) == ['command', 'model_cfg', 'seed']
    assert 'train_mini_clip.py' in metadata['command']


def test_tokenizer_file_is_what_the_script_makes(script, tokenizer, model):
    assert MERGES.read_bytes() == script.tokenizer_file()
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


def test_zero_shot_accuracy(script, tokenizer, model):
    """On new pictures, masks as bad as a segmentor's."""
    count = 8
    crops = torch.cat([script.make_crops(name, count, seed=77) for name in NAMES])
    probabilities = script.classify(model, tokenizer, crops)
    truth = torch.arange(len(NAMES)).repeat_interleave(count)
    assert (probabilities.argmax(1) == truth).float().mean() >= 0.9
    assert probabilities.max(1).values.median() > 0.9
    # The pictures decide, not their order.
    flipped = script.classify(model, tokenizer, crops.flip(0)).flip(0)
    torch.testing.assert_close(flipped, probabilities, rtol=1e-3, atol=1e-4)


def test_crops_are_black_around_the_object(script):
    crops = script.make_crops('yellow-disc', 6, seed=1)
    assert crops.shape == (6, 3, 32, 32) and crops.dtype == torch.uint8
    assert torch.equal(crops, script.make_crops('yellow-disc', 6, seed=1))
    assert not torch.equal(crops, script.make_crops('yellow-disc', 6, seed=2))
    corners = crops[..., [0, 0, -1, -1], [0, -1, 0, -1]].float()
    assert corners.median() < 30 and crops[..., 12:20, 12:20].float().mean() > 60


def test_turns_are_the_eight_of_a_square(script):
    crop = torch.arange(9).view(1, 1, 3, 3)
    turned = script.turn(crop.repeat(200, 1, 1, 1), script.np.random.default_rng(0))
    views = {tuple(t.flatten().tolist()) for t in turned}
    turns = [crop.rot90(k, (2, 3)) for k in range(4)]
    turns += [view.flip(-1) for view in turns]
    assert views == {tuple(view.flatten().tolist()) for view in turns}


def test_training_is_the_same_each_time(script, tmp_path, torch_settings):
    sizes = ['--iters', '2', '--crops', '2', '--test-crops', '1']
    for folder in ('one', 'two'):
        script.main(['--out', str(tmp_path / folder / 'clip.safetensors'), *sizes])
    script.main(['--out', str(tmp_path / 'three' / 'clip.safetensors'), *sizes, '--seed', '1'])
    one, two, three = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        for folder in ('one', 'two', 'three')
    )
    assert sorted(one) == ['clip.safetensors', 'clip_bpe.txt.gz']
    assert one == two
    assert one['clip_bpe.txt.gz'] == three['clip_bpe.txt.gz']
    assert one['clip.safetensors'] != three['clip.safetensors']


def test_serialised_weights_load(script, tmp_path):
    data = script.serialise({'b': torch.ones(3), 'a': torch.arange(4)}, dict(z='1', y='é'))
    (tmp_path / 'x.safetensors').write_bytes(data)
    with safe_open(str(tmp_path / 'x.safetensors'), 'pt') as file:
        assert file.metadata() == dict(z='1', y='é')
        assert torch.equal(file.get_tensor('b'), torch.ones(3))
        assert torch.equal(file.get_tensor('a'), torch.arange(4))


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--out', 'x.pth'], r'\.safetensors'),
        (['--out', 'x.safetensors', '--iters', '0'], '--iters'),
        (['--out', 'x.safetensors', '--crops', '-1'], '--crops'),
        (['--out', 'x.safetensors', '--test-crops', '0'], '--test-crops'),
    ],
)
def test_wrong_arguments_are_named(script, args, message, capsys):
    with pytest.raises(SystemExit):
        script.main(args)
    assert message.replace('\\', '') in capsys.readouterr().err
