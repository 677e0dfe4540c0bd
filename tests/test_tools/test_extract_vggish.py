# SPDX-License-Identifier: Apache-2.0
"""Embeddings that are extracted are those of the online path, and a killed run goes on."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import archive
import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from ovavss_mm.datasets import AVSBenchOVDataset, IndexedClip, LoadClipAudio, LoadClipAudioFeatures, write_index
from ovavss_mm.datasets.audio_features import AudioFeatures
from ovavss_mm.models import VGGishEncoder

SCRIPT = Path(__file__).parents[2] / 'tools/dataset_converters/extract_vggish.py'
# Of archive.CLIPS, all but those of v1m.
KEYS = sorted(f'{c.subset}/{c.uid}' for c in archive.CLIPS if c.subset != 'v1m')


@pytest.fixture(scope='module')
def script():
    spec = importlib.util.spec_from_file_location('extract_vggish', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    """An archive with sound that is too short, of another rate, and none at all."""
    root = archive.write_archive(tmp_path_factory.mktemp('data') / 'archive')
    rng = np.random.default_rng(0)
    for uid, seconds, rate in (('dog_guitar', 6.5, 16000), ('test_horse', 12, 22050)):
        wave = rng.uniform(-0.5, 0.5, (round(seconds * rate), 2))
        soundfile.write(root / 'v2' / uid / 'audio.wav', wave, rate)
    return root


class TinyEncoder(nn.Module):
    """Of VGGish's interface: log-mel patches in, an embedding each out."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(96 * 64, 8, generator=generator) / 100)

    def forward(self, audio):
        return audio.flatten(1) @ self.weight


@pytest.fixture
def weights(tmp_path) -> str:
    """A file that stands for the weights of the tiny encoder."""
    (tmp_path / 'weights.pth').write_bytes(b'tiny')
    return str(tmp_path / 'weights.pth')


def extract(script, root, path, weights, keys=KEYS, workers=0):
    writer = script.FeatureWriter(path, weights)
    script.extract(str(root), keys, TinyEncoder(), writer, workers)
    writer.finish()
    return writer


def results_of(root, key) -> dict:
    path = root / key / 'audio.wav'
    frames = archive.NUM_FRAMES[key.split('/')[0]]
    return {'audio_path': str(path) if path.exists() else None, 'num_frames': frames}


