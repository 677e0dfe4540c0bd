# SPDX-License-Identifier: Apache-2.0
"""AVSBench-OV: AVSBench-semantic with its names divided into base and novel ones (paper section 4.1)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.fileio import join_path
from mmengine.logging import print_log
from mmseg.registry import DATASETS

from ..utils.text import shorten
from .avsbench import ClipDataset, check_names_fit, check_root
from .avsbench_tasks import SOUNDING, read_binary_mask
from .metadata import OV_SUBSETS, SUBSETS, clip_names, read_index, read_metadata, select_clips
from .vocabulary import ALL_NAMES, PACKAGED_BASE_NAMES, Vocabulary


@DATASETS.register_module()
class AVSBenchOVDataset(ClipDataset):
    """Clips of AVSBench-OV, or of any folder in the layout of AVSBench-semantic.

    ``metadata.csv`` and ``label2idx.json`` lie in ``data_root``; :class:`ClipDataset` has the folders of the clips, the
    keys of a sample and of ``metainfo``.

    Args:
        data_root (str): folder of the data.
        split (str): 'train', 'val' or 'test'. A training clip is used only if all its names are base names.
        subsets (Sequence[str]): which of 'v1s', 'v1m', 'v2' to use. Defaults to ('v1s', 'v2').
        base_names (str | Sequence[str]): 'avsbench_ov' for the 40 base names of AVSBench-OV, 'all' for all names, a
            file with a name a line (relative to data_root), or the names. Defaults to 'avsbench_ov'.
        ann_file (str): the list of clips, relative to data_root. Defaults to 'metadata.csv'.
        label_file (str): the table of labels, relative to data_root. Defaults to 'label2idx.json'.
        index_file (str, optional): index of the split, as tools/dataset_converters/avsbench_ov.py writes it (relative
            to the current folder); its clips, all of them of ``subsets``, take the place of ann_file and the rule.
            Defaults to None.
        binary (bool): whether labels are 'sounding' wherever a label map has any name, for models that tell no more;
            which clips there are does not change. Defaults to False.
        **kwargs: with_labels, on_bad_clip and metainfo of :class:`ClipDataset`; pipeline, test_mode, lazy_init,
            indices, serialize_data and max_refetch.

    Raises:
        FileNotFoundError: data_root, one of its files, or the folder of a clip is missing.
        ValueError: a wrong argument, a malformed file (the message names file and line), or see :class:`ClipDataset`.
    """

    advice = (
        '\ntools/dataset_converters/avsbench_ov.py checks all clips, and can make indices without the bad ones '
        '(--fix-index)'
    )

    def __init__(
        self,
        data_root: str,
        split: str,
        subsets: Sequence[str] = OV_SUBSETS,
        base_names: str | Sequence[str] = 'avsbench_ov',
        ann_file: str = 'metadata.csv',
        label_file: str = 'label2idx.json',
        index_file: str | None = None,
        binary: bool = False,
        **kwargs: Any,
    ):
        data_root = str(data_root)
        if isinstance(subsets, str) or not subsets or not set(subsets) <= set(SUBSETS):
            raise ValueError(f'subsets must be some of {", ".join(SUBSETS)}, got {subsets!r}')
        if base_names is None:
            raise ValueError("base_names must be names, a file of them or 'all', got None")
        self.subsets = tuple(subsets)
        self.index_file = index_file
        check_root(data_root, (label_file,) if index_file else (ann_file, label_file))
        if isinstance(base_names, str) and base_names != ALL_NAMES:
            base_names = str(PACKAGED_BASE_NAMES.get(base_names) or join_path(data_root, base_names))
        label_file = join_path(data_root, label_file)
        vocabulary = Vocabulary.from_files(label_file, base_names)
        check_names_fit(vocabulary, label_file)
        self.named = vocabulary  # of the list of clips
        self.binary = binary
        if binary:
            vocabulary, self.label_reader = Vocabulary([SOUNDING], base=[SOUNDING]), read_binary_mask
        super().__init__(data_root, split, vocabulary, ann_file=ann_file, **kwargs)

    def get_data_info(self, idx: int) -> dict:
        """The sample of a clip, see :class:`ClipDataset`; with ``binary`` labels are taken as they are."""
        info = super().get_data_info(idx)
        return info | dict(label_names=self.vocabulary.names) if self.binary else info

    def rows(self) -> list[Mapping]:
        """Clips of the split, from the index or by the rule over ``metadata.csv``; logs what is left out and why.

        Raises:
            ValueError: there is none, one has a name that is no class, an index has clips of a subset that is left out,
                or a training index clips with other names than base ones.
        """
        base = self.named.base
        if self.index_file is None:
            whole = read_metadata(self.ann_file, self.named)
            found = select_clips(whole, self.split, self.subsets, base)
            rows = [dict(uid=r['uid'], subset=r['label'], names=clip_names(r)) for r in found]
            what = f'split {self.split!r}, subsets {", ".join(self.subsets)} and {len(base)} base names'
            used = left_out(whole, found, self.split, self.subsets, base)
            empty = f'{self.ann_file} has no clip for {what} ({used})'
        else:
            clips = read_index(self.index_file, self.split, self.named)
            wrong = [clip for clip in clips if self.split == 'train' and not set(base).issuperset(clip.names)]
            if wrong:
                raise ValueError(
                    f'{self.index_file} was made with other base names: {len(wrong)} of {len(clips)} training clips '
                    f'have a name that is not one of the {len(base)} base names, such as {wrong[0].key} '
                    f'({", ".join(wrong[0].names)})'
                )
            if others := [clip for clip in clips if clip.subset not in self.subsets]:
                raise ValueError(
                    f'{self.index_file} has {len(others)} of {len(clips)} clips of a subset that is left out, such as '
                    f'{others[0].key}: subsets are {", ".join(self.subsets)}'
                )
            rows = [dict(uid=c.uid, subset=c.subset, names=c.names, frames=c.num_frames) for c in clips]
            empty, used = f'the index {self.index_file} has no clip', f'all {len(clips)} clips are used'
        if not rows:
            raise ValueError(empty)
        print_log(f'split {self.split} of {self.index_file or self.ann_file}: {used}', 'current')
        return [row | dict(split=self.split) for row in rows]


def left_out(rows: Sequence[Mapping], used: Sequence, split: str, subsets: Sequence[str], base: Sequence[str]) -> str:
    """How many clips of a split are used, and why the rest is not, in words."""
    rows = [row for row in rows if row['split'] == split]
    other = Counter(row['label'] for row in rows if row['label'] not in subsets)
    names = Counter(name for row in rows if row['label'] in subsets for name in {*clip_names(row)} - {*base})
    reasons = [f'{n} of subset {subset}' for subset, n in sorted(other.items())]
    if others := len(rows) - other.total() - len(used):
        most = shorten(f'{name} {n}' for name, n in names.most_common())
        reasons.append(f'{others} with names that are not base ({most})')
    text = f'{len(used)} of {len(rows)} clips are used'
    return f'{text}; left out: {", ".join(reasons)}' if reasons else text
