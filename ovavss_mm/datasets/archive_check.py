# SPDX-License-Identifier: Apache-2.0
"""Checks every file of an archive in the layout of AVSBench-semantic, clip by clip."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset

from .files import find_audio, find_frames, find_labels
from .metadata import IndexedClip
from .sound_lengths import missing_seconds
from .transforms.audio import read_wav
from .transforms.loading import LabelColorError, LabelSizeError, read_labels, read_rgb

# Changes when a clip may be judged otherwise than before: results of earlier versions are not used.
VERSION = 1
# What training cannot survive, and what it does; in the order of the report.
ERRORS = {
    'no clip': 'the folder of the clip is missing',
    'frames': 'frames are missing or misnamed',
    'frame unreadable': 'a frame is no picture or a damaged one',
    'frame size': 'the frames of a clip are not of one size',
    'labels': 'label maps are missing or misnamed, or there are too many',
    'label unreadable': 'a label map is no picture or a damaged one',
    'label size': 'a label map is not of the size of its frame',
    'label colour': 'a label map has colours that stand for no name',
    'sound unreadable': 'audio.wav is no sound, empty, or has values that are not finite',
}
WARNINGS = {
    'label not listed': 'a label map has a name that metadata.csv does not list for the clip: '
    'these pixels are background',
    'frame number': 'another number of frames than 5 (v1s) or 10 (v2)',
    'no sound': 'no audio.wav: the clip is silent',
    'sound short': 'less sound than frames: padded with silence',
}


@dataclass
class ClipReport:
    """What was found in a clip.

    Args:
        key (str): ``subset/uid``.
        stamp (str): stands for the state of the clip's files and what they are compared with.
        facts (dict): what could be found out of ``frames`` (their number), ``size`` (height and
            width of a frame), ``rate`` (Hz), ``channels`` and ``seconds`` of the sound, and
            ``bytes`` of all files.
        findings (list): pairs of a kind, one of ERRORS or WARNINGS, and a sentence.
    """

    key: str
    stamp: str
    facts: dict = field(default_factory=dict)
    findings: list[tuple[str, str]] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether training survives the clip."""
        return not any(kind in ERRORS for kind, _ in self.findings)


class ArchiveCheck(Dataset):
    """Clips to check; item i is the :class:`ClipReport` of clip i.

    Args:
        root (str): folder of the archive.
        clips (Sequence[tuple]): split and IndexedClip of each.
        names (Sequence[str]): the N names, in the order of their labels.
        known (Mapping[str, ClipReport]): results of earlier, by key. One whose clip has not changed
            since is given again.
        expect_frames (bool): whether a clip must have the number of frames of its IndexedClip.
    """

    def __init__(
        self,
        root: str,
        clips: Sequence[tuple[str, IndexedClip]],
        names: Sequence[str],
        known: Mapping[str, ClipReport],
        expect_frames: bool,
    ):
        self.root = Path(root)
        self.clips = clips
        self.names = tuple(names)
        self.known = known
        self.expect_frames = expect_frames

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)

    def __getitem__(self, index: int) -> ClipReport:
        """Check a clip, unless it is known."""
        split, clip = self.clips[index]
        folder = self.root / clip.key
        files = _file_states(folder)
        context = [VERSION, split, asdict(clip), self.names, self.expect_frames, files]
        stamp = hashlib.sha256(json.dumps(context).encode()).hexdigest()[:20]
        known = self.known.get(clip.key)
        if known is not None and known.stamp == stamp:
            return known
        report = ClipReport(clip.key, stamp, dict(bytes=sum(size for _, size, _ in files)))
        _check_pictures(str(folder), split, clip, self.names, report)
        if folder.is_dir():
            _check_sound(str(folder), report)
        frames = report.facts.get('frames')
        if self.expect_frames and frames not in (None, clip.num_frames):
            report.findings.append(
                ('frame number', f'{clip.key}: {frames} frames, expected {clip.num_frames}')
            )
        return report


def _file_states(folder: Path) -> list[tuple[str, int, int]]:
    """Path, bytes and time of change of each file below a folder, sorted."""
    states = []
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            try:
                state = os.stat(path)
            except OSError:  # a broken link
                states.append((path, 0, 0))
            else:
                states.append((path, state.st_size, state.st_mtime_ns))
    return sorted(states)


