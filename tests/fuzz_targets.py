# SPDX-License-Identifier: Apache-2.0
"""Readers that are fed damaged files: what a good file is, and what must hold of a damaged one.

Each target makes good content from a seed, and checks a mutated one: the reader either raises one of
its documented errors, which names the file, or gives what its contract says.
"""

import io
import json
import math
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import archive
import numpy as np
import soundfile
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from ovavss_mm.datasets import audio_features, metadata, voc_palette
from ovavss_mm.datasets.transforms.audio import LoadClipAudio, read_wav
from ovavss_mm.datasets.transforms.loading import read_labels, read_rgb
from ovavss_mm.datasets.vocabulary import Vocabulary, read_names
from ovavss_mm.utils.safe_loading import read_checkpoint

sys.path += [str(Path(__file__).parents[1] / 'tools' / folder) for folder in ('dataset_converters', 'analysis_tools')]
from archive_check import ClipReport, read_cache  # noqa: E402
from confusion import read_confusion  # noqa: E402

NUM_NAMES = len(archive.NAMES)
# What text fields are replaced by.
FIELDS = (
    *('', ' ', '.', '..', '../x', '/etc/passwd', 'a/b', 'a\\b', 'C:\\x', 'x\0y', 'x\ny', 'x\ry', '\t', '\x1b[2J'),
    *('\x85', '\u2028', '\u202e', '\ufeff', 'é', '🎸', '{0.__class__}', '%s', '"', "'", '_', '__', '#', ',', ';'),
    *('v1s', 'v1m', 'v2', 'train', 'test', 'dog', 'dog_', 'x' * 300, 'y' * 140000, '9' * 5000, '-1', '0', '٣', '1e9'),
    *('[' * 3000, '{"a":' * 3000, 'null', 'true', '1.0', 'NaN', '\\ud800', '\\u0000', '[]', '{}'),
)  # fmt: skip
NUMBERS = (0, 1, 2, 7, 8, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


# ------------------------------------------------------------------ mutations
@st.composite
def damaged(draw: st.DrawFn, good: bytes, text: bool, other: bytes = b'') -> bytes:
    """A good file, some bytes of which were changed, dropped, put in, doubled or moved."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(TEXT_KINDS if text else BINARY_KINDS))
        content = bytearray(_changed(draw, kind, content, other or good))[:400_000]
    return bytes(content)


BINARY_KINDS = ('flip', 'set', 'number', 'insert', 'delete', 'double', 'cut', 'splice')
TEXT_KINDS = (*BINARY_KINDS, *('field',) * 6, 'lines', 'bom')


def _changed(draw: st.DrawFn, kind: str, content: bytearray, other: bytes) -> bytes:
    """One change."""
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    if kind in ('flip', 'set') and content:
        content[at] = content[at] ^ (1 << draw(st.integers(0, 7))) if kind == 'flip' else draw(st.integers(0, 255))
        return content
    if kind == 'number':
        size = draw(st.sampled_from((1, 2, 4, 8)))
        number = draw(st.sampled_from(NUMBERS)) % 256**size
        at = draw(st.integers(0, min(len(content), 128))) if draw(st.booleans()) else at
        return content[:at] + number.to_bytes(size, draw(st.sampled_from(('little', 'big')))) + content[at + size :]
    if kind == 'insert':
        return content[:at] + draw(st.binary(max_size=40)) + content[at:]
    if kind == 'field':
        return _field(draw, content)
    if kind == 'lines':
        return content.replace(b'\n', draw(st.sampled_from((b'\r\n', b'\r', b'\n\n', b'\x0b', b''))))
    if kind == 'bom':
        return draw(st.sampled_from((b'\xef\xbb\xbf', b'\xff\xfe', b'\xfe\xff'))) + content
    to = min(len(content), at + draw(st.integers(0, 200)))
    if kind == 'delete':
        return content[:at] + content[to:]
    if kind == 'double':
        return content[:to] + content[at:]
    if kind == 'cut':
        return content[:at]
    start = draw(st.integers(0, max(len(other) - 1, 0)))
    return content[:at] + other[start:]


def _field(draw: st.DrawFn, content: bytearray) -> bytes:
    """Another value between two marks of a text file, or the value dropped with its mark."""
    marks = [-1, *(i for i, byte in enumerate(content) if byte in b',\t\n:/"[]{}'), len(content)]
    i = draw(st.integers(0, len(marks) - 2))
    value = draw(st.sampled_from(FIELDS)).encode()
    if draw(st.integers(0, 4)) == 0:
        return content[: max(marks[i], 0)] + content[marks[i + 1] :]
    return content[: marks[i] + 1] + value + content[marks[i + 1] :]


# ------------------------------------------------------------------ targets
class Broken(AssertionError):
    """A reader did what it must not."""


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Args:
        name: of it.
        suffix: of the file.
        good: good contents.
        read: reads a file and checks what came out.
        errors: what it may raise.
        text: whether fields are mutated too.
    """

    name: str
    suffix: str
    good: tuple[bytes, ...]
    read: Callable[[str], None]
    errors: tuple[type[Exception], ...] = (OSError, ValueError)
    text: bool = False

    def cases(self) -> st.SearchStrategy[bytes]:
        """Damaged files."""
        return st.one_of([damaged(good, self.text, self.good[i - 1]) for i, good in enumerate(self.good)])

    def check(self, content: bytes, folder: Path) -> str:
        """Read a file with this content.

        Returns:
            'read' or 'refused'.

        Raises:
            Broken: the error does not name the file, or something was written.
        """
        path = folder / f'the file{self.suffix}'
        path.write_bytes(content)
        before = sorted(os.listdir(folder))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('error')
                self.read(str(path))
        except self.errors as error:
            if str(path) not in str(error):
                raise Broken(f'{type(error).__name__} does not name the file: {error}') from error
            if len(str(error)) > 20_000:
                raise Broken(f'an error message of {len(str(error))} letters') from error
            return 'refused'
        finally:
            if sorted(os.listdir(folder)) != before:
                raise Broken(f'files were written: {sorted(os.listdir(folder))}')
        return 'read'


def _must(true: bool, what: str) -> None:
    """Raise Broken unless something holds."""
    if not true:
        raise Broken(what)


def _inside(root: str, subset: str, uid: str) -> None:
    """A clip's folder must lie in that of its subset, and its name in one line of an index."""
    folder = os.path.normpath(os.path.join(root, subset, uid))
    _must(os.path.dirname(folder) == os.path.join(root, subset), f'{uid!r} leads out of the data')
    _must(len(f'{uid}x'.splitlines()) == 1, f'{uid!r} is no folder name')
    _must('\0' not in uid, f'{uid!r} is no folder name')


def _metadata(path: str) -> None:
    rows = metadata.read_metadata(path)
    clips = [metadata.IndexedClip.from_row(row) for row in rows]
    for clip in clips:
        _inside('/data', clip.subset, clip.uid)
    index = path + '.index'
    try:
        metadata.write_index(index, 'val', clips)
        _must(metadata.read_index(index, 'val') == sorted(clips), 'an index gives other clips')
    except ValueError as error:
        raise Broken(f'an index that was written cannot be read: {error}') from error
    finally:
        Path(index).unlink(missing_ok=True)


def _index(path: str) -> None:
    clips = metadata.read_index(path)
    _must(len({clip.key for clip in clips}) == len(clips), 'a clip is there twice')
    for clip in clips:
        _inside('/data', clip.subset, clip.uid)
        _must(0 < clip.num_frames < 10**7 and all(clip.names), f'not a clip: {clip}')


def _label2idx(path: str) -> None:
    vocabulary = Vocabulary.from_files(path, 'all')
    _must(len(vocabulary.names) > 0, 'no names')
    for name in vocabulary.names:
        _must(isinstance(name, str) and bool(name.encode()), 'no text')
        _must(len(name.splitlines()) == 1, f'{name!r} is more than a line')


def _visible(path: str) -> None:
    for uid, names in metadata.read_visible(path).items():
        _must(isinstance(uid, str) and len(names) > 0, 'no text')


def _names(path: str) -> None:
    for name in read_names(path):
        _must(name == name.strip() != '' and len(name.splitlines()) == 1, f'{name!r} is no name')
        _must('\0' not in name and '\x1b' not in name, f'{name!r} has control characters')


def _label(path: str) -> None:
    labels = read_labels(path, NUM_NAMES, archive.SIZE)
    _must(labels.dtype == np.uint8 and labels.shape == archive.SIZE, 'not a label map')
    _must(labels.max() <= NUM_NAMES, 'a label of no name')


def _frame(path: str) -> None:
    rgb = read_rgb(path)
    _must(rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3, f'{rgb.dtype} {rgb.shape}')
    _must(rgb.size > 0, 'no pixels')


def _wav(path: str) -> None:
    waveform, rate = read_wav(path)
    _must(waveform.dtype == np.float64 and waveform.ndim in (1, 2), f'{waveform.dtype}')
    _must(np.isfinite(waveform).all() and len(waveform) > 0 and rate > 0, 'not finite or empty')
    if len(waveform) < 10**6:
        audio = LoadClipAudio()(dict(audio_path=path, num_frames=2))['audio']
        _must(audio.shape == (2, 1, 96, 64) and bool(np.isfinite(audio).all()), 'not patches')


def _features(path: str) -> None:
    reader = audio_features.AudioFeatures(path, WEIGHTS)
    for key, frames in (('v1s/a', 5), ('v2/b', 10), (None, 3)):
        try:
            rows = reader.rows(key, frames)
        except LookupError as error:
            _must(path in str(error), f'{error} does not name the file')
            continue
        _must(rows.dtype == np.float32 and rows.ndim == 2 and len(rows) == frames, f'{rows.shape}')
        _must(bool(np.isfinite(rows).all()) and rows.shape[1] > 0, 'not finite')


def _confusion(path: str) -> None:
    found = read_confusion(path)
    shape = (len(found.classes),) * 2
    _must(found.counts.shape == shape and found.counts.min() >= 0, 'not counts')
    found.row_percent()
    found.blocks()


def _cache(path: str) -> None:
    for key, report in read_cache(path).items():
        _must(isinstance(key, str) and isinstance(report.facts, dict), 'not a report')
        report.usable, report.facts.get('bytes')
        for kind, text in report.findings:
            _must(isinstance(kind, str) and isinstance(text, str), 'not a finding')


def _pickle(path: str) -> None:
    content = read_checkpoint(path)
    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, np.ndarray):
            _must(item.dtype.kind in 'biufc' and item.nbytes < 10**8, f'{item.dtype} {item.shape}')
            item.sum()
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, dict) else item)


