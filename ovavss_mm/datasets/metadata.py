# SPDX-License-Identifier: Apache-2.0
"""Which clips a split has: the rule over ``metadata.csv``, and indices that fix what it gave."""

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mmengine.fileio import exists

from ..utils.files import write_atomic
from ..utils.text import nearest, one_line
from .files import is_plain, read_utf8

SPLITS = ('train', 'val', 'test')
NUM_FRAMES = {'v1s': 5, 'v1m': 5, 'v2': 10}  # of a clip of AVSBench-semantic, one a second
SUBSETS = tuple(NUM_FRAMES)
OV_SUBSETS = ('v1s', 'v2')  # those that AVSBench-OV uses
COLUMNS = ('uid', 'a_obj', 'split', 'label')
# Names in a_obj of the official file that are no classes, and the splits that may have them.
NO_CLASSES = {
    'off-the-screen': SPLITS,  # nothing that is seen sounds
    'background': ('train',),  # the same, in five clips of v1m
    'h orse': ('train',),  # misspelt in one clip, which drops out: it is not among the paper's 5,184
}
VISIBLE_FILE = 'visible.csv'  # what clips show, sounding or not, where that is known
MAX_SHOWN = 300  # letters that a message has of what a file says


def clip_names(row: Mapping[str, str]) -> tuple[str, ...]:
    """The names of what sounds in a clip, from its row of ``metadata.csv``; blanks around them are removed."""
    return tuple(name.strip() for name in row['a_obj'].split('_'))


def select_clips(
    rows: Iterable[Mapping[str, str]], split: str, subsets: Collection[str] = OV_SUBSETS, base: Collection[str] = ()
) -> list[Mapping[str, str]]:
    """The AVSBench-OV rule: which clips belong to a split.

    Args:
        rows (Iterable[Mapping]): rows of ``metadata.csv``.
        split (str): 'train', 'val' or 'test'.
        subsets (Collection[str]): some of 'v1s', 'v1m' and 'v2'. Defaults to OV_SUBSETS.
        base (Collection[str]): base names. A training clip stays only if each of its names is one of them; for val and
            test they do not matter. Defaults to ().

    Returns:
        list[Mapping]: the rows that stay, in their order.
    """
    base = set(base)
    rows = [row for row in rows if row['split'] == split and row['label'] in subsets]
    return [row for row in rows if split != 'train' or base.issuperset(clip_names(row))]


def read_metadata(path: str, classes: Collection[str] | None = None) -> list[dict[str, str]]:
    """Read and check ``metadata.csv``; blanks around its fields are removed.

    Args:
        path (str): the file.
        classes (Collection[str], optional): the names that a_obj may have besides NO_CLASSES, in whatever split and
            subset. Defaults to None: any.

    Returns:
        list[dict]: one a clip, with at least the keys uid, a_obj, split and label.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is malformed, or has a name that is none of ``classes``; the message names the line.
    """
    reader = csv.DictReader(io.StringIO(read_utf8(path), newline=''), skipinitialspace=True)
    rows, first_line = [], {}
    try:
        names = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        missing = [name for name in COLUMNS if names.count(name) != 1]
        if missing:
            none = 'no' if missing[0] not in names else 'more than one'
            raise ValueError(f'{path}, line 1: {none} column {", ".join(missing)}')
        for row in reader:
            row = {key: value.strip() if isinstance(value, str) else value for key, value in row.items()}
            problem = _row_problem(row)
            if not problem and row['uid'] in first_line:
                problem = f'clip {row["uid"]!r} was in line {first_line[row["uid"]]} already'
            if problem:
                raise ValueError(f'{path}, line {reader.line_num}: {one_line(problem, MAX_SHOWN)}')
            first_line[row['uid']] = reader.line_num
            rows.append(row)
    except csv.Error as err:
        raise ValueError(f'{path}, line {reader.line_num}: {err}') from err
    if classes is not None:
        clips = ((first_line[row['uid']], row['uid'], row['split'], clip_names(row)) for row in rows)
        _refuse_names(path, clips, classes)
    return rows


def read_visible(path: str) -> dict[str, tuple[str, ...]]:
    """Read which names clips show, sounding or not: a table of uid and v_obj, names joined by ``_`` as in a_obj.

    Returns:
        dict: names by uid; empty if there is no such file. Names that are no class are kept: no sound has them.

    Raises:
        ValueError: the file is malformed; the message names the line.
    """
    if not exists(path):
        return {}
    reader, seen = csv.reader(io.StringIO(read_utf8(path), newline='')), {}
    try:
        for row in reader:
            row = [field.strip() for field in row]
            if reader.line_num == 1 and row != ['uid', 'v_obj']:
                raise ValueError(f'expected the columns uid and v_obj, got {row}')
            if row and (len(row) != 2 or row[0] in seen):
                raise ValueError(f'expected the uid of another clip and names joined by "_", got {row}')
            if row:
                seen[row[0]] = tuple(name.strip() for name in row[1].split('_') if name.strip())
    except (csv.Error, ValueError) as err:
        raise ValueError(f'{path}, line {reader.line_num}: {one_line(str(err), MAX_SHOWN)}') from err
    seen.pop('uid', None)
    return seen


