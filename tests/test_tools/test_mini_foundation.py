# SPDX-License-Identifier: Apache-2.0
"""The mini world's CLAP, Grounding DINO and SAM: those that ship, and the script that trained them."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('transformers')
ROOT = Path(__file__).parents[2]
FOLDERS = {
    'clap': ROOT / 'ovavss_mm/mini_world/clap_mini',
    'grounding-dino': ROOT / 'ovavss_mm/mini_world/grounding_dino_mini',
    'sam': ROOT / 'ovavss_mm/mini_world/sam_mini',
}
KINDS = tuple(FOLDERS)


@pytest.fixture(scope='module')
def script():
    sys.path.insert(0, str(ROOT / 'tools/model_converters'))  # as when it is run
    path = ROOT / 'tools/model_converters/train_mini_foundation.py'
    spec = importlib.util.spec_from_file_location('train_mini_foundation', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def torch_settings():
    """Put torch's global settings back after a test."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def shipped(script):
    """The tasks with the models and processors that ship, by kind."""
    from transformers import AutoProcessor, ClapModel, GroundingDinoForObjectDetection, SamModel

    tasks = {kind: script.MODELS[kind](seed=0) for kind in KINDS}
    classes = dict(zip(KINDS, (ClapModel, GroundingDinoForObjectDetection, SamModel), strict=True))
    for kind, task in tasks.items():
        task.model, info = classes[kind].from_pretrained(FOLDERS[kind], local_files_only=True, output_loading_info=True)
        assert not any(info.values()), (kind, info)
        task.model.eval()
    tasks['grounding-dino'].processor = AutoProcessor.from_pretrained(FOLDERS['grounding-dino'])
    return tasks


def test_folders_are_small_and_complete():
    files = [path for folder in FOLDERS.values() for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in files) < 6e6
    for folder in FOLDERS.values():
        names = {path.name for path in folder.iterdir()}
        assert {'config.json', 'model.safetensors'} < names
        assert names & {'preprocessor_config.json', 'processor_config.json'}


def test_all_files_ship_with_the_package():
    kinds = {path.suffix for folder in FOLDERS.values() for path in folder.iterdir()}
    package_data = (ROOT / 'setup.cfg').read_text().split('[options.package_data]')[1].split('[')[0]
    for kind in kinds:
        assert f'*{kind}' in package_data
        assert f'*{kind}' in (ROOT / 'MANIFEST.in').read_text()


@pytest.mark.parametrize('kind', KINDS)
def test_what_prepares_the_input_is_that_of_the_script(script, kind, tmp_path):
    """Configs, tokenizers and processors that ship are those that the script makes."""
    task = script.MODELS[kind](seed=0)
    for part in (task.model, *task.processors):
        part.save_pretrained(tmp_path)
    names = {path.name for path in FOLDERS[kind].iterdir()}
    assert names == {path.name for path in tmp_path.iterdir()}
    for name in names - {'model.safetensors'}:
        shipped, made = (json.loads((folder / name).read_text()) for folder in (FOLDERS[kind], tmp_path))
        shipped.pop('transformers_version', None), made.pop('transformers_version', None)
        assert shipped == made, name


@pytest.mark.parametrize('kind', KINDS)
def test_equal_seeds_write_equal_bytes(script, kind, tmp_path, capsys, monkeypatch):
    task = script.MODELS[kind]
    monkeypatch.setattr(task, 'report', lambda self, seed: dict(figure=0.5))
    for out, seed in (('first', 0), ('second', 0), ('third', 1)):
        script.main([kind, '--out', str(tmp_path / out), '--iters', '2', '--scale', '0.01', '--seed', str(seed)])
    files = sorted(path.name for path in (tmp_path / 'first').iterdir())
    for name in files:
        first, second = ((tmp_path / out / name).read_bytes() for out in ('first', 'second'))
        assert first == second, name
    weights = [(tmp_path / out / 'model.safetensors').read_bytes() for out in ('first', 'third')]
    assert weights[0] != weights[1]
    assert 'held-out: figure 0.5000' in capsys.readouterr().out