# ------------------------------------------------------------------ good files
WEIGHTS = os.path.abspath(__file__)


def _csv() -> bytes:
    rows = [','.join(archive.COLUMNS)]
    rows += [f'{c.uid},{c.uid},0,0,{c.a_obj},{c.split},{c.subset}' for c in archive.CLIPS]
    return ('\n'.join(rows) + '\n').encode()


def _index_text() -> bytes:
    return b'# split val: 2 clips, 15 frames\n# clip\tframes\tnames\nv1s/a\t5\tdog_bird\nv2/b_1\t10\tcat\n'


def _picture(kind: str, mode: str = 'RGB', **options: object) -> bytes:
    file = io.BytesIO()
    labels = archive.label_map(archive.CLIPS[1], 3)
    image = Image.fromarray(np.array(voc_palette(256), np.uint8)[labels])
    if mode == 'P':
        image = Image.fromarray(labels)
        image.putpalette(np.array(voc_palette(256), np.uint8).tobytes())
    image.convert(mode).save(file, kind, **options)
    return file.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def _sound(kind: str, subtype: str, channels: int = 1, rate: int = 16000, form: str = 'WAV') -> bytes:
    file = io.BytesIO()
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (rate // 4, channels))
    soundfile.write(file, wave, rate, subtype, format=form)
    return file.getvalue()


def _embeddings() -> bytes:
    rows = {k: np.ones((n, 4), np.float32) for k, n in (('silence', 1), ('v1s/a', 5), ('v2/b', 10))}
    return save(rows, audio_features.features_meta(WEIGHTS))


def _counts() -> bytes:
    names = dict(classes=('background', 'dog', 'cat'), base_names=('dog',), novel_names=('cat',))
    return json.dumps(
        dict(kind='ovavss_mm confusion matrix', counts=np.arange(9).reshape(3, 3).tolist(), **names)
    ).encode()


def _reports() -> bytes:
    report = ClipReport('v1s/a', '0' * 20, dict(frames=5, size=[24, 32], bytes=7), [('frames', 'x')])
    lines = [json.dumps(vars(report)), json.dumps(vars(ClipReport('v2/b', '1' * 20)))]
    return ('\n'.join(lines) + '\n').encode()


def _pickles() -> tuple[bytes, ...]:
    content = {'model': {'a': np.ones((2, 3), np.float32), 'b': np.arange(4)}, 'n': np.float32(1)}
    return tuple(pickle.dumps(content, protocol) for protocol in range(5))


def make_targets() -> dict[str, Target]:
    """All targets by name."""
    table = json.dumps({n: i for i, n in enumerate(('background', *archive.NAMES))}).encode()
    targets = (
        Target('metadata.csv', '.csv', (_csv(),), _metadata, text=True),
        Target('visible.csv', '.csv', (b'uid,v_obj\na,dog_cat\nb,cat\n',), _visible, text=True),
        Target('index', '.txt', (_index_text(),), _index, text=True),
        Target('label2idx.json', '.json', (table,), _label2idx, text=True),
        Target('base_names.txt', '.txt', ('\n'.join(archive.BASE).encode(),), _names, text=True),
        Target('label map', '.png', (_picture('PNG'), _picture('PNG', 'P')), _label),
        Target(
            'frame',
            '.jpg',
            (
                _picture('JPEG'),
                _picture('JPEG', progressive=True, exif=_exif()),
                _picture('PNG', 'RGBA'),
                _picture('BMP'),
                _picture('WEBP'),
            ),
            _frame,
        ),
        Target(
            'sound',
            '.wav',
            (
                _sound('WAV', 'PCM_16'),
                _sound('WAV', 'FLOAT', 2),
                _sound('WAV', 'PCM_24', 1, 8000),
                _sound('FLAC', 'PCM_16', form='FLAC'),
                _sound('OGG', 'VORBIS', form='OGG'),
            ),
            _wav,
        ),
        Target('audio features', '.safetensors', (_embeddings(),), _features, text=True),
        Target('confusion.json', '.json', (_counts(),), _confusion, text=True),
        Target('check.jsonl', '.jsonl', (_reports(),), _cache, text=True),
        Target('pickle', '.pkl', _pickles(), _pickle),
    )
    return {target.name: target for target in targets}


def is_finite(number: float) -> bool:
    """Whether a number is finite."""
    return math.isfinite(number)