def _refuse_names(path: str, clips: Iterable[tuple[int, str, str, tuple]], classes: Collection[str]) -> None:
    """Raise ValueError if clips (line, clip, split, names) have names that are neither classes nor in NO_CLASSES."""
    known, wrong = set(classes), {}
    for line, clip, split, names in clips:
        for name in names:
            if name not in known and split not in NO_CLASSES.get(name, ()):
                wrong.setdefault(name, f'{path}, line {line}: clip {clip} has the name {one_line(repr(name))}')
    if wrong:
        known.add('off-the-screen')
        first = [
            f'{text}, which is no class; the nearest is {nearest(n, sorted(known))!r}'
            for n, text in [*wrong.items()][:5]
        ]
        more = f'\nand {len(wrong) - 5} more such names' if len(wrong) > 5 else ''
        raise ValueError('\n'.join(first) + more + '\n(a_obj joins names of label2idx.json by "_")')


def _row_problem(row: dict) -> str | None:
    """What is wrong with a row of ``metadata.csv``, if anything."""
    if None in row or None in row.values():
        return 'the number of fields is not that of the header'
    for key, allowed in (('split', SPLITS), ('label', SUBSETS)):
        if row[key] not in allowed:
            return f'{key} must be one of {", ".join(allowed)}, got {row[key]!r}'
    if not all(clip_names(row)) or not all(map(is_plain, clip_names(row))):
        return f'a_obj must be names joined by "_", got {row["a_obj"]!r}'
    uid = row['uid']
    if uid.strip() in ('', '.', '..') or set(uid) & set('/\\') or not is_plain(uid):
        return f'uid must be the name of a folder, got {uid!r}'
    return None


# ------------------------------------------------------------------ indices
@dataclass(frozen=True, order=True)
class IndexedClip:
    """A line of an index."""

    subset: str  # 'v1s', 'v1m' or 'v2'
    uid: str  # name of the clip's folder
    num_frames: int  # one a second
    names: tuple[str, ...]  # what sounds in it

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> 'IndexedClip':
        """Make one from a row of ``metadata.csv``, with the number of frames of its subset."""
        return cls(row['label'], row['uid'], NUM_FRAMES[row['label']], clip_names(row))

    @property
    def key(self) -> str:
        """``subset/uid``, the clip's folder below the root of the data."""
        return f'{self.subset}/{self.uid}'


def write_index(path: str, split: str, clips: Iterable[IndexedClip]) -> None:
    """Write the clips of a split as readable text, atomically: the same clips give the same bytes.

    After two lines of comments there is a line a clip, ``<subset>/<uid>``, the number of frames and the names joined by
    ``_``, with tabs between, sorted.
    """
    clips = sorted(clips)
    frames = sum(clip.num_frames for clip in clips)
    lines = [f'# split {split}: {len(clips)} clips, {frames} frames', '# clip\tframes\tnames']
    lines += [f'{clip.key}\t{clip.num_frames}\t{"_".join(clip.names)}' for clip in clips]
    write_atomic(path, '\n'.join(lines) + '\n')


def read_index(path: str, split: str | None = None, classes: Collection[str] | None = None) -> list[IndexedClip]:
    """Read what :func:`write_index` wrote for some split (None: for any), in the order of the file.

    ``classes`` are the names that clips may have, as in :func:`read_metadata`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no index or one of another split, a line is malformed, a clip is there twice or has a name
            that is none of ``classes``; the message names the line.
    """
    if not exists(path):
        raise FileNotFoundError(f'no index {path}; tools/dataset_converters/avsbench_ov.py makes it')
    lines = read_utf8(path).splitlines()
    first = re.match(r'# split (\w+):', lines[0] if lines else '')
    if not first:
        raise ValueError(f'{path}, line 1: an index begins with "# split", this file does not')
    if split not in (None, first[1]):
        raise ValueError(f'{path} is the index of split {first[1]!r}, {split!r} was asked for')
    clips: dict[str, IndexedClip] = {}
    numbers: list[int] = []
    for number, line in enumerate(lines, 1):
        if line.startswith('#') or not line.strip():
            continue
        clip = _parse_line(line)
        if clip is None or clip.key in clips:
            wanted = 'expected subset/uid, frames and names with tabs between'
            problem = f'clip {clip.key} is there twice' if clip else wanted
            raise ValueError(f'{path}, line {number}: {one_line(f"{problem}, got {line!r}", MAX_SHOWN)}')
        clips[clip.key] = clip
        numbers.append(number)
    if classes is not None:
        _refuse_names(
            path, ((n, c.key, first[1], c.names) for n, c in zip(numbers, clips.values(), strict=True)), classes
        )
    return list(clips.values())


def _parse_line(line: str) -> IndexedClip | None:
    """The clip of a line of an index, None if the line is malformed."""
    match line.split('\t'):
        case [key, frames, names] if '/' in key and re.fullmatch('0*[1-9][0-9]{0,5}', frames):
            subset, uid = key.split('/', 1)
            row = dict(uid=uid, label=subset, split='train', a_obj=names)
            return None if _row_problem(row) else IndexedClip(subset, uid, int(frames), clip_names(row))
    return None
