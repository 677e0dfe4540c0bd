# SPDX-License-Identifier: Apache-2.0
"""Segments the sounding objects of videos, with class names that are given with the call."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmseg.structures import SegDataSample

import ovavss_mm.datasets
import ovavss_mm.models  # noqa: F401  (a config given as a dict imports nothing itself)

from ..datasets.transforms import PackAVSegInputs
from ..datasets.transforms.audio import KEYS as SOUNDS
from ..datasets.vocabulary import Vocabulary
from ..models.segmentors.windows import Blender, ObjectNumbers, Window, frame_classes, frame_objects, group_windows
from ..models.trackers import linker_of
from ..utils.text import one_line, shorten
from .list_labeller import ListLabeller
from .loading import binary_name, build_model, build_pipeline, choose_device, find_model, names_of_training
from .model_card import ModelCard
from .video.base import Source, frames_at
from .video.record import OutputOptions
from .video.request import InferenceRequest, LabelledFrame, check_separate
from .video.sound import SoundReader

SETTINGS = ('synonyms', 'prompt_templates', 'score_thr', 'min_sound_score', 'fps', 'overlap', 'batch_size', 'opacity')
OUTPUTS = tuple(field.name for field in fields(OutputOptions))


class AVSegInferencer:
    """Segments the sounding objects of videos, with class names you choose.

    It is no mmengine ``BaseInferencer``: that one's hooks take a whole input at a time, this one labels a stream.

    Example::

        inferencer = AVSegInferencer('ovavss_r50_release', weights='data/weights/ovavss_r50_release.pth')
        result = inferencer('clip.mp4', classes=['violin', 'dog'], synonyms={'dog': ['puppy']}, out_dir='out')
        result['predictions'][0]['names']['dog']['intervals']  # [[0.0, 3.0], [7.0, 8.0]]

    Args:
        model (str | Path | Config | dict): a config: its path, the bare name of one of the package's, or its content;
            or a model in a folder, or its id on the hub (docs/pretrained.md), which has weights and all else.
        weights (str | Path): checkpoint of a model of this config. None: a model in a folder, or without trained
            weights.
        device (str): such as ``'cpu'`` or ``'cuda:0'``. Defaults to a GPU if there is one.
        scope (str): of the registries. Defaults to 'mmseg'.
        show_progress (bool): whether to show a bar with the time left. Defaults to True.

    Raises:
        FileNotFoundError: the config, the checkpoint, or the weights of a frozen part (CLIP, VGGish) are missing.
        ValueError: no weights, weights of another model, a device that is not there, or a wrong value in ``linker``.
    """

    def __init__(
        self,
        model: str | Path | Config | dict,
        weights: str | Path | None = None,
        device: str | None = None,
        scope: str = 'mmseg',
        show_progress: bool = True,
    ) -> None:
        init_default_scope(scope)
        device = choose_device(device)
        found = find_model(model, weights)
        self.config_name, self.cfg, self.weights, self.folder = found.name, found.cfg, found.weights, found.folder
        self.dataset_meta, self.show_progress = found.dataset_meta, show_progress
        self.model = build_model(found).to(device).eval()
        self.pipeline, self.front_ends = build_pipeline(self.cfg, self.model.hears)
        self.linker_cfg = self.cfg.get('linker', dict(type='WindowLinker'))
        linker_of(self.linker_cfg)  # a wrong value is named now
        self.is_open = getattr(self.model.namer, 'open_vocabulary', False)  # it takes any class names
        known = names_of_training(dict(meta=dict(dataset_meta=self.dataset_meta)))
        self.own_names = None if self.is_open else known or binary_name(self.model)

    def save_pretrained(self, folder: str | Path, card: ModelCard | None = None, dtype: str = 'float32') -> Path:
        """Write the model into a folder, see :func:`ovavss_mm.apis.pretrained.save_pretrained`."""
        from .model_writing import save_pretrained

        return save_pretrained(self, folder, card, dtype)

    # ------------------------------------------------------------------ a call
    def __call__(self, inputs: Any, classes: Sequence[str] | None = None, **kwargs: Any) -> dict[str, list]:
        """Segment videos: what :meth:`each` gives, as a dict of two lists, ``predictions`` and ``visualization``."""
        results: dict[str, list] = dict(predictions=[], visualization=[])
        for prediction, path in self.each(inputs, classes, **kwargs):
            results['predictions'].append(prediction)
            results['visualization'].append(path)
        return results

    def each(
        self,
        inputs: Any,
        classes: Sequence[str] | None = None,
        out_dir: str | None = None,
        return_datasamples: bool = False,
        on_error: str = 'raise',
        audio_track: int | None = None,
        resume: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[Any, str | None]]:
        """Segment videos one after the other; memory does not grow with their number.

        The processes of a process group share the inputs out by their length, so all of them must call it. Of several
        inputs there is a summary in ``out_dir`` at the end (docs/outputs.md).

        Args:
            inputs (Any): a video with sound; a folder of pictures, one per second, with a sound file in it; an array
                uint8 RGB (T, H, W, 3); ``dict(video=..., sound=...)`` or ``dict(frames=..., sound=..., sample_rate=...,
                frame_rate=...)`` of paths or arrays; a glob pattern, a folder of videos, or a list of these.
            classes (Sequence[str]): N class names. None, the default, are all that a model of a closed vocabulary was
                trained with.
            out_dir (str): folder for ``vis/NAME.mp4``, ``pred/NAME/*.png`` (label maps, named by milliseconds) and
                ``pred/NAME.json``; each appears under its name when its video is done. None, the default, writes
                nothing.
            return_datasamples (bool): whether predictions are data samples with all label maps (in memory) instead of
                dicts. Defaults to False.
            on_error (str): 'raise', or 'skip' to go on after an input that fails, whose prediction is then
                ``dict(video=..., error=...)``. Defaults to 'raise'.
            audio_track (int): which sound track of the videos, from 1. Defaults to the one that a file marks as
                default.
            resume (bool): whether to leave out what is complete in ``out_dir`` with the same names, model and settings,
                and what another process is labelling now. Defaults to False.
            **kwargs: ``synonyms``, dict of names to lists of other words; ``prompt_templates``, a list or the name of a
                set; ``score_thr`` of the label map; ``min_sound_score``, 0 to 1, which sound scores of what
                is labelled are above (both: the model's own); ``fps``, labelled frames per second (1); ``overlap`` of
                windows in frames (1); ``batch_size`` (1); ``opacity`` (0.6); ``show``, ``wait_time``; ``no_save_vis``,
                ``no_save_pred``; ``export``, a list of formats of other tools (``ovavss_mm.exports.FORMATS``), which
                are written to ``export/FORMAT/NAME`` in the folder (docs/outputs.md); ``clips``, names whose stretches
                are cut out into ``clips/NAME``, and ``pad``, seconds kept around them (0).

        Returns:
            Iterator[tuple]: of each input the prediction, a :class:`SegDataSample`, or what ``pred/NAME.json`` holds,
            with ``objects`` beside ``names`` (docs/identities.md) and ``silent``, the intervals without a label, where
            the records of frames are left out if that file was written; and the path of the mp4 file or None.

        Raises:
            FileNotFoundError: an input is missing.
            ValueError: an input cannot be read, or an argument is wrong.
        """
        if unknown := sorted(set(kwargs) - {*SETTINGS, *OUTPUTS}):
            raise ValueError(f'unknown argument {shorten(unknown)}; there are {SETTINGS + OUTPUTS}')
        if on_error not in ('raise', 'skip'):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        wanted = {key: kwargs.pop(key) for key in OUTPUTS if key in kwargs}
        options = OutputOptions(out_dir, return_datasamples=return_datasamples, **wanted)
        request = self.make_request(classes, **kwargs)
        return ListLabeller(self, request, options, on_error == 'skip', audio_track, resume)(inputs)

    def make_request(
        self,
        classes: Sequence[str] | None = None,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        prompt_templates: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> InferenceRequest:
        """Check what a call asks for, and embed its class names.

        Args:
            classes (Sequence[str]): N class names. A model of a closed vocabulary takes some of those that it was
                trained with, in any order, by default all; what it gives another name stays unlabelled.
            synonyms (Mapping[str, Sequence[str]]): other words for some of them. Defaults to None.
            prompt_templates (str | Sequence[str]): prompts with ``{}``, or the name of a set of mmseg's. Defaults to
                the model's own.
            **settings: of :class:`InferenceRequest`.

        Returns:
            InferenceRequest: for :meth:`stream`.

        Raises:
            ValueError: a wrong argument, or a model of a closed vocabulary is asked for a name that it does not know.
        """
        if not self.is_open and self.own_names is None:
            raise ValueError(
                'this model has a closed vocabulary, and its weights do not say which: checkpoints of training do, '
                'published ones get it from tools/model_converters/closed_set_release.py'
            )
        if self.model.namer is None and settings.get('score_thr') is not None:
            raise ValueError('score_thr has no effect: this model gives each pixel its most probable class')
        if not self.model.sound_gates and settings.get('min_sound_score') is not None:
            raise ValueError('min_sound_score has no effect: this model leaves out nothing by its sound score')
        if classes is None and self.own_names is None:
            raise ValueError('give the names to look for: this model knows no list of names')
        classes = self.own_names if classes is None else classes
        check_separate(classes)
        vocabulary = Vocabulary(classes, synonyms=synonyms, templates=prompt_templates)
        if not self.is_open:
            self._check_own_names(vocabulary)
        with_audio, model_names = self.model.hears, None if self.is_open else self.own_names
        request = InferenceRequest(
            vocabulary, self.model.window, with_audio=with_audio, model_names=model_names, **settings
        )
        if not self.is_open:
            return request
        self.model.namer.text_embeddings(vocabulary, show_progress=self.show_progress)
        if long := self.model.namer.truncated_words(vocabulary):
            warnings.warn(
                f'{len(long)} names are longer than the text encoder reads, their ends have no effect: '
                f'{one_line(long[0], 40)!r}',
                stacklevel=2,
            )
        return request

    def _check_own_names(self, vocabulary: Vocabulary) -> None:
        """Raise ValueError if a closed-vocabulary model is asked for what it does not know."""
        if any(vocabulary.synonyms.values()) or vocabulary.templates is not None:
            raise ValueError('this model has a closed vocabulary: synonyms and prompt templates have no effect on it')
        unknown = [name for name in vocabulary if name not in self.own_names]
        if unknown:
            raise ValueError(
                f'this model has a closed vocabulary and was not trained on {shorten(map(repr, unknown))}; it knows '
                f'{shorten(self.own_names, 100)}'
            )

    def describe(self, source: Source, request: InferenceRequest) -> dict[str, Any]:
        """What a prediction says of a source and of the model, ready for JSON."""
        return dict(video=getattr(source, 'path', source.name), **self.settings(request), size=list(source.size))

    def settings(self, request: InferenceRequest) -> dict[str, Any]:
        """What a prediction says of the model and of the request."""
        vocabulary, thr, least = request.vocabulary, request.score_thr, request.min_sound_score
        own = [part.sound_thr for part in self.model.sound_gates if part.sound_thr is not None]
        return dict(
            model=self.config_name,
            weights=self.weights and str(self.weights),
            vocabulary=list(vocabulary),
            synonyms={name: list(words) for name, words in vocabulary.synonyms.items() if words},
            prompt_templates=vocabulary.templates,
            linker=self.linker_cfg and {key: str(value) for key, value in self.linker_cfg.items()},
            score_thr=(self.model.test_cfg['score_thr'] if thr is None else thr) if self.model.namer else None,
            min_sound_score=max(own, default=None) if least is None else least,
            fps=request.fps,
            window=request.window,
            overlap=request.overlap,
        )

    # ------------------------------------------------------------------ frame after frame
    def stream(self, source: Source, request: InferenceRequest) -> Iterator[LabelledFrame]:
        """Segment a source as it is read; memory does not depend on its length.

        Yields:
            LabelledFrame: in order of time, ``request.fps`` per second.
        """
        blender, numbers = Blender(len(request.vocabulary)), ObjectNumbers()
        linker = linker_of(self.linker_cfg, request.fps)
        items = self.read(source, request.fps)
        for group, done in group_windows(items, request.window, request.stride, request.fps):
            for windows in _batches(group, request.batch_size):
                for window, sample in zip(windows, self.predict(windows, request), strict=True):
                    pairs = sample.pred_queries
                    blender.add(window.numbers, pairs if linker is None else linker(window.numbers, pairs))
            for number, label_map, parts in blender.take(done):
                frame = LabelledFrame(number / request.fps, label_map.cpu().numpy(), frame_classes(parts, label_map))
                if linker is not None:
                    objects, object_map = frame_objects(parts, label_map)
                    frame.objects, frame.object_map = numbers(objects), object_map.short().cpu().numpy()
                yield frame

    def read(self, source: Source, fps: int = 1) -> Iterator[dict[str, Any]]:
        """Frames at the size that the model sees, ``fps`` per second, each with its sound.

        Yields:
            dict: ``imgs`` uint8 (1, h, w, 3), ``audio`` float32 (1, ...) and other sounds by their keys, the front
            end's row of the frame's second, moved by what the frame is later than the second; and sizes.
        """
        sounds = {  # what is noted of the track, one reader notes
            key: (end, SoundReader(source.sound if key == 'audio' else copy(source.sound), end.sample_rate))
            for key, end in self.front_ends.items()
        }
        for number, (_, frame) in enumerate(frames_at(source, fps)):
            shape = frame.shape[:2]
            results = self.pipeline(dict(imgs=frame[None], ori_shape=shape, img_shape=shape))
            rows: dict[str, np.ndarray] = dict(audio=np.zeros((1, 0), np.float32))  # of a model without audio encoder
            second, phase = divmod(number, fps)
            for key, (front_end, reader) in sounds.items():
                start = front_end.row_start(second) + round(phase * front_end.sample_rate / fps)
                # in double precision, as the test pipeline reads sound
                samples = reader.span(start, front_end.row_samples).astype(np.float64)
                rows[key] = front_end.row(samples)[None]
            yield dict(results, **rows)

    @torch.no_grad()
    def predict(self, windows: list[Window], request: InferenceRequest) -> list[SegDataSample]:
        """Predict windows of one length, of what :meth:`read` gives.

        Returns:
            list[SegDataSample]: one per window, with ``pred_queries``, the painted pairs with their ``masks``.

        Raises:
            ValueError: a closed-vocabulary model is asked for another number of classes than it knows.
        """
        names = request.model_names or request.vocabulary
        data = pseudo_collate([pack(window, names) for window in windows])
        changes = dict(mode='whole', return_masks=True, score_thr=request.score_thr)
        with ExitStack() as changed:
            changed.enter_context(_changed(self.model.test_cfg, **changes))
            for part in self.model.sound_gates:
                changed.enter_context(_changed(vars(part), sound_thr=request.min_sound_score))
            samples = self.model.test_step(data)
        if tuple(names) != tuple(request.vocabulary):
            for sample in samples:
                sample.pred_queries = _wanted(sample.pred_queries, names, request.vocabulary)
        return samples


def _wanted(pairs: InstanceData, names: Sequence[str], wanted: Sequence[str]) -> InstanceData:
    """Those pairs of query and name whose name is wanted, with labels that count the wanted names."""
    place = {name: i for i, name in enumerate(wanted)}
    labels = pairs.labels.new_tensor([place.get(names[label], -1) for label in pairs.labels.tolist()])
    pairs.labels = labels
    return pairs[labels >= 0]


def pack(window: Window, vocabulary: Sequence[str]) -> dict[str, Any]:
    """A window as the pipeline packs a clip."""
    results = dict(
        window.items[0],
        imgs=np.concatenate([item['imgs'] for item in window.items]),  # (T, h, w, 3)
        **{key: np.concatenate([item[key] for item in window.items]) for key in SOUNDS if key in window.items[0]},
        frame_paths=[str(number) for number in window.numbers],
        num_frames=len(window.items),
        vocabulary=vocabulary,
    )
    return PackAVSegInputs(('vocabulary', 'ori_shape', 'img_shape')).transform(results)


def _batches(group: list[Window], size: int) -> Iterator[list[Window]]:
    """Batches of windows of one length."""
    for _, same in groupby(group, key=lambda window: len(window.items)):
        windows = list(same)
        for i in range(0, len(windows), size):
            yield windows[i : i + size]


@contextmanager
def _changed(cfg: dict, **values: Any) -> Iterator[None]:
    """Temporarily override config values; None leaves a value as it is."""
    before = {key: cfg[key] for key in values if key in cfg}
    cfg.update({key: value for key, value in values.items() if value is not None})
    try:
        yield
    finally:
        for key in values:
            cfg.pop(key, None)
        cfg.update(before)
