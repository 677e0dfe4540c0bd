# SPDX-License-Identifier: Apache-2.0
"""Checks every file of an archive in the layout of AVSBench-semantic; avsbench_ov.py is its command."""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
from torch.utils.data import DataLoader

from ovavss_mm.datasets.files import find_audio, find_frames, find_labels, list_sounds
from ovavss_mm.datasets.metadata import IndexedClip
from ovavss_mm.datasets.transforms import loading
from ovavss_mm.datasets.transforms.audio import read_wav
from ovavss_mm.datasets.transforms.front_ends import VGGishLogMel

# Changes when a clip may be judged otherwise than before: results of earlier versions are not used.
VERSION = 3
MUCH_LONGER = 0.5  # s; sound is cut on purpose, and encoders add some milliseconds
FRONT_END = VGGishLogMel()
LABEL_KINDS = {loading.LabelSizeError: 'label size', loading.LabelColorError: 'label colour'}
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
    'sound unreadable': 'the sound file is none, empty, or has values that are not finite',
}
WARNINGS = {
    'label not listed': 'a label map has a name that metadata.csv does not list: background',
    'frame number': 'another number of frames than 5 (v1s) or 10 (v2)',
    'no sound': 'no audio.wav: the clip is silent',
    'sound name': 'no audio.wav: the only sound file of the folder is taken',
    'sound short': 'less sound than frames: padded with silence',
    'sound long': f'over {MUCH_LONGER} s more sound than frames: cut',
}


