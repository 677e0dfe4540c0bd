# SPDX-License-Identifier: Apache-2.0
"""Sound: from the wav file of a clip to a log-mel patch a frame."""

import io

import numpy as np
import soundfile
from mmcv.transforms import BaseTransform
from mmengine.fileio import get
from mmseg.registry import TRANSFORMS

from ..audio_features import AudioFeatures, audio_key
from .sampling import frame_inds

SAMPLE_RATE = 16000  # Hz; sound of any other rate is resampled to it
PATCH_SAMPLES = 15360  # 0.96 s
# The last of the 96 spectra of a patch starts 10 ms before its end and is of 25 ms.
EXTRA_SAMPLES = 240


def samples_needed(num_patches: int, sample_rate: int = SAMPLE_RATE) -> int:
    """Samples that ``num_patches`` log-mel patches are made of, at ``sample_rate`` Hz."""
    samples = num_patches * PATCH_SAMPLES + EXTRA_SAMPLES
    return -(-samples * sample_rate // SAMPLE_RATE)


def log_mel_patches(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Log-mel patches of 0.96 s each, by VGGish's own front end.

    Args:
        waveform (np.ndarray): float (n,) or (n, channels) in [-1, 1], long enough for one patch.
        sample_rate (int): in Hz, any.

    Returns:
        np.ndarray: float32 (patches, 1, 96, 64): 96 steps of 10 ms, 64 bands, natural logarithm of
        the magnitude plus 0.01. What is left over at the end is dropped.
    """
    # Imported here, as it brings in a just-in-time compiler.
    from torchvggish.vggish_input import waveform_to_examples

    patches = waveform_to_examples(waveform, sample_rate, return_tensor=False)
    return patches[:, None].astype(np.float32)


def read_wav(path: str) -> tuple[np.ndarray, int]:
    """Read a sound file.

    Returns:
        tuple: float64 (n,) or (n, channels) in [-1, 1], and the sample rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file is no sound that can be read.
        ValueError: it has no samples, or some that are not finite.
    """
    content = get(path)
    try:
        waveform, sample_rate = soundfile.read(io.BytesIO(content), dtype='float64')
    except soundfile.SoundFileError as err:
        # Without the address of the buffer, which str(err) has.
        reason = getattr(err, 'error_string', err)
        raise OSError(f'cannot read the sound {path}: {reason}') from err
    if not len(waveform):
        raise ValueError(f'{path} has no samples')
    wrong = np.size(waveform) - np.count_nonzero(np.isfinite(waveform))
    if wrong:
        raise ValueError(f'{path}: {wrong} samples are not finite')
    return waveform, sample_rate


@TRANSFORMS.register_module()
class LoadClipAudio(BaseTransform):
    """Read the sound of a clip as log-mel patches.

    Files of any sample rate, mono or stereo, 8 to 32 bit or float will do. Patch i, seconds 0.96 i
    to 0.96 (i + 1), goes with frame i. Sound longer than the clip is cut; the data set logs at its
    start how many clips have shorter or much longer sound than frames.

    Reads audio_path (None: silence), num_frames, frame_inds (default: all); sets audio, float32
    (T, 1, 96, 64), row t for frame_inds[t].

    Args:
        on_short (str): what to do with sound too short for the frames of the clip: 'pad' it with
            silence, or 'raise' an error.
    """

    def __init__(self, on_short: str = 'pad'):
        if on_short not in ('pad', 'raise'):
            raise ValueError(f"on_short must be 'pad' or 'raise', got {on_short!r}")
        self.on_short = on_short

    def transform(self, results: dict) -> dict:
        """Set audio.

        Raises:
            OSError: the file is missing or cannot be read.
            ValueError: it is empty, has samples that are not finite, or is too short for its frames
                and on_short is 'raise'.
        """
        num_patches = results['num_frames']
        path = results['audio_path']
        if path is None:
            waveform = np.zeros(samples_needed(num_patches))
            sample_rate = SAMPLE_RATE
        else:
            waveform, sample_rate = read_wav(path)
            waveform = self._lengthen(waveform, sample_rate, num_patches, path)
        patches = log_mel_patches(waveform, sample_rate)
        results['audio'] = patches[frame_inds(results)]
        return results

    def _lengthen(
        self, waveform: np.ndarray, sample_rate: int, num_patches: int, path: str
    ) -> np.ndarray:
        """The waveform, padded with silence if it is too short and that is allowed."""
        missing = samples_needed(num_patches, sample_rate) - len(waveform)
        if missing <= 0:
            return waveform
        if self.on_short == 'raise':
            found, needed = len(waveform), len(waveform) + missing
            raise ValueError(
                f'{path} has {found / sample_rate:.3f} s of sound, {num_patches} frames need '
                f"{needed / sample_rate:.3f} s; LoadClipAudio(on_short='pad') fills up with silence"
            )
        return np.pad(waveform, [(0, missing)] + [(0, 0)] * (waveform.ndim - 1))

    def __repr__(self) -> str:
        """Name and arguments."""
        return f'{type(self).__name__}(on_short={self.on_short!r})'


@TRANSFORMS.register_module()
class LoadClipAudioFeatures(BaseTransform):
    """Look the sound of a clip up among embeddings that were extracted before.

    Takes the place of :class:`LoadClipAudio`, and gives what the audio encoder would make of its
    patches (to 1e-5). ``tools/dataset_converters/extract_vggish.py`` makes the file.

    Reads audio_path (None: silence; else its last two folders, ``subset/uid``, are the key),
    num_frames, frame_inds (default: all); sets audio, float32 (T, Da), row t for frame_inds[t].

    Args:
        features (str): the file of embeddings.
        weights (str): the file of weights of the audio encoder. It is read at once, and must be the
            one with which the embeddings were made.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the first is no file of embeddings, or they were made with other weights.
    """

    def __init__(self, features: str, weights: str):
        self.features = AudioFeatures(features, weights)

    def transform(self, results: dict) -> dict:
        """Set audio.

        Raises:
            LookupError: the clip is not in the file.
            ValueError: it had fewer frames when its embeddings were extracted.
        """
        path = results['audio_path']
        rows = self.features.rows(path and audio_key(path), results['num_frames'])
        results['audio'] = rows[frame_inds(results)]
        return results

    def __repr__(self) -> str:
        """Name and arguments."""
        return (
            f'{type(self).__name__}(features={self.features.path!r}, '
            f'weights={self.features.weights!r})'
        )


@TRANSFORMS.register_module()
class SwapClipAudio(BaseTransform):
    """Take away a clip's own sound, to see how much a model listens. Goes before LoadClipAudio.

    Reads other_audio_path; sets audio_path.

    Args:
        source (str): 'other' for the sound of another clip of the split (silence if there is none),
            'silence' for none.
    """

    def __init__(self, source: str):
        if source not in ('other', 'silence'):
            raise ValueError(f"source must be 'other' or 'silence', got {source!r}")
        self.source = source

    def transform(self, results: dict) -> dict:
        """Set audio_path.

        Raises:
            ValueError: the sound has been loaded already.
        """
        if 'audio' in results:
            raise ValueError('SwapClipAudio must come before LoadClipAudio: the sound is loaded')
        results['audio_path'] = results['other_audio_path'] if self.source == 'other' else None
        return results

    def __repr__(self) -> str:
        """Name and arguments."""
        return f'{type(self).__name__}(source={self.source!r})'
