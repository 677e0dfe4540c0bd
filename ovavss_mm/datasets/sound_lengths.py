# SPDX-License-Identifier: Apache-2.0
"""How long the sound of clips is against their frames, from the headers of the files."""

import os.path as osp
from collections.abc import Iterable, Mapping

import soundfile

from .transforms.front_ends import VGGishLogMel

# Sound that is this much longer than a second a frame is worth a word; clips are cut on purpose at
# 0.96 s a frame, and encoders add some milliseconds.
MUCH_LONGER = 0.5  # s


def missing_seconds(num_samples: int, sample_rate: int, num_frames: int) -> float:
    """Seconds of silence that a sound is padded with; 0 or less if it is long enough.

    Args:
        num_samples (int): its samples.
        sample_rate (int): in Hz.
        num_frames (int): frames of its clip; each needs a log-mel patch of 0.96 s.
    """
    front_end = VGGishLogMel()
    needed = -(-front_end.num_samples(num_frames) * sample_rate // front_end.sample_rate)
    return (needed - num_samples) / sample_rate


def is_short(path: str | None, num_frames: int) -> bool:
    """Whether the sound in a file is padded with silence; no file (None) is silence as it is.

    Raises:
        soundfile.SoundFileError: the file cannot be read.
    """
    if path is None:
        return False
    info = soundfile.info(path)
    return missing_seconds(info.frames, info.samplerate, num_frames) > 0


def describe_lengths(clips: Iterable[Mapping]) -> str | None:
    """Say in a line how many clips have shorter or much longer sound than frames.

    Headers are read, no samples (0.1 ms a clip on a local disk). Clips without sound, with sound
    that is not a local file or that cannot be read are passed over.

    Args:
        clips (Iterable[Mapping]): with the keys audio_path and num_frames.

    Returns:
        str | None: the line; None if there is nothing to say.
    """
    short, long, total = [], [], 0
    for clip in clips:
        total += 1
        path, num_frames = clip['audio_path'], clip['num_frames']
        if path is None or not osp.isfile(path):
            continue
        try:
            info = soundfile.info(path)
        except soundfile.SoundFileError:
            continue  # the loader names it when it comes to it
        missing = missing_seconds(info.frames, info.samplerate, num_frames)
        longer = info.frames / info.samplerate - num_frames
        if missing > 0:
            short.append((missing, path))
        elif longer > MUCH_LONGER:
            long.append((longer, path))
    parts = []
    if short:
        parts.append(
            f'{len(short)} of {total} clips have less sound than their frames need, which is '
            f'padded with silence ({_most(short)})'
        )
    if long:
        parts.append(
            f'{len(long)} of {total} clips have over {MUCH_LONGER} s more sound than frames, which '
            f'is cut ({_most(long)})'
        )
    return '; '.join(parts) or None


def _most(cases: list[tuple[float, str]]) -> str:
    """The worst of some cases."""
    seconds, path = max(cases)
    return f'most: {seconds:.2f} s, {path}'
