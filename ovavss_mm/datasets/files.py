# SPDX-License-Identifier: Apache-2.0
"""Text files, and the files of a clip."""

import json
import unicodedata
from typing import Any

from mmengine.fileio import exists, get_text, isdir, join_path, list_dir_or_file

# Endings of sounds that libsndfile reads, and of others that it does not.
SOUNDS = tuple('.wav .flac .mp3 .ogg .oga .opus .aif .aiff .aifc .au .caf .w64'.split())
OTHER_SOUNDS = tuple('.m4a .aac .wma .amr .ac3 .mka .weba .mp4 .m4v .mov .mkv .webm .avi'.split())
# Kinds of letters that no name and no file of text may have: they end lines, or steer a terminal.
_STEERING = ('Cc', 'Cs', 'Zl', 'Zp')


def is_plain(text: str) -> bool:
    """Whether a text is one line without control characters (of Unicode's Cc, Cs, Zl and Zp)."""
    return text.isprintable() or not any(unicodedata.category(c) in _STEERING for c in text)


def read_utf8(path: str) -> str:
    """Read a text file; a byte order mark at its start is passed over.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not in UTF-8; the message names it.
    """
    if not exists(path):
        raise FileNotFoundError(f'no such file: {path}')
    try:
        return get_text(path, encoding='utf-8-sig')
    except UnicodeDecodeError as err:
        raise ValueError(f'{path} is not in UTF-8 (byte {err.start}: {err.reason})') from err


def read_json(path: str, **kwargs: Any) -> Any:
    """Read a JSON file with arguments of :func:`json.loads`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON in UTF-8; the message names file and line.
    """
    text = read_utf8(path)
    try:
        return json.loads(text, **kwargs)
    except json.JSONDecodeError as err:
        raise ValueError(f'{path}, line {err.lineno}: not valid JSON ({err.msg})') from err
    except RecursionError as err:
        raise ValueError(f'{path}: deeply nested JSON, nothing that is read here') from err
    except ValueError as err:  # of object_pairs_hook, or a number of thousands of digits
        raise ValueError(f'{path}: {err}') from err


def find_frames(clip_dir: str, suffix: str = '.jpg') -> dict[int, str]:
    """Frames of a clip by number, from its folder ``frames``.

    Raises:
        FileNotFoundError: the folder of the clip or of its frames is missing.
        ValueError: no frames, a number is missing between two others or occurs twice, or a file has no number.
    """
    if not isdir(clip_dir):
        raise FileNotFoundError(f'{clip_dir}: no such folder')
    frames = _numbered_files(join_path(clip_dir, 'frames'), suffix)
    if not frames:
        raise ValueError(f'{clip_dir}/frames: no {suffix} files')
    first, last = min(frames), max(frames)
    if len(frames) != last - first + 1:
        gap = next(i for i in range(first, last) if i not in frames)
        raise ValueError(f'{clip_dir}/frames: {gap}{suffix} is missing')
    return frames


def find_labels(clip_dir: str, frames: dict[int, str], first_only: bool, suffix: str = '.png') -> dict[int, str]:
    """Label maps of a clip by number, from its folder ``labels_rgb``.

    There must be one for each of the frames; with first_only, as in training clips of v1s, one for the first alone.

    Raises:
        FileNotFoundError: the folder of the labels is missing.
        ValueError: the labels are not those expected, or a file has no number.
    """
    labels = _numbered_files(join_path(clip_dir, 'labels_rgb'), suffix)
    if set(labels) != ({min(frames)} if first_only else set(frames)):
        found = ', '.join(map(str, sorted(labels))) or 'none'
        raise ValueError(
            f'{clip_dir}: {len(frames)} frames ({min(frames)} to {max(frames)}) and {len(labels)} labels ({found}), '
            f'expected {"one for the first frame" if first_only else "one a frame"}'
        )
    return labels


def find_audio(clip_dir: str) -> str | None:
    """Path of a clip's sound, None if it has none: the clip is silent.

    That is ``audio.wav``; where it is missing, the one sound file of the folder that libsndfile reads.
    """
    path = join_path(clip_dir, 'audio.wav')
    if exists(path):
        return path
    others = [name for name in list_sounds(clip_dir) if name.lower().endswith(SOUNDS)]
    return join_path(clip_dir, others[0]) if len(others) == 1 else None


def list_sounds(clip_dir: str) -> list[str]:
    """Names of the files of a clip's folder that end as sounds and videos do."""
    names = list_dir_or_file(clip_dir, list_dir=False) if isdir(clip_dir) else ()
    return sorted(name for name in names if name.lower().endswith(SOUNDS + OTHER_SOUNDS))


def _numbered_files(folder: str, suffix: str) -> dict[int, str]:
    """Files ``<number><suffix>`` of a folder by number; other suffixes are passed over."""
    files = {}
    try:
        for name in list_dir_or_file(folder, list_dir=False, suffix=suffix):
            stem = name[: -len(suffix)]
            if not (stem.isascii() and stem.isdigit()):
                raise ValueError(f'{folder}/{name}: the name should be a number')
            if int(stem) in files:
                raise ValueError(f'{folder}: number {int(stem)} occurs twice')
            files[int(stem)] = join_path(folder, name)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f'{folder}: no such folder') from None
    return files
