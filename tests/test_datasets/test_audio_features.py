# SPDX-License-Identifier: Apache-2.0
"""Embeddings in a file: what is read is what was written, under the right weights only."""

import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

from ovavss_mm.datasets import LoadClipAudioFeatures, SwapClipAudio
from ovavss_mm.datasets.audio_features import FORMAT, AudioFeatures, audio_key, features_meta

RNG = np.random.default_rng(0)
ROWS = {
    'silence': RNG.random((1, 4), np.float32),
    'v1s/a': RNG.random((5, 4), np.float32),
    'v2/b': RNG.random((10, 4), np.float32),
}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / 'weights.pth'
    path.write_bytes(b'some weights')
    return str(path)


@pytest.fixture
def features(tmp_path, weights):
    path = tmp_path / 'f.safetensors'
    save_file(ROWS, path, features_meta(weights))
    return str(path)


def test_sha256(weights):
    # printf 'some weights' | sha256sum
    assert features_meta(weights)[FORMAT][:8] == 'a0c76a31'


def test_key():
    assert audio_key('/data/archive/v1s/some_uid/audio.wav') == 'v1s/some_uid'
    assert audio_key('/data/archive/v1s/some_uid/other.MP3') == 'v1s/some_uid'


def test_round_trip(features, weights):
    reader = AudioFeatures(features, weights)
    for key, rows in ROWS.items():
        if key != 'silence':
            found = reader.rows(key, len(rows))
            assert found.dtype == np.float32
            assert np.array_equal(found, rows)
    assert np.array_equal(reader.rows('v2/b', 7), ROWS['v2/b'][:7])
    assert np.array_equal(reader.rows(None, 3), ROWS['silence'].repeat(3, 0))


class Always:
    """Other sounds of which one is drawn."""

    def __init__(self, path):
        self.draw = lambda clip, rng: path


def test_transform(features, weights):
    load = LoadClipAudioFeatures(features, weights)
    results = {
        'audio_path': '/x/v2/b/audio.wav',
        'other_sounds': Always('/x/v1s/a/audio.wav'),
        'clip_id': 'b',
        'num_frames': 5,
        'frame_inds': np.array([0, 2, 4]),
    }
    assert np.array_equal(load(dict(results))['audio'], ROWS['v2/b'][[0, 2, 4]])
    swapped = load(SwapClipAudio('other')(dict(results)))['audio']
    assert np.array_equal(swapped, ROWS['v1s/a'][[0, 2, 4]])
    silent = load(SwapClipAudio('silence')(dict(results)))['audio']
    assert np.array_equal(silent, ROWS['silence'].repeat(3, 0))


@pytest.mark.parametrize('source', ['noise', 'off_screen'])
def test_sounds_of_no_file_are_refused(features, weights, source):
    load = LoadClipAudioFeatures(features, weights)
    results = dict(audio_path='/x/v2/b/audio.wav', other_sounds=Always('/x/v1s/a/audio.wav'), clip_id='b', num_frames=5)
    with pytest.raises(LookupError, match=rf"the sound '{source}.*waveforms.*f\.safetensors.*LoadClipAudio"):
        load(SwapClipAudio(source)(results))


def test_goes_to_other_processes(features, weights):
    load = LoadClipAudioFeatures(features, weights)
    results = {'audio_path': 'x/v1s/a/audio.wav', 'num_frames': 5}
    before = load(dict(results))['audio']
    assert np.array_equal(pickle.loads(pickle.dumps(load))(dict(results))['audio'], before)


def test_other_weights_are_refused(features, weights, tmp_path):
    other = tmp_path / 'other.pth'
    other.write_bytes(b'other weights')
    with pytest.raises(ValueError, match=r'f\.safetensors were made with other weights .*extract'):
        LoadClipAudioFeatures(features, str(other))
    with pytest.raises(FileNotFoundError, match=r'no weights at .*gone\.pth'):
        LoadClipAudioFeatures(features, str(tmp_path / 'gone.pth'))


def test_other_files_are_refused(weights, tmp_path):
    path = tmp_path / 'f.safetensors'
    with pytest.raises(FileNotFoundError, match=r'no audio embeddings at .*f\.safetensors'):
        AudioFeatures(str(path), weights)
    path.write_bytes(b'nothing of the kind')
    with pytest.raises(ValueError, match='is no safetensors file'):
        AudioFeatures(str(path), weights)
    save_file(ROWS, path)
    with pytest.raises(ValueError, match='no file of audio embeddings'):
        AudioFeatures(str(path), weights)


def test_missing_and_changed_clips(features, weights):
    reader = AudioFeatures(features, weights)
    with pytest.raises(LookupError, match='no embeddings of the sound of clip v2/x'):
        reader.rows('v2/x', 5)
    with pytest.raises(ValueError, match='5 rows for clip v1s/a, 6 frames'):
        reader.rows('v1s/a', 6)