@dataclass
class ClipReport:
    """Facts and findings (kind, sentence) of the clip ``key``; ``stamp`` is its state when read."""

    key: str
    stamp: str
    facts: dict = field(default_factory=dict)
    findings: list[tuple[str, str]] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether training survives the clip."""
        return not any(kind in ERRORS for kind, _ in self.findings)

    def add(self, kind: str, text: object) -> None:
        """Note a finding."""
        self.findings.append((kind, str(text)))


def check_clips(
    root: str,
    clips: Sequence[tuple[str, IndexedClip]],
    names: Sequence[str],
    expect_frames: bool,
    cache: str,
    workers: int,
) -> Iterator[ClipReport]:
    """Check clips (with their splits) side by side, and append each new report to ``cache``.

    Clips that have not changed since are not read again. With ``expect_frames`` a clip must have as
    many frames as it says. Yields a report a clip, in order.
    """
    known = read_cache(cache)
    check = partial(check_clip, root, names, expect_frames, known)
    # The loader's workers end by themselves if this process is killed.
    loader = DataLoader(clips, batch_size=None, num_workers=workers, collate_fn=check)
    os.makedirs(os.path.dirname(cache), exist_ok=True)
    with open(cache, 'a', encoding='utf-8') as file:
        for report in loader:
            if known.get(report.key) != report:
                file.write(json.dumps(asdict(report)) + '\n')
                file.flush()
            yield report


def check_clip(root: str, names: Sequence, expect: bool, known: dict, item: tuple) -> ClipReport:
    """Report on a clip, ``item`` being its split and itself; ``known`` has reports of earlier."""
    (split, clip), folder = item, os.path.join(root, item[1].key)
    paths = [os.path.join(where, file) for where, _, inside in os.walk(folder) for file in inside]
    states = [(path, os.stat(path)) for path in sorted(paths) if os.path.exists(path)]
    files = [(path, state.st_size, state.st_mtime_ns) for path, state in states]
    context = [VERSION, split, asdict(clip), list(names), expect, files]
    stamp = hashlib.sha256(json.dumps(context).encode()).hexdigest()[:20]
    if clip.key in known and known[clip.key].stamp == stamp:
        return known[clip.key]
    report = ClipReport(clip.key, stamp, dict(bytes=sum(size for _, size, _ in files)))
    if not os.path.isdir(folder):
        report.add('no clip', f'{folder}: no such folder')
        return report
    _check_pictures(folder, split, clip, names, report)
    _check_sound(folder, report)
    frames = report.facts.get('frames', clip.num_frames)
    if expect and frames != clip.num_frames:
        report.add('frame number', f'{clip.key}: {frames} frames, expected {clip.num_frames}')
    return report


def _check_pictures(folder: str, split: str, clip: IndexedClip, names: Sequence, report) -> None:
    """Look into frames and label maps."""
    try:
        frames = find_frames(folder)
    except (FileNotFoundError, ValueError) as err:
        return report.add('frames', err)
    report.facts['frames'] = len(frames)
    shapes = {}
    for number, path in sorted(frames.items()):
        try:
            shapes[number] = loading.read_rgb(path).shape[:2]
        except OSError as err:
            report.add('frame unreadable', err)
    sizes = [f'{w} x {h}' for h, w in sorted(set(shapes.values()))]
    if len(sizes) > 1:
        report.add('frame size', f'{folder}: frames of {", ".join(sizes)} pixels')
    report.facts['size'] = ', '.join(sizes) or 'unknown'
    try:
        labels = find_labels(folder, frames, clip.subset == 'v1s' and split == 'train')
    except (FileNotFoundError, ValueError) as err:
        return report.add('labels', err)
    unlisted = np.array([False] + [name not in clip.names for name in names])  # (N + 1,)
    for number in sorted(set(labels) & set(shapes)):
        _check_label(labels[number], shapes[number], names, unlisted, report)


def _check_label(path: str, shape: tuple, names: Sequence[str], unlisted: np.ndarray, report: ClipReport) -> None:
    """Look into a label map; ``unlisted`` (N + 1,) says which labels the clip should not have."""
    try:
        labels = loading.read_labels(path, len(names), shape)
    except (OSError, ValueError) as err:
        return report.add(LABEL_KINDS.get(type(err), 'label unreadable'), err)
    counts = np.bincount(labels.reshape(-1), minlength=len(unlisted)) * unlisted
    if counts.any():
        which = ', '.join(f'{names[i - 1]} ({counts[i]} pixels)' for i in counts.nonzero()[0])
        report.add('label not listed', f'{path}: {which}')


def _check_sound(folder: str, report: ClipReport) -> None:
    """Look into the sound, and compare its length with the frames."""
    path = find_audio(folder)
    if path is None:
        others = ', '.join(list_sounds(folder))
        hint = f', but {others}; convert it: ffmpeg -i FILE -ac 1 audio.wav' if others else ''
        return report.add('no sound', f'{folder}: no audio.wav{hint}')
    if os.path.basename(path) != 'audio.wav':
        report.add('sound name', f'{path} is taken')
    try:
        waveform, rate = read_wav(path)
    except (OSError, ValueError) as err:
        return report.add('sound unreadable', err)
    channels = waveform.shape[1] if waveform.ndim > 1 else 1
    report.facts['sound'] = f'{rate} Hz, {channels} channels'
    frames, seconds = report.facts.get('frames', 0), len(waveform) / rate
    missing = FRONT_END.num_samples(frames) / FRONT_END.sample_rate - seconds if frames else 0
    text = f'{path}: {seconds:.3f} s for {frames} frames'
    if missing > 0:
        report.add('sound short', f'{text}, {missing:.3f} s are padded')
    elif frames and seconds > frames + MUCH_LONGER:
        report.add('sound long', text)


def read_cache(path: str) -> dict[str, ClipReport]:
    """Results of an earlier run by key; a line that a killed run left unfinished is cut off."""
    if not os.path.exists(path):
        return {}
    with open(path, 'rb+') as file:
        content = file.read()
        whole = content[: content.rfind(b'\n') + 1]
        file.truncate(len(whole))
    reports = {}
    for line in whole.splitlines():
        try:
            report = ClipReport(**json.loads(line))
            report.findings = [(str(kind), str(text)) for kind, text in report.findings]
            known = all(kind in ERRORS or kind in WARNINGS for kind, _ in report.findings)
            if known and type(report.facts['bytes']) is int:
                reports[str(report.key)] = report
        except (ValueError, TypeError, LookupError, RecursionError):
            continue  # of another form
    return reports


def report_lines(reports: Sequence[ClipReport], shown: int | None) -> list[str]:
    """Say what was found, by kind; ``shown`` offenders of each, None: all."""
    lines = [f'{len(reports)} clips, {sum(r.facts["bytes"] for r in reports) / 1e9:.2f} GB']
    for title, key in (('frames in pixels', 'size'), ('sound', 'sound')):
        common = Counter(r.facts[key] for r in reports if key in r.facts).most_common(5)
        lines.append(f'  {title}: ' + '; '.join(f'{text} ({n})' for text, n in common))
    lines.append(f'  {sum("sound" in r.facts for r in reports)} of {len(reports)} clips have sound')
    offenders = defaultdict(list)
    for report in reports:
        for kind, text in report.findings:
            offenders[kind].append((report.key, text))
    errors, warnings = 'errors (training cannot survive them)', 'warnings (training survives them)'
    for title, kinds in ((f'{errors}:', ERRORS), (f'{warnings}:', WARNINGS)):
        lines.append(title if any(kind in offenders for kind in kinds) else f'{title} none')
        for kind in filter(offenders.get, kinds):
            cases = offenders[kind]
            number = len({key for key, _ in cases})
            lines.append(f'  {kind}: {len(cases)} in {number} clips ({kinds[kind]})')
            lines += [f'    {text}' for _, text in cases[:shown]]
            if shown is not None and len(cases) > shown:
                lines.append(f'    and {len(cases) - shown} more')
    return lines
