# SPDX-License-Identifier: Apache-2.0
"""Clips of any shapes in windows of one shape, and label maps from what a model finds in a window."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from mmengine.structures import InstanceData, PixelData
from mmseg.models.segmentors import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ..layers.frozen import read_frozen
from .windows import Blender, group_windows

TEST_CFG = dict(mode='slide', window=5, stride=None, max_pairs=10, score_thr=0.3, return_masks=False)


class ClipWindow(NamedTuple):
    """Frames ``start`` to ``stop - 1`` of a clip of the batch; those before ``done`` are in no later window."""

    clip: int
    start: int
    stop: int
    done: int


class Found(NamedTuple):
    """What a model finds in a window of T frames.

    Attributes:
        pairs (InstanceData): painted pairs of mask and name, best first: ``labels`` (M,) 0-based names, ``scores`` and
            ``sound_scores`` (M,), ``masks`` (M, T, H, W) bool at the size of the label map.
        logits (Tensor, optional): (T, H, W) float32, of 'sounding', of a model that tells only that.
        notes (list[dict], optional): for each frame, what it was made of, for pictures and to trace errors.
    """

    pairs: InstanceData
    logits: Tensor | None = None
    notes: list[dict] | None = None


class ClipSegmentor(BaseSegmentor):
    """Base of segmentors of clips: subclasses override :meth:`loss`, :meth:`find` and :attr:`namer`.

    Clips of equal shape go through the network together, others one after the other, so each clip of a batch gets
    exactly what it gets alone. Subclasses set ``test_cfg``, see :func:`checked_test_cfg`.

    Attributes:
        hears (bool): whether it takes sound.
        is_binary (bool): whether it tells only what sounds from what does not.
    """

    hears = True
    is_binary = False

    @property
    def window(self) -> int:
        """T of the windows that slide over a clip."""
        return self.test_cfg['window']

    def predict(self, inputs: dict[str, list[Tensor]], data_samples: list[SegDataSample]) -> list[SegDataSample]:
        """Label maps of B clips of any shapes.

        Args:
            inputs (dict): ``imgs``, ``frames`` and ``audio``, lists of B, as the data preprocessor gives them; and
                what else it gives of sound, a row a frame.
            data_samples (list[SegDataSample]): metainfo ``vocabulary``, the N class names, and ``ori_shape``, the size
                of the label map.

        Returns:
            list[SegDataSample]: the samples with ``pred_sem_seg`` (T, H, W) uint8 (int16 for 255 names and more): 0
            background, i + 1 name i; and ``pred_queries``, the painted pairs of query and name: ``labels``, ``scores``,
            ``sound_scores`` and ``window_start`` (M,), the first frame of the window in which each was found, what
            :func:`best_pairs` keeps of their queries, and ``masks`` (M, T, H, W) bool with ``return_masks``. A model
            of one class also leaves ``seg_logits`` (T, H, W) float32, of 'sounding', one that takes notes metainfo
            ``frame_notes``, a list of T; where windows overlap, those of the later one.

        Raises:
            ValueError: a sample without vocabulary, or queries without the tracker or classifier that they need.
        """
        read_frozen(self)  # of a model that was built and given no checkpoint, as mmseg's `init_model` may do
        metas = [sample.metainfo for sample in data_samples]
        for meta in metas:
            if not meta.get('vocabulary'):
                raise ValueError(
                    f'clip {meta.get("clip_id", "without a name")} has an empty vocabulary: give metainfo '
                    '`vocabulary`, the names to look for'
                )
        return self.postprocess_result(self.inference(inputs, metas), data_samples)

    def find(self, inputs: dict[str, list[Tensor]], metas: list[dict]) -> Iterator[Found]:
        """Find the sounding objects in B windows of one shape; subclasses override this.

        Args:
            inputs (dict): as of :meth:`predict`, B windows of T frames.
            metas (list[dict]): metainfo of their samples.

        Yields:
            Found: of each window; one after the other, as masks are large.
        """
        raise NotImplementedError

    @property
    def namer(self) -> nn.Module | None:
        """The part that takes names: ``open_vocabulary``, and if so ``text_embeddings`` and ``truncated_words``."""
        return getattr(self, 'classifier', None)

    @property
    def sound_gates(self) -> list[nn.Module]:
        """The parts that leave out queries whose sound score is not above their ``sound_thr``, if any."""
        return [part for part in self.modules() if 'sound_thr' in vars(part)]  # not through a part that wraps one

    def aug_test(self, *args: object, **kwargs: object) -> None:
        """Refuse test-time augmentation, which averages the logits of fixed classes."""
        raise NotImplementedError(f'{type(self).__name__} has no test-time augmentation')

    def inference(self, inputs: dict[str, list[Tensor]], batch_img_metas: list[dict]) -> list[tuple[Tensor, Found]]:
        """Segment B clips of any shapes, in windows that slide over time or whole.

        Args:
            inputs (dict): as of :meth:`predict`.
            batch_img_metas (list[dict]): metainfo of B samples, see :meth:`predict`.

        Returns:
            list[tuple]: for each clip, its label map (T, H, W) and what was :class:`Found`, without masks unless
            ``return_masks`` asks for them.
        """
        mode = self.slide_inference if self.test_cfg['mode'] == 'slide' else self.whole_inference
        return mode(inputs, batch_img_metas)

    def whole_inference(
        self, inputs: dict[str, list[Tensor]], batch_img_metas: list[dict]
    ) -> list[tuple[Tensor, Found]]:
        """:meth:`inference` on whole clips."""
        windows = [ClipWindow(i, 0, len(x), len(x)) for i, x in enumerate(inputs['imgs'])]
        return self._infer_windows(inputs, batch_img_metas, windows)

    def slide_inference(
        self, inputs: dict[str, list[Tensor]], batch_img_metas: list[dict]
    ) -> list[tuple[Tensor, Found]]:
        """:meth:`inference` in windows that slide over time; the last one is shifted back, never short."""
        stride = self.test_cfg['stride'] or self.window
        windows = [
            ClipWindow(i, window.numbers[0], window.numbers[-1] + 1, done)
            for i, clip in enumerate(inputs['imgs'])
            for (window,), done in group_windows(range(len(clip)), self.window, stride)
        ]
        return self._infer_windows(inputs, batch_img_metas, windows)

    def _infer_windows(
        self, inputs: dict[str, list[Tensor]], metas: list[dict], windows: list[ClipWindow]
    ) -> list[tuple[Tensor, Found]]:
        """Label maps, and what was found, of clips from their windows in order of time, of one shape a clip."""

        def cut(key: str, window: ClipWindow) -> Tensor:
            return inputs[key][window.clip][window.start : window.stop]

        blenders = [Blender(len(meta['vocabulary'])) for meta in metas]
        maps: list[list] = [[] for _ in metas]
        pairs: list[list] = [[] for _ in metas]
        logits: list[Any] = [{} for _ in metas]  # by frame, as windows overlap
        notes: list[Any] = [{} for _ in metas]
        rows = [key for key in inputs if key != 'frames']
        for group in group_by(windows, lambda w: tuple(cut(key, w).shape for key in rows)):
            # a long clip is no larger batch than a short one
            for at in range(0, len(group), len(metas)):
                chunk = group[at : at + len(metas)]
                batch = {key: [cut(key, w) for w in chunk] for key in inputs}
                for w, found in zip(chunk, self.find(batch, [metas[w.clip] for w in chunk]), strict=True):
                    for kept, part in ((logits, found.logits), (notes, found.notes)):
                        if part is not None:
                            kept[w.clip].update(zip(range(w.start, w.stop), part, strict=True))
                    blenders[w.clip].add(list(range(w.start, w.stop)), found.pairs)
                    maps[w.clip] += [x for _, x, _ in blenders[w.clip].take(w.done)]
                    found.pairs.window_start = torch.full_like(found.pairs.labels, w.start)
                    if not self.test_cfg['return_masks']:  # masks at full size are large
                        found.pairs.pop('masks')
                    pairs[w.clip].append(found.pairs)
        logits, notes = ([[part[t] for t in sorted(part)] or None for part in parts] for parts in (logits, notes))
        found = [
            Found(InstanceData.cat(p), torch.stack(x) if x else None, note)
            for p, x, note in zip(pairs, logits, notes, strict=True)
        ]
        return list(zip(map(torch.stack, maps), found, strict=True))

    def postprocess_result(
        self, results: list[tuple[Tensor, Found]], data_samples: list[SegDataSample]
    ) -> list[SegDataSample]:
        """Put what :meth:`inference` gives into the samples, see :meth:`predict`."""
        for sample, (label_map, found) in zip(data_samples, results, strict=True):
            sample.set_data(dict(pred_sem_seg=PixelData(data=label_map), pred_queries=found.pairs))
            if found.logits is not None:
                sample.seg_logits = PixelData(data=found.logits)
            if found.notes is not None:
                sample.set_metainfo(dict(frame_notes=found.notes))
        return data_samples


def frame_shapes(frames: Tensor, meta: dict) -> tuple[tuple[int, int], ...]:
    """Sizes of the frames (T, 3, h, w) without padding, of the padded input, and of the label map."""
    height, width = frames.shape[-2:]
    return (height, width), meta.get('pad_shape', (height, width)), tuple(meta['ori_shape'])


def group_by(items: Iterable, key: Callable[[Any], Hashable]) -> list[list]:
    """Group items of equal key, in order of first appearance."""
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


def checked_test_cfg(cfg: dict) -> dict:
    """Complete ``test_cfg``, and validate its keys and values."""
    cfg = TEST_CFG | cfg
    window, stride = cfg['window'], cfg['stride']
    counts = all(type(cfg[key]) is int and cfg[key] >= 1 for key in ('window', 'max_pairs'))
    strides = stride is None or (type(stride) is int and counts and 1 <= stride <= window)
    if set(cfg) != set(TEST_CFG) or cfg['mode'] not in ('slide', 'whole') or not counts or not strides:
        raise ValueError(
            f"test_cfg has the keys {tuple(TEST_CFG)}, mode 'slide' or 'whole', stride None or from 1 to window, "
            f'window and max_pairs whole numbers of at least 1, got {cfg}'
        )
    thr = cfg['score_thr']
    if isinstance(thr, bool) or not isinstance(thr, (int, float)) or thr != thr:
        raise ValueError(f'test_cfg.score_thr must be a number, got {thr!r}')
    return cfg


def refuse_unread(train_cfg: object, pretrained: object) -> None:
    """Raise ValueError if what mmseg's ``init_model`` sets to None is anything else: nothing reads it."""
    if train_cfg or pretrained:
        raise ValueError(
            f'nothing reads train_cfg and pretrained, got {train_cfg} and {pretrained}: weights are named by the '
            'init_cfg of a part, or load_from'
        )