def test_wrong_arguments_are_named(script, capsys):
    with pytest.raises(SystemExit):
        script.main(['clap', '--out', 'unused', '--iters', '0'])
    assert '--iters must be at least 1, got 0' in capsys.readouterr().err


def test_clap_names_what_sounds(shipped):
    figures = shipped['clap'].report(seed=77, count=6)
    assert figures['single'] >= 0.95 and figures['first_of_two'] >= 0.95 and figures['both'] >= 0.9


def test_clap_reads_any_text(shipped):
    """Unknown words are spelled; padding does not matter."""
    clap = shipped['clap']
    with torch.no_grad():
        together = clap.text(['red star', 'an ukulele, the Müller & 2 harmonicas'])
        alone = clap.text(['red star'])
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(together).all()
    assert clap.tokenizer.unk_token_id not in clap.tokenizer('Müller 象')['input_ids']


def test_seconds_have_one_source_or_several(script):
    sound = sys.modules['mini_foundation_sound']
    silent = sound.sample_second(np.random.default_rng(0), [])
    one = sound.sample_second(np.random.default_rng(0), ['red-star'])
    assert silent.shape == one.shape == (16000,) and one.dtype == np.float32
    assert np.abs(silent).max() < 0.05 < np.abs(one).max() <= 1
    for wave in (silent, one):  # 16 bit
        np.testing.assert_allclose(wave * 32767, np.rint(wave * 32767), atol=2e-3)


def test_grounding_dino_finds_names_and_only_these(shipped):
    figures = shipped['grounding-dino'].report(seed=77, count=40)
    assert figures['recall'] >= 0.8 and figures['false'] <= 0.15 and figures['false_of_colour'] <= 0.3


def test_grounding_dino_has_berts_separators(shipped):
    tokenizer = shipped['grounding-dino'].processor.tokenizer
    assert tokenizer('red star.')['input_ids'][0::3] == [101, 1012]
    assert tokenizer('red star?')['input_ids'][-2:] == [1029, 102]
    assert tokenizer.decode(tokenizer('harmonica.')['input_ids'], skip_special_tokens=True) == 'harmonica.'


def test_asked_names_are_there_half_of_the_time(script):
    sight = sys.modules['mini_foundation_sight']
    rng, shown = np.random.default_rng(0), ['red-star', 'blue-disc']
    asked = [sight.ask(rng, shown) for _ in range(400)]
    assert 0.4 < np.mean([name in shown for name in asked]) < 0.6
    absent = [name for name in asked if name not in shown]
    near = [any(part in shown[0] + shown[1] for part in name.split('-')) for name in absent]
    assert np.mean(near) > 0.7 and len(set(absent)) > 10


def test_sam_masks_boxes_and_refines_masks(shipped):
    figures = shipped['sam'].report(seed=77, count=60)
    assert figures['box'] >= 0.87 and figures['box_and_prompt'] >= 0.9
    assert figures['box_and_prompt'] > figures['prompt'] + 0.1
    assert figures['error_of_score'] < 0.1


def test_sam_reads_half_size_logits(script):
    sight = sys.modules['mini_foundation_sight']
    logits = torch.full((2, 96, 128), -3.0)
    low = sight.low_resolution(logits)
    assert low.shape == (2, 1, 64, 64)
    assert (low[:, :, :48] == -3).all() and (low[:, :, 48:] == 0).all()


def test_boxes_are_those_of_masks(script):
    sight = sys.modules['mini_foundation_sight']
    mask = np.zeros((96, 128), bool)
    mask[10:20, 30:50] = True
    assert sight.boxes_of([mask]).tolist() == [[30, 10, 50, 20]]
    assert sight.boxes_of([]).shape == (0, 4)
