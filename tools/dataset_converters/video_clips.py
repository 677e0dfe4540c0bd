# SPDX-License-Identifier: Apache-2.0
"""From labels of video files to a data set in the layout of docs/own_data.md, with frames and sound of the files.

A clip has one frame a second, as everywhere in the data. With ``--fps N`` the frames between the seconds are clips of
their own, whose sound begins as much later.
"""

import argparse
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path, PurePosixPath

from own_archive import Archive, Clip
from own_sounds import open_reader, write_span
from PIL import Image
from rich.console import Console
from rich.progress import track
from video_labels import VideoLabels

from ovavss_mm.apis.video.base import Picture, Source, frames_at
from ovavss_mm.apis.video.listing import VIDEOS, safe_name
from ovavss_mm.apis.video.sources import open_source
from ovavss_mm.utils.text import shorten

LONG = 60  # frames of a clip, of which a training draws few


def write_archive(args: argparse.Namespace, root: Path, found: Sequence[tuple[str, VideoLabels]]) -> str:
    """Write an archive into the new folder ``root``, of splits and labels; says what is in it."""
    every = [labels for _, labels in found]
    paths = find_videos(args.videos, every)
    uids = clip_names(args.videos, paths)
    archive = Archive(root, set().union(*(labels.names for labels in every)), 'the labels')
    heard, notes = 0, []
    for (split, labels), path in track([*zip(found, paths, strict=True)], 'videos', console=Console(stderr=True)):
        source = open_source(str(path))
        clips = write_clips(archive, labels, source, (uids[path], split), args)
        if not clips:
            notes.append(f'{labels.where}: no second of {path.name} is labelled')
        heard += len(clips) * (source.sound is not None)
        notes += [*labels.notes(), *source.notes]
        damage = source.damage or (source.sound and source.sound.damage)
        notes += [f'{path.name} is damaged or incomplete: {damage}'] if damage else []
    if not archive.clips:
        raise ValueError('nothing is labelled: ' + shorten(notes))
    longest = max(clip.num_frames for clip in archive.clips)
    if longest > LONG:
        notes.append(f'a training draws a few frames of a clip, and a clip has up to {longest}: --seconds 10 cuts them')
    return '\n  '.join([f'{archive.finish()}\n{heard} of {len(archive.clips)} clips have sound', *dict.fromkeys(notes)])


# ---------------------------------------------------------------------- files
def find_videos(folder: str, labelled: Sequence[VideoLabels]) -> list[Path]:
    """The file of each video.

    It is the one whose path ends in as many parts of the name as possible, or else one that differs in its ending.

    Raises:
        FileNotFoundError: there is none; the message lists what was looked for.
        ValueError: there are several.
    """
    files = {
        PurePosixPath(unicodedata.normalize('NFC', path.as_posix())): Path(folder, path)
        for path in map(Path, sorted(glob('**/*', root_dir=folder, recursive=True)))
        if Path(folder, path).is_file()
    }
    return [_find_video(folder, files, labels) for labels in labelled]


def _find_video(folder: str, files: dict[PurePosixPath, Path], labels: VideoLabels) -> Path:
    """The file of one video, of all files by their paths in ``folder``."""
    parts = PurePosixPath(unicodedata.normalize('NFC', labels.video.replace('\\', '/'))).parts
    ends = [parts[i:] for i in range(len(parts))]
    for end in ends:
        if fitting := [path for path in files if path.parts[-len(end) :] == end]:
            break
    else:
        stem = parts[-1] if parts else ''
        stem = PurePosixPath(stem).stem if stem.lower().endswith(VIDEOS) else stem
        fitting = [path for path in files if path.stem == stem and path.name.lower().endswith(VIDEOS)]
    if len(fitting) > 1:
        raise ValueError(
            f'{labels.where}: the video {labels.video!r} may be each of {len(fitting)} files in {folder}: '
            f'{shorten(fitting)}; name one of them otherwise, there and in the labels'
        )
    if not fitting:
        looked = ', '.join(['/'.join(end) for end in ends] + [f'{stem} with another ending of a video'])
        raise FileNotFoundError(f'{labels.where}: no video {labels.video!r} in {folder} (looked for {looked})')
    return files[fitting[0]]