def _check_pictures(
    folder: str, split: str, clip: IndexedClip, names: Sequence[str], report: ClipReport
) -> None:
    """Look into frames and label maps."""
    found = report.findings
    try:
        frames = find_frames(folder)
    except (FileNotFoundError, ValueError) as err:
        found.append(('frames' if os.path.isdir(folder) else 'no clip', str(err)))
        return
    report.facts['frames'] = len(frames)
    shapes = {}
    for number, path in sorted(frames.items()):
        try:
            shapes[number] = read_rgb(path).shape[:2]
        except OSError as err:
            found.append(('frame unreadable', str(err)))
    if len(set(shapes.values())) > 1:
        sizes = ', '.join(f'{w} x {h}' for h, w in sorted(set(shapes.values())))
        found.append(('frame size', f'{folder}: frames of {sizes} pixels'))
    if shapes:
        report.facts['size'] = list(next(iter(shapes.values())))
    try:
        labels = find_labels(folder, frames, clip.subset == 'v1s' and split == 'train')
    except (FileNotFoundError, ValueError) as err:
        found.append(('labels', str(err)))
        return
    unlisted = np.array([False] + [name not in clip.names for name in names])
    for number, path in sorted(labels.items()):
        if number in shapes:
            _check_label(path, shapes[number], names, unlisted, found)


def _check_label(
    path: str,
    shape: tuple[int, int],
    names: Sequence[str],
    unlisted: np.ndarray,
    found: list[tuple[str, str]],
) -> None:
    """Look into a label map; ``unlisted`` (N + 1) says which labels the clip should not have."""
    try:
        labels = read_labels(path, len(names), shape)
    except OSError as err:
        found.append(('label unreadable', str(err)))
    except LabelSizeError as err:
        found.append(('label size', str(err)))
    except LabelColorError as err:
        found.append(('label colour', str(err)))
    else:
        counts = np.bincount(labels.reshape(-1), minlength=len(unlisted)) * unlisted
        if counts.any():
            which = ', '.join(f'{names[i - 1]} ({counts[i]} pixels)' for i in counts.nonzero()[0])
            found.append(('label not listed', f'{path}: {which}'))


def _check_sound(folder: str, report: ClipReport) -> None:
    """Look into the sound."""
    path = find_audio(folder)
    if path is None:
        report.findings.append(('no sound', f'{folder}: no audio.wav'))
        return
    try:
        waveform, rate = read_wav(path)
    except (OSError, ValueError) as err:
        report.findings.append(('sound unreadable', str(err)))
        return
    channels = 1 if waveform.ndim == 1 else waveform.shape[1]
    report.facts.update(rate=rate, channels=channels, seconds=round(len(waveform) / rate, 3))
    frames = report.facts.get('frames', 0)
    missing = missing_seconds(len(waveform), rate, frames)
    if frames and missing > 0:
        report.findings.append(
            (
                'sound short',
                f'{path}: {len(waveform) / rate:.3f} s for {frames} frames, '
                f'{missing:.3f} s are padded',
            )  # fmt: skip
        )


# ------------------------------------------------------------------ many clips
def check_clips(check: ArchiveCheck, cache: str | Path, workers: int) -> Iterator[ClipReport]:
    """Check all clips, side by side, and keep each result as it comes.

    Args:
        check (ArchiveCheck): the clips; ``known`` should be what :func:`read_cache` gives.
        cache (str | Path): file to which new results are appended, a line each.
        workers (int): processes; 0 for this one alone.

    Yields:
        ClipReport: one a clip, in order.
    """
    # The loader's workers end by themselves if this process is killed.
    loader = DataLoader(check, batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    cache = Path(cache)
    cache.parent.mkdir(parents=True, exist_ok=True)
    with open(cache, 'a', encoding='utf-8') as file:
        for report in loader:
            known = check.known.get(report.key)
            if known is None or known.stamp != report.stamp:
                file.write(json.dumps(asdict(report)) + '\n')
                file.flush()
            yield report


def _as_it_is(item: object) -> object:
    """Instead of making tensors."""
    return item


def read_cache(path: str | Path) -> dict[str, ClipReport]:
    """Results of an earlier run by key; the last one counts. No file: none.

    A line that a killed run left unfinished is cut off, so that new ones can be appended.
    """
    path = Path(path)
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b'\n') + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return {report.key: report for report in _parse_lines(whole)}


def _parse_lines(content: bytes) -> Iterator[ClipReport]:
    """Give the results of lines; lines of another form are passed over."""
    for line in content.splitlines():
        try:
            report = ClipReport(**json.loads(line))
            report.findings = [(str(kind), str(text)) for kind, text in report.findings]
        except (ValueError, TypeError, RecursionError):
            continue
        known = all(kind in ERRORS or kind in WARNINGS for kind, _ in report.findings)
        plain = isinstance(report.key, str) and isinstance(report.facts, dict)
        if known and plain and type(report.facts.get('bytes')) is int:
            yield report
