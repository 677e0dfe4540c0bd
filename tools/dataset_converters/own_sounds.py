# SPDX-License-Identifier: Apache-2.0
"""Finds the sounds of clips, and writes them into a data set in the layout of docs/own_data.md."""

import shutil
from collections import Counter
from collections.abc import Sequence
from glob import glob
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

import soundfile

if TYPE_CHECKING:
    from ovavss_mm.apis.video.sound import SoundReader, SoundTrack


class Named(Protocol):
    """A video whose sound is looked for."""

    id: int | str
    uid: str
    sound_names: list[str]  # what its sound may be called, the best first


def find_sounds(folder: str, videos: Sequence[Named]) -> tuple[dict[str, Path], str]:
    """Files with sound by the uid of their video, and how many there are in words.

    A wav file comes before another sound file of the same name, and that before a video.
    """
    from ovavss_mm.apis.video.listing import VIDEOS
    from ovavss_mm.datasets.files import OTHER_SOUNDS, SOUNDS
    from ovavss_mm.utils.text import shorten

    def rank(name: str) -> tuple:
        low = name.lower()
        return not low.endswith('.wav'), low.endswith(VIDEOS), name

    files = sorted(glob('**/*', root_dir=folder, recursive=True), key=rank)
    stems, ends = {}, {}  # of a sound: all parts of its path, and its last ones
    for name in (name for name in files if name.lower().endswith((*SOUNDS, *VIDEOS))):
        parts = PurePosixPath(name).with_suffix('').parts
        if stems.setdefault('-'.join(parts), name) == name:  # of the same name, the first kind
            for i in range(len(parts)):
                ends.setdefault('-'.join(parts[i:]), []).append(name)
    found, names = _assign(videos, stems, ends)
    mute = [name for name in found.values() if name.lower().endswith(VIDEOS) and not _track(Path(folder, name))]
    found = {uid: name for uid, name in found.items() if name not in mute}
    silent = [f'{uid} (no {", ".join(names[uid])})' for uid in names if uid not in found]
    unused = sorted(set(stems.values()) - set(found.values()) - set(mute))
    unread = [name for name in files if name.lower().endswith(OTHER_SOUNDS) and not name.lower().endswith(VIDEOS)]
    lines = [f'{len(found)} of {len(videos)} clips have sound']
    if silent:
        lines.append(f'no sound in {folder}: {len(silent)} clips, {shorten(silent, 3)} with {", ".join(SOUNDS)}')
    if mute:
        lines.append(f'videos that have no sound in them: {len(mute)} ({shorten(mute, 3)})')
    if unused:
        lines.append(f'sounds that belong to no video: {len(unused)} ({shorten(unused, 3)})')
    if unread:
        how = 'convert them: ffmpeg -i FILE -vn NAME.wav'
        lines.append(f'of a kind that is not read: {len(unread)} ({shorten(unread, 3)}); {how}')
    return {uid: Path(folder, name) for uid, name in found.items()}, '\n  '.join(lines)


def _assign(videos: Sequence[Named], stems: dict, ends: dict) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Files by the uid of their video, and the names that were looked for."""
    owners = Counter(name for video in videos for name in video.sound_names)
    found, names = {}, {}
    for video in sorted(videos, key=lambda video: video.uid not in stems):
        # A name that stands for two videos is the name of neither, unless it is all of the folder of one.
        names[video.uid] = [name for name in video.sound_names if owners[name] == 1 or name == video.uid]
        for name in names[video.uid]:
            whole = ends.get(name, []) if name in (video.uid, str(video.id)) else []
            fitting = [stems[name]] if name in stems else whole
            if len(fitting) == 1 and fitting[0] not in found.values():
                found[video.uid] = fitting[0]
                break
    return found, names


def _track(video: Path) -> 'SoundTrack | None':
    """The sound of a video, None if it has none."""
    from ovavss_mm.apis.video.sources import open_source

    return open_source(str(video)).sound


def write_sound(source: Path, path: Path, seconds: int) -> None:
    """Copy a wav file, or convert another sound file, or so much of the sound of a video, to one."""
    from ovavss_mm.apis.video.listing import VIDEOS
    from ovavss_mm.datasets.transforms.audio import read_wav

    if source.suffix.lower() == '.wav':
        shutil.copyfile(source, path)
    elif source.name.lower().endswith(VIDEOS):
        write_span(open_reader(_track(source)), 0, seconds, path)
    else:
        soundfile.write(path, *read_wav(str(source)), subtype='FLOAT')


def open_reader(track: 'SoundTrack') -> 'SoundReader':
    """Reads a track at its own rate, if a data set can have that."""
    from ovavss_mm.apis.video.sound import SoundReader
    from ovavss_mm.datasets.transforms.audio import RATES

    with track.open() as container:
        rate = track.stream(container).codec_context.sample_rate or 16000  # 0 if it is known later only
    return SoundReader(track, min(max(rate, RATES[0]), RATES[1]))


def write_span(reader: 'SoundReader', start: float, seconds: int, path: Path) -> None:
    """Write whole seconds of a sound, from ``start`` (s), as a mono wav file; beyond its end it is silent."""
    rate = reader.sample_rate
    with soundfile.SoundFile(path, 'w', rate, 1, 'FLOAT') as file:
        for second in range(seconds):  # an hour at once would be large
            file.write(reader.span(round(start * rate) + second * rate, rate))