def clip_names(folder: str, paths: Sequence[Path]) -> dict[Path, str]:
    """What the clips of each video are called: as its file, or where two have one name, with the folders before it."""
    stems = Counter(path.stem for path in set(paths))
    return {
        path: safe_name(path.stem if stems[path.stem] == 1 else '-'.join(path.relative_to(folder).parts))
        for path in paths
    }


# ---------------------------------------------------------------------- clips
class _Numbered(Source):
    """The frames of a source with their numbers; ``rgb()`` gives the number, and what makes the array.

    Of the frames from the start of ``grid`` to its stop only those on it are there, for the times nearest to them.
    Frames before and after give None.
    """

    def __init__(self, source: Source, grid: range) -> None:
        super().__init__(source.name)
        self.source, self.grid, self.rate = source, grid, source.rate

    def pictures(self) -> Iterator[Picture]:
        """The frames, from the first on."""
        half = (self.grid.step - 1) / 2 / self.rate  # as long a frame stands for times before and after it
        for picture in self.source.pictures():
            number = picture.number
            if number in self.grid:
                yield Picture(picture.time - half, picture.end, lambda i=number, make=picture.rgb: (i, make))
            elif number < self.grid.start:
                yield Picture(picture.time, picture.end, lambda: None)
            elif number >= self.grid.stop:
                yield Picture(picture.time + half, picture.end, lambda: None)


def write_clips(
    archive: Archive, labels: VideoLabels, source: Source, name: tuple[str, str], args: argparse.Namespace
) -> list[Clip]:
    """Write the labelled seconds of a video as clips; ``name`` is what they are called, and their split.

    A clip ends where a second is not labelled, or after ``args.seconds``. The one that starts with the video has its
    name, others also say when they start: ``kitchen-10s``.
    """
    if labels.size not in (None, source.size):
        (height, width), (own_height, own_width) = labels.size, source.size
        raise ValueError(
            f'{labels.where}: the labels are of {width} x {height} pixels, but {labels.video} has {own_width} x '
            f'{own_height} as players show it (turned, with square pixels): label the same file, or one made of it by '
            'ffmpeg -i FILE -vf "scale=iw*sar:ih,setsar=1" NEW.mp4'
        )
    phases: dict[int, list[tuple[int, Clip]]] = defaultdict(list)  # number of the first label map, and the clip
    for number, (time, found) in enumerate(frames_at(_Numbered(source, labels.grid), args.fps)):
        masks = None if found is None else labels.masks(time, found[0], source.size)
        if masks is None:
            continue
        clips = phases[number % args.fps]
        start, clip = clips[-1] if clips else (None, None)
        if clip is None or clip.num_frames == args.seconds or number != start + clip.num_frames * args.fps:
            clip = _begin(archive, labels, name, time)
            clips.append((number, clip))
        clip.add_frame(Image.fromarray(found[1]()), masks)
    for clips in phases.values() if source.sound is not None else ():
        reader = open_reader(source.sound)
        for start, clip in clips:
            write_span(reader, start / args.fps, clip.num_frames, clip.audio_path)
    return [clip for clips in phases.values() for _, clip in clips]


def _begin(archive: Archive, labels: VideoLabels, name: tuple[str, str], time: float) -> Clip:
    """A new clip that starts at a time of its video; ValueError if there is one."""
    uid, split = name
    start = f'{time:.3f}'.rstrip('0').rstrip('.')
    try:
        return archive.add_clip(uid if time == 0 else f'{uid}-{start}s', split)
    except FileExistsError as error:
        raise ValueError(f'{labels.where}: {labels.video} is labelled twice at {start} s, in several files') from error
