# SPDX-License-Identifier: Apache-2.0
"""Sam4AVS: frozen models name the sound, find boxes for the names, and masks for the boxes (Table 1)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ...datasets.vocabulary import Vocabulary
from .clip_segmentor import ClipSegmentor, Found, checked_test_cfg, refuse_unread

ORDERS = ('box', 'sound', 'product')
NUM_NAMES = {'v1s': 1, 'v2': 2}
WINDOW = 10  # frames, those of the longest clips; they are independent
MAX_BOXES = 100  # of a frame


class Heard(NamedTuple):
    """A name that is heard in a frame: its label and its cosine with the sound."""

    label: int
    score: float


@MODELS.register_module()
class Sam4AVS(ClipSegmentor):
    """Sound to names, names to boxes, boxes to masks, frame by frame; nothing is trained.

    The best names of a frame's sound are looked for in the frame; each box becomes a mask of that name, and masks are
    painted best first. As published, a silent frame has names too. Equal frames, sounds and names of a window are gone
    through once.

    Args:
        namer (dict): config of the part that compares sound with names, see
            :class:`~ovavss_mm.models.interfaces.SoundNamer`.
        proposer (dict): config of the part that finds boxes of names, see
            :class:`~ovavss_mm.models.interfaces.BoxProposer`.
        masker (dict): config of the part that makes masks of boxes, see
            :class:`~ovavss_mm.models.interfaces.BoxMasker`.
        num_names (int | Mapping[str, int] | str): names looked for in a frame: a number; by metainfo ``subset``, where
            a clip of none of the subsets, such as an own video, has the greatest number; or 'oracle', as many as
            metainfo ``names`` has. Defaults to 1 in v1s and 2 in v2.
        order (str): the score by which masks are painted: 'box', that of the box, 'sound', the cosine of sound and
            name, or their 'product'. Defaults to 'box'.
        min_name_score (float, optional): least cosine of a name that is looked for; our extension. Defaults to None.
        data_preprocessor (dict, optional): config of the data preprocessor. Defaults to None.
        test_cfg (dict, optional): ``mode``, ``window``, ``stride``, ``return_masks`` as of
            :class:`~ovavss_mm.models.AVEncoderDecoder`; ``max_pairs``, of which only the best boxes of a frame are
            kept (published: all); ``score_thr``, which scores of boxes are above. Defaults to windows of 10 frames,
            100 boxes and 0, as the proposer has a threshold of its own.
        init_cfg (dict, optional): as in mmengine. Defaults to None.
        train_cfg (None): mmseg's ``init_model`` sets it, as the next; nothing reads them.
        pretrained (None): see above.

    Raises:
        ValueError: a wrong value of a key.
    """

    def __init__(
        self,
        namer: dict,
        proposer: dict,
        masker: dict,
        num_names: int | Mapping[str, int] | str = NUM_NAMES,
        order: str = 'box',
        min_name_score: float | None = None,
        data_preprocessor: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        train_cfg: None = None,
        pretrained: None = None,
    ) -> None:
        refuse_unread(train_cfg, pretrained)
        super().__init__(data_preprocessor, init_cfg)
        counts = list(num_names.values()) if isinstance(num_names, Mapping) else [num_names]
        if num_names != 'oracle' and not (counts and all(type(n) is int and n >= 1 for n in counts)):
            raise ValueError(
                "num_names must be a whole number of at least 1, a dict of such by subset, or 'oracle', "
                f'got {num_names!r}'
            )
        if order not in ORDERS:
            raise ValueError(f'order must be one of {", ".join(ORDERS)}, got {order!r}')
        if min_name_score is not None and not -1 <= min_name_score <= 1:
            raise ValueError(f'min_name_score must be None or a cosine in [-1, 1], got {min_name_score}')
        self.num_names, self.order, self.min_name_score = num_names, order, min_name_score
        self.test_cfg = checked_test_cfg(dict(window=WINDOW, max_pairs=MAX_BOXES, score_thr=0.0) | (test_cfg or {}))
        self.sound_namer = MODELS.build(namer)
        self.proposer = MODELS.build(proposer)
        self.masker = MODELS.build(masker)

    # ------------------------------------------------------------------ names
    @property
    def namer(self) -> 'Sam4AVS':
        """Itself, as two of its parts read names."""
        return self

    @property
    def open_vocabulary(self) -> bool:
        """Whether any names can be given."""
        return self.sound_namer.open_vocabulary

    def text_embeddings(self, names: Sequence[str], show_progress: bool = False) -> Tensor:
        """See :class:`~ovavss_mm.models.interfaces.SoundNamer`."""
        return self.sound_namer.text_embeddings(names, show_progress)

    def truncated_words(self, vocabulary: Vocabulary) -> list[str]:
        """Names and synonyms whose ends one of the parts does not read."""
        spoken = {self.sound_namer.spoken(word): word for word in vocabulary.words}
        words = [spoken[word] for word in self.proposer.truncated_words(list(spoken))]
        return list(dict.fromkeys([*self.sound_namer.truncated_words(vocabulary), *words]))

    # ------------------------------------------------------------------ testing
    @torch.no_grad()
    def find(self, inputs: dict[str, list[Tensor]], metas: list[dict]) -> Iterator[Found]:
        """See :class:`ClipSegmentor`; frames are independent of each other.

        Yields:
            Found: its pairs also have ``boxes`` (M, 4) float32, left, top, right, bottom in pixels of the frame that
            the model sees, and ``frames`` (M,) int64, the place in the window. Notes of a frame: ``names`` and
            ``name_scores``, and of its boxes, best first, ``boxes``, ``box_names`` and ``box_scores``, all lists.
        """
        for frames, audio, meta in zip(inputs['frames'], inputs['audio'], metas, strict=True):
            same, names = first_equal(frames), meta['vocabulary']
            heard = self._hear(audio, meta)
            pairs = self._best(self._look(frames, same, heard, names), len(frames))
            notes = [_note(names, heard[t], pairs[pairs.frames == t]) for t in range(len(frames))]
            pairs.masks = self._mask(frames, same, pairs, tuple(meta['ori_shape']))
            for key in ('ids', 'box_scores'):
                pairs.pop(key)
            yield Found(pairs, notes=notes)

    def _hear(self, audio: Tensor, meta: dict) -> list[list[Heard]]:
        """Names of the sounds (T, ...) of T frames, best first."""
        first = first_equal(audio)
        once = sorted(set(first))
        scores = self.sound_namer.scores(audio[once], meta['vocabulary'])
        best, labels = scores[[once.index(t) for t in first]].sort(descending=True, stable=True)
        count, least = self._count(meta), self.min_name_score
        rows = zip(labels[:, :count].tolist(), best[:, :count].tolist(), strict=True)
        heard = [[Heard(*x) for x in zip(*row, strict=True)] for row in rows]
        return [[name for name in names if least is None or name.score >= least] for names in heard]

    def _count(self, meta: dict) -> int:
        """How many names are looked for in the frames of a clip."""
        if isinstance(self.num_names, int):
            return self.num_names
        if isinstance(self.num_names, Mapping):
            return self.num_names.get(meta.get('subset'), max(self.num_names.values()))
        if 'names' not in meta:
            raise ValueError("num_names='oracle' needs the names of a clip, metainfo `names`: set a number instead")
        return len(meta['names'])

    def _look(
        self, frames: Tensor, same: list[int], heard: list[list[Heard]], vocabulary: Sequence[str]
    ) -> InstanceData:
        """Boxes of the names that are heard in frames (T, 3, h, w), and of their synonyms, in the order of frames.

        Returns:
            InstanceData: ``labels``, ``frames``, ``boxes``, ``box_scores``, ``sound_scores`` and ``ids`` (M,): boxes of
            equal frames are one.
        """
        synonyms = getattr(vocabulary, 'synonyms', {})
        asked = [
            (t, name, (same[t], self.sound_namer.spoken(word)))
            for t, names in enumerate(heard)
            for name in names
            for word in (vocabulary[name.label], *synonyms.get(vocabulary[name.label], ()))
        ]
        keys = list(dict.fromkeys(key for _, _, key in asked))
        seen = sorted({t for t, _ in keys})
        found = self.proposer(frames[seen], [(seen.index(t), word) for t, word in keys]) if keys else []
        ends = torch.tensor([len(boxes) for boxes in found]).cumsum(0).tolist()
        found = {key: (boxes, end) for key, boxes, end in zip(keys, found, ends, strict=True)}
        parts = [_empty_pairs(frames.device)]
        for t, name, key in asked:
            boxes, end = found[key]
            part = InstanceData(boxes=boxes.boxes, box_scores=boxes.scores)
            part.ids = torch.arange(end - len(boxes), end, device=frames.device)
            part.labels, part.frames = torch.full_like(part.ids, name.label), torch.full_like(part.ids, t)
            part.sound_scores = torch.full_like(boxes.scores, name.score)
            parts.append(part)
        return InstanceData.cat(parts)

    def _best(self, pairs: InstanceData, num_frames: int) -> InstanceData:
        """Pairs of boxes above ``score_thr``, at most ``max_pairs`` a frame, by falling ``scores``."""
        pairs = pairs[pairs.box_scores > self.test_cfg['score_thr']]
        scores = dict(box=pairs.box_scores, sound=pairs.sound_scores, product=pairs.box_scores * pairs.sound_scores)
        pairs.scores = scores[self.order]
        order = pairs.scores.argsort(descending=True, stable=True)
        most = self.test_cfg['max_pairs']
        kept = torch.cat([order[pairs.frames[order] == t][:most] for t in range(num_frames)])
        return pairs[kept[pairs.scores[kept].argsort(descending=True, stable=True)]]

    def _mask(self, frames: Tensor, same: list[int], pairs: InstanceData, shape: tuple[int, int]) -> Tensor:
        """Masks (M, T, H, W) bool of pairs, each in its own frame only."""
        masks = torch.zeros(len(pairs), len(frames), *shape, dtype=torch.bool, device=frames.device)
        owners = torch.tensor(same, device=frames.device)[pairs.frames]
        for frame in owners.unique().tolist():
            rows = (owners == frame).nonzero()[:, 0]
            ids, place = pairs.ids[rows].unique(return_inverse=True)
            boxes = torch.stack([pairs.boxes[pairs.ids == number][0] for number in ids])
            (embedding,) = self.masker.embed(frames[frame, None])
            logits, _ = self.masker(embedding, boxes, tuple(frames.shape[-2:]), out_shape=shape)
            masks[rows, pairs.frames[rows]] = (logits > 0)[place]
        return masks

    # ------------------------------------------------------------------ what mmseg asks of segmentors
    def extract_feat(self, inputs: dict[str, list[Tensor]]) -> list[Tensor]:
        """Embeddings of the frames of B clips by the masker."""
        return [self.masker.embed(frames) for frames in inputs['frames']]

    def encode_decode(self, inputs: dict[str, list[Tensor]], batch_data_samples: list[SegDataSample]) -> list[Found]:
        """What is found in B clips."""
        return list(self.find(inputs, [sample.metainfo for sample in batch_data_samples]))

    def _forward(self, inputs: dict[str, list[Tensor]], data_samples: list[SegDataSample]) -> list[Found]:
        """See :meth:`encode_decode`."""
        return self.encode_decode(inputs, data_samples)

    def loss(self, inputs: dict[str, list[Tensor]], data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Refuse to train."""
        raise NotImplementedError('Sam4AVS is made of frozen models, nothing is trained')


def first_equal(rows: Tensor) -> list[int]:
    """For each row (T, ...) the place of the first equal one."""
    seen: dict[bytes, int] = {}
    return [seen.setdefault(row.cpu().numpy().tobytes(), t) for t, row in enumerate(rows)]


def _empty_pairs(device: torch.device) -> InstanceData:
    """No pairs, with the keys of those there may be."""
    none, empty = torch.zeros(0, dtype=torch.long, device=device), torch.zeros(0, device=device)
    counted = dict(labels=none, frames=none, ids=none)
    return InstanceData(boxes=empty.view(0, 4), box_scores=empty, sound_scores=empty, **counted)


def _note(vocabulary: Sequence[str], heard: list[Heard], pairs: InstanceData) -> dict:
    """What a frame's label map was made of, see :meth:`Sam4AVS.find`."""
    return dict(
        names=[vocabulary[name.label] for name in heard],
        name_scores=[name.score for name in heard],
        boxes=pairs.boxes.tolist(),
        box_names=[vocabulary[label] for label in pairs.labels.tolist()],
        box_scores=pairs.box_scores.tolist(),
    )
