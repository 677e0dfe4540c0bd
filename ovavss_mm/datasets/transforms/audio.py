# SPDX-License-Identifier: Apache-2.0
"""Sound: from the wav file of a clip to a log-mel patch a frame."""

import hashlib
import io
import os.path as osp

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
NOISE_RMS = 0.1  # of full scale, which is 1; about as loud as music
# A small file may say of itself what would fill the memory; beyond these limits none is read.
RATES = (1000, 384_000)  # Hz
MAX_CHANNELS = 32
MAX_SECONDS = 3600
MAX_VALUES = 2**27  # samples of all channels together, 1 GiB
_BLOCK = 2**16  # samples that are read at a time
SOURCES = ('own', 'silence', 'other', 'noise', 'off_screen')


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
        ValueError: it has no samples, some that are not finite, or is beyond RATES, MAX_CHANNELS,
            MAX_SECONDS or MAX_VALUES.
    """
    if osp.exists(path) and not osp.isfile(path):  # a pipe would be waited for
        raise OSError(f'cannot read the sound {path}: it is no regular file')
    content = get(path)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            sample_rate = file.samplerate
            waveform = _read_within_limits(path, file)
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


def _read_within_limits(path: str, file: soundfile.SoundFile) -> np.ndarray:
    """All samples of an open file, as many as there are, whatever its header says.

    Raises:
        ValueError: more than what the limits allow.
    """
    rate, channels = file.samplerate, file.channels
    if not RATES[0] <= rate <= RATES[1] or channels > MAX_CHANNELS:
        raise ValueError(
            f'{path} has {channels} channels of {rate} Hz; up to {MAX_CHANNELS} channels of '
            f'{RATES[0]} to {RATES[1]} Hz are read'
        )
    most = min(MAX_SECONDS * rate, MAX_VALUES // channels)
    if 0 <= file.frames <= _BLOCK * 64:
        return file.read(dtype='float64')
    parts, total = [], 0
    while len(part := file.read(_BLOCK, dtype='float64')):
        parts.append(part)
        total += len(part)
        if total > most:
            raise ValueError(
                f'{path} has more than {most / rate:.0f} s of sound: up to {MAX_SECONDS} s and '
                f'{MAX_VALUES:,} samples are read'
            )
    return np.concatenate(parts) if parts else np.zeros(0)


def white_noise(clip_id: str, num_samples: int, rms: float = NOISE_RMS) -> np.ndarray:
    """White noise that belongs to a clip: the same in any order, batch and process.

    Args:
        clip_id (str): all that the noise depends on, but for its length and loudness.
        num_samples (int): its length, at any sample rate.
        rms (float): root mean square, which it has exactly; full scale is 1.

    Returns:
        np.ndarray: float64 (num_samples,), normally distributed.
    """
    # The legacy generator, as its stream is the same in every version of NumPy.
    seed = np.frombuffer(hashlib.sha256(clip_id.encode()).digest(), '<u4')
    wave = np.random.RandomState(seed).standard_normal(num_samples)
    return wave * (rms / np.sqrt(np.mean(wave**2)))


def to_mono(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """One channel at 16 kHz, as VGGish's front end makes it.

    Args:
        waveform (np.ndarray): float (n,) or (n, channels), of which the mean is taken.
        sample_rate (int): in Hz, any; with n it must be enough for a sample at 16 kHz.

    Returns:
        np.ndarray: float (floor(n * 16000 / sample_rate),).
    """
    if waveform.ndim > 1:
        waveform = waveform.mean(axis=1)
    if sample_rate == SAMPLE_RATE:
        return waveform
    import resampy  # here, as it brings in a just-in-time compiler

    return resampy.resample(waveform, sample_rate, SAMPLE_RATE)


def _pad(waveform: np.ndarray, length: int) -> np.ndarray:
    """The waveform, filled up with silence to at least ``length`` samples."""
    missing = max(length - len(waveform), 0)
    return np.pad(waveform, [(0, missing)] + [(0, 0)] * (waveform.ndim - 1))


@TRANSFORMS.register_module()
class LoadClipAudio(BaseTransform):
    """Read the sound of a clip as log-mel patches.

    Files of any sample rate, mono or stereo, 8 to 32 bit or float will do. Patch i, seconds 0.96 i
    to 0.96 (i + 1), goes with frame i. Sound longer than the clip is cut; the data set logs at its
    start how many clips have shorter or much longer sound than frames.

    Reads audio_path (None: silence), num_frames, frame_inds (default: all); sets audio, float32
    (T, 1, 96, 64), row t for frame_inds[t]. Two keys are there only where :class:`SwapClipAudio`
    has set them: with audio_noise (float, a root mean square), :func:`white_noise` of clip_id is
    heard in place of audio_path; with extra_audio_path (str | None), the sound in that file as
    well. The two are added as mono at 16 kHz, the extra one cut or padded with silence to the
    length of the clip's own (on_short is about the latter alone); the sum is not clipped.

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
            OSError: a file is missing or cannot be read.
            ValueError: it is empty, has samples that are not finite, or is too short for its frames
                and on_short is 'raise'.
        """
        waveform, sample_rate = self._own_sound(results)
        if results.get('extra_audio_path') is not None:
            waveform = to_mono(waveform, sample_rate)
            waveform = waveform + self._extra_sound(results, len(waveform))
            sample_rate = SAMPLE_RATE
        patches = log_mel_patches(waveform, sample_rate)
        results['audio'] = patches[frame_inds(results)]
        return results

    def _own_sound(self, results: dict) -> tuple[np.ndarray, int]:
        """The clip's sound or what stands for it, long enough for its frames, and its rate."""
        num_patches, path = results['num_frames'], results['audio_path']
        if 'audio_noise' in results:
            samples = samples_needed(num_patches)
            return white_noise(results['clip_id'], samples, results['audio_noise']), SAMPLE_RATE
        if path is None:
            return np.zeros(samples_needed(num_patches)), SAMPLE_RATE
        waveform, sample_rate = read_wav(path)
        needed = samples_needed(num_patches, sample_rate)
        if len(waveform) < needed and self.on_short == 'raise':
            raise ValueError(
                f'{path} has {len(waveform) / sample_rate:.3f} s of sound, {num_patches} frames need '
                f"{needed / sample_rate:.3f} s; LoadClipAudio(on_short='pad') fills up with silence"
            )
        return _pad(waveform, needed), sample_rate

    @staticmethod
    def _extra_sound(results: dict, length: int) -> np.ndarray:
        """The sound to be added, ``length`` samples of mono at 16 kHz."""
        waveform, sample_rate = read_wav(results['extra_audio_path'])
        # Before resampling too, which would not take a handful of samples.
        waveform = _pad(waveform, samples_needed(1, sample_rate))
        return _pad(to_mono(waveform, sample_rate), length)[:length]

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
    After :class:`SwapClipAudio`, its sources 'own', 'silence' and 'other' will do; 'noise' and
    'off_screen' are sounds of no file, so there are no embeddings of them.

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
            ValueError: it had fewer frames when its embeddings were extracted, or its sound is one
                that SwapClipAudio has made.
        """
        made = {'audio_noise': 'noise', 'extra_audio_path': 'off_screen'}
        found = [source for key, source in made.items() if key in results]
        if found:
            raise ValueError(
                f'SwapClipAudio(source={found[0]!r}) makes a sound that no file has, and '
                f'{self.features.path} holds embeddings of files: test with LoadClipAudio (a config '
                "whose audio encoder hears log-mel patches), or use source 'silence' or 'other'"
            )
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
    """Change what is heard with a clip, to see how much a model listens. Goes before LoadClipAudio.

    ============== =============================================================== ================
    source         what is heard                                                   visible objects
    ============== =============================================================== ================
    ``own``        the clip's own sound: nothing is changed                        sound as labelled
    ``silence``    nothing                                                         do not sound
    ``other``      the sound of another clip of the split, other_audio_path: one   do not sound
                   with no name in common where there is one; silence if there is
                   no other clip with sound
    ``noise``      white noise as long as the clip, root mean square 0.1 of full   do not sound
                   scale, drawn from a seed that depends on clip_id only
    ``off_screen`` the clip's own sound, with that of other_audio_path added: what sound as labelled
                   is seen and labelled still sounds, something unseen sounds too;
                   only its own if there is no other clip with sound
    ============== =============================================================== ================

    Where visible objects do not sound any more, sound_visible (bool) is set to False; else it is
    not set. :class:`PackAVSegInputs` passes it on to :class:`OVIoUMetric`, whose rates of false
    positives then count all labelled frames of the clip. For ``other`` that is so as far as the
    annotation tells: the objects heard are those of another clip, though one of the same name may
    be seen if every other clip has a name in common, or if it is seen and not labelled.

    Reads other_audio_path (``other``, ``off_screen``); sets audio_path (``silence``, ``other``,
    ``noise``), audio_noise (``noise``), extra_audio_path (``off_screen``) and sound_visible.

    Args:
        source (str): 'own', 'silence', 'other', 'noise' or 'off_screen'.
    """

    def __init__(self, source: str):
        if source not in SOURCES:
            raise ValueError(f'source must be one of {", ".join(SOURCES)}, got {source!r}')
        self.source = source

    def transform(self, results: dict) -> dict:
        """Set what the source says; see the class.

        Raises:
            ValueError: the sound has been loaded or swapped already.
        """
        if 'audio' in results:
            raise ValueError('SwapClipAudio must come before LoadClipAudio: the sound is loaded')
        if 'sound_visible' in results or 'extra_audio_path' in results:
            raise ValueError('the sound is swapped already: a pipeline has SwapClipAudio once')
        if self.source == 'off_screen':
            results['extra_audio_path'] = results['other_audio_path']
        elif self.source != 'own':
            results['sound_visible'] = False
            results['audio_path'] = results['other_audio_path'] if self.source == 'other' else None
            if self.source == 'noise':
                results['audio_noise'] = NOISE_RMS
        return results

    def __repr__(self) -> str:
        """Name and arguments."""
        return f'{type(self).__name__}(source={self.source!r})'