# --- VGGish itself, once: its weights take 288 MB
def test_vggish_equals_the_online_path(script, root, tmp_path, capsys):
    checkpoint, out = tmp_path / 'vggish.pth', tmp_path / 'out' / 'vggish.safetensors'
    drawn = VGGishEncoder()
    with torch.no_grad():  # so that embeddings are of the order of 1
        for parameter in drawn.parameters():
            bound = (4 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.05
            parameter.uniform_(-bound, bound)
    torch.save(drawn.vggish.state_dict(), checkpoint)
    index = tmp_path / 'index.txt'
    names = {'v2/dog_guitar': 10, 'v1s/test_silent': 5, 'v2/test_horse': 10}
    write_index(index, 'test', [IndexedClip(*k.split('/'), n, ('dog',)) for k, n in names.items()])
    args = ['--checkpoint', checkpoint, '--index', index, '--workers', '0', '--out']
    script.main([str(root), *map(str, args), f'{out.parent}{os.sep}'])
    assert f'{out}: 3 clips' in capsys.readouterr().out
    load = LoadClipAudioFeatures(str(out), str(checkpoint))
    for key in names:
        results = results_of(root, key) | {'frame_inds': np.array([0, 2, 4])}
        online = drawn(torch.from_numpy(LoadClipAudio()(dict(results))['audio'])).numpy()
        found = load(dict(results))['audio']
        assert found.dtype == np.float32 and found.shape == (3, 128)
        assert online.std() > 0.05
        assert np.abs(found - online).max() < 1e-5
        # The encoder of the model lets them pass.
        assert torch.equal(drawn(torch.from_numpy(found)), torch.from_numpy(found))
    with checkpoint.open('ab') as file:
        file.write(b'more')
    with pytest.raises(ValueError, match='made with other weights'):
        LoadClipAudioFeatures(str(out), str(checkpoint))
    with pytest.raises(SystemExit, match='error: .*made with other weights'):
        script.main([str(root), *map(str, args), str(out)])
    checkpoint.unlink()


# --- a tiny encoder for the rest
def test_every_clip_of_the_rule_and_more(script, root, tmp_path, weights):
    """All of v1s and v2, whatever the names: the file serves any division into base and novel."""
    assert script.clip_keys(str(root), None) == KEYS
    writer = extract(script, root, tmp_path / 'f.safetensors', weights)
    assert writer.done == {*KEYS, 'silence'}
    load = LoadClipAudioFeatures(str(tmp_path / 'f.safetensors'), weights)
    for key in KEYS:
        results = results_of(root, key)
        with torch.no_grad():
            online = TinyEncoder()(torch.from_numpy(LoadClipAudio()(dict(results))['audio']))
        assert np.abs(load(results)['audio'] - online.numpy()).max() < 1e-5


def test_workers_give_the_same(script, root, tmp_path, weights):
    for workers in (0, 2):
        extract(script, root, tmp_path / str(workers), weights, workers=workers)
    assert (tmp_path / '0').read_bytes() == (tmp_path / '2').read_bytes()


def test_in_the_pipeline(script, root, tmp_path, weights):
    """Packed by the pipeline as (T, Da), through the data set, with the sound of another clip."""
    extract(script, root, tmp_path / 'f.safetensors', weights)
    features = dict(features=str(tmp_path / 'f.safetensors'), weights=weights)
    steps = [
        dict(type='SampleClipFrames', num_frames=5),
        dict(type='LoadClipFrames'),
        dict(type='SwapClipAudio', source='other'),
        dict(type='LoadClipAudioFeatures', **features),
        dict(type='PackAVSegInputs'),
    ]
    pipeline = [dict(step, _scope_='mmseg') for step in steps]
    dataset = AVSBenchOVDataset(str(root), 'test', base_names='base_names.txt', pipeline=pipeline, test_mode=True)
    audio = dataset[0]['inputs']['audio']
    assert audio.shape == (5, 8) and audio.dtype == torch.float32


def test_bad_sounds_are_named_and_the_others_kept(script, tmp_path, weights):
    own = archive.write_archive(tmp_path / 'own', archive.CLIPS[:3])
    (own / 'v2' / 'horse_1' / 'audio.wav').write_bytes(b'no sound')
    keys = script.clip_keys(str(own), None)
    writer = script.FeatureWriter(tmp_path / 'f.safetensors', weights)
    with pytest.raises(ValueError, match=r'(?s)1 of 3 sounds .*horse_1/audio\.wav.*--fix-index'):
        script.extract(str(own), keys, TinyEncoder(), writer, 0)
    assert not (tmp_path / 'f.safetensors').exists()
    again = script.FeatureWriter(tmp_path / 'f.safetensors', weights)
    assert again.done == {'silence', 'v1s/bird_0', 'v2/dog_guitar'}


def test_writer_goes_on(script, weights, tmp_path):
    path = tmp_path / 'f.safetensors'
    rows = {k: np.random.rand(n, 4).astype(np.float32) for k, n in (('silence', 1), ('v1s/a', 5), ('v2/b', 10))}
    script.FeatureWriter(path, weights).add({'silence': rows['silence']})
    assert not path.exists()
    # What a killed process leaves of a part does not count.
    (tmp_path / 'f.safetensors.parts' / '.000001.safetensors.77.tmp').write_bytes(b'half')
    second = script.FeatureWriter(path, weights)
    assert second.done == {'silence'}
    second.add({'v1s/a': rows['v1s/a']})
    size = second.finish()
    assert size == path.stat().st_size
    assert list(tmp_path.glob('*f.safetensors*')) == [path]
    # A complete file is added to.
    third = script.FeatureWriter(path, weights)
    assert third.done == {'silence', 'v1s/a'}
    before = path.read_bytes()
    third.finish()
    assert path.read_bytes() == before
    third.add({'v2/b': rows['v2/b']})
    third.finish()
    assert np.array_equal(AudioFeatures(str(path), weights).rows('v2/b', 10), rows['v2/b'])
    assert np.array_equal(AudioFeatures(str(path), weights).rows('v1s/a', 5), rows['v1s/a'])


def test_what_is_there_is_not_extracted_again(script, root, tmp_path, weights):
    path = tmp_path / 'f.safetensors'
    extract(script, root, path, weights, keys=KEYS[:4])
    before = path.read_bytes()
    writer = script.FeatureWriter(path, weights)
    script.extract(str(root), KEYS[:4], None, writer, 0)  # an encoder is not needed
    writer.finish()
    assert path.read_bytes() == before
    extract(script, root, path, weights)
    assert script.FeatureWriter(path, weights).done == {*KEYS, 'silence'}


DRIVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import test_extract_vggish as test
import importlib.util
spec = importlib.util.spec_from_file_location('tool', test.SCRIPT)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
tool.PART = 2
once = tool.embed
def slowly(*args):
    time.sleep(0.2)
    return once(*args)
tool.embed = slowly
test.extract(tool, test.Path(sys.argv[2]), *sys.argv[3:], workers=2)
"""


def test_killed_run_goes_on(script, root, tmp_path, weights, monkeypatch):
    """After SIGKILL there are whole parts and no file; the next run makes that of one run."""
    path = tmp_path / 'out' / 'f.safetensors'
    parts = path.with_name('f.safetensors.parts')
    where = [str(Path(__file__).parent), str(root), str(path), weights]
    environment = os.environ | {'PYTHONPATH': str(Path(archive.__file__).parent)}
    process = subprocess.Popen(
        [sys.executable, '-c', DRIVER, *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(parts.glob('0*.safetensors'))) < 3:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)  # its workers too, which would outlive it
    assert process.wait() == -signal.SIGKILL, 'it ended before it could be killed'
    assert not path.exists()
    done = script.FeatureWriter(path, weights).done
    assert 5 <= len(done) < len(KEYS)
    seen = []
    once = script.read_sound
    monkeypatch.setattr(script, 'read_sound', lambda root, key: seen.append(key) or once(root, key))
    extract(script, root, path, weights)
    assert sorted(seen) == sorted(set(KEYS) - done)
    extract(script, root, tmp_path / 'whole', weights)
    assert path.read_bytes() == (tmp_path / 'whole').read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ['f.safetensors']
    assert AudioFeatures(str(path), weights).rows(KEYS[0], 5).shape == (5, 8)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['ROOT', '--checkpoint', 'gone.pth'], 'no weights at gone.pth'),
        (['gone', '--checkpoint', 'W'], r'gone/metadata\.csv'),
        (['ROOT', '--checkpoint', 'W', '--index', 'gone.txt'], r'no index gone\.txt'),
    ],
)
def test_wrong_arguments(script, root, weights, tmp_path, args, message):
    args = [arg.replace('ROOT', str(root)).replace('W', weights) for arg in args]
    with pytest.raises(SystemExit, match=f'error: .*{message}'):
        script.main([*args, '--out', str(tmp_path / 'f.safetensors')])
    assert sorted(p.name for p in tmp_path.iterdir()) == ['weights.pth']
