# SPDX-License-Identifier: Apache-2.0
"""Labels videos with sound by names that are given with the call."""

import os.path as osp
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer
from mmseg.registry import MODELS, TRANSFORMS
from mmseg.structures import SegDataSample
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

import ovavss_mm.datasets
import ovavss_mm.models
import ovavss_mm.visualization  # noqa: F401  (a config that is no file imports nothing itself)

from ..datasets.transforms import PackAVSegInputs
from ..models.segmentors.windows import Blender, Window, group_windows
from .job import Job, Wanted, output_names
from .loading import choose_device, find_config, load_strictly, read_checkpoint
from .overlay_video import Overlay
from .request import LabelledFrame, Request
from .sound import SoundReader
from .sources import Source, frames_at, list_inputs, open_source
from .vocabulary import TextBank, Vocabulary, resolve_templates, warn_of_long

# Of a test pipeline, these are what a source does here.
_READING = (
    'SampleClipFrames',
    'LoadClipFrames',
    'LoadClipLabels',
    'LoadClipAudio',
    'LoadClipAudioFeatures',
    'SwapClipAudio',
)


class AVSegInferencer(BaseInferencer):
    """Labels each second of videos with the names, of those given, whose objects are heard.

    Example::

        inferencer = AVSegInferencer('ovavss_r50_release', weights='data/weights/ovavss_r50_release.pth')
        result = inferencer('clip.mp4', classes=['violin', 'dog'], synonyms={'dog': ['puppy']}, out_dir='out')
        result['predictions'][0]['names']['dog']['intervals']  # [[0.0, 3.0], [7.0, 8.0]]

    Args:
        model: a config: its path, the bare name of one of the package's, or a ``Config`` or dict.
        weights: checkpoint of a model of this config.
        device: such as ``'cpu'`` or ``'cuda:0'``; None takes a GPU if there is one.
        scope: of the registries.
        show_progress: whether a bar with the time left is shown.

    Raises:
        FileNotFoundError: the config, the checkpoint, or the file of a frozen part (CLIP, VGGish) is missing.
        ValueError: no weights, weights of another model, or a device that is not there.
    """

    preprocess_kwargs = {'fps', 'overlap', 'batch_size'}
    forward_kwargs = {'classes', 'synonyms', 'prompt_templates', 'score_thr'}
    visualize_kwargs = {'show', 'wait_time', 'opacity', 'no_save_vis'}
    postprocess_kwargs = {'no_save_pred', 'out_dir', 'on_error'}

    def __init__(
        self,
        model: str | dict,
        weights: str | None = None,
        device: str | None = None,
        scope: str = 'mmseg',
        show_progress: bool = True,
    ) -> None:
        init_default_scope(scope)
        if isinstance(model, (str, Path)):
            model = find_config(str(model))
        self.config_name = osp.basename(model) if isinstance(model, str) else 'a config object'
        self.weights = weights
        super().__init__(model, weights, choose_device(device), scope, show_progress)
        self.bank = TextBank(self.model.classifier)

    # ------------------------------------------------------------------ the model and its input
    def _init_model(self, cfg: Any, weights: str | None, device: str = 'cpu') -> nn.Module:
        """Build the model and load its weights, which must fit."""
        checkpoint = read_checkpoint(weights)
        classifier = cfg.get('model', {}).get('classifier')
        if classifier is None:
            raise ValueError('the config has no model.classifier: such a model cannot name anything')
        if classifier.get('type') == 'ClosedSetClassifier':
            raise ValueError(
                'model.classifier is a ClosedSetClassifier, which has names of its own only: '
                'what is asked for takes a CLIP to name it'
            )
        with warnings.catch_warnings():
            # mmseg's advice on norm layers for distributed training does not concern a prediction
            warnings.simplefilter('ignore')
            model = MODELS.build(cfg.model)
        try:
            load_strictly(model, checkpoint, cfg)
        except ValueError as error:
            raise ValueError(f'{weights}: {error}') from error
        model.cfg = cfg
        return model.to(device).eval()

    def _init_pipeline(self, cfg: Any) -> Compose:
        """The config's test pipeline without the steps that read files."""
        steps = cfg.get('test_dataloader', {}).get('dataset', {}).get('pipeline')
        if not steps:
            raise ValueError('the config has no test_dataloader.dataset.pipeline, which says the size')
        steps = [step for step in steps if step['type'] not in _READING]
        return Compose([TRANSFORMS.build(dict(step)) for step in steps if _is_size(step)])

    def _init_visualizer(self, cfg: Any) -> Visualizer | None:
        """The config's, only for its window: files are written by other means."""
        visualizer = {k: v for k, v in (cfg.get('visualizer') or {}).items() if k != 'vis_backends'}
        return super()._init_visualizer(ConfigDict(visualizer=visualizer) if visualizer else {})

    def _init_collate(self, cfg: Any) -> Callable:
        """Clips keep their sizes, whatever collates them in the config."""
        return pseudo_collate

    def __call__(
        self,
        inputs: Any,
        classes: Sequence[str],
        out_dir: str | None = None,
        return_datasamples: bool = False,
        **kwargs: Any,
    ) -> dict[str, list]:
        """Label videos.

        Args:
            inputs: a video with sound; a folder of pictures, one a second, with a sound file in it; an array uint8 RGB
                (T, H, W, 3); ``dict(video=..., sound=...)`` or ``dict(frames=..., sound=..., sample_rate=...,
                frame_rate=...)`` of paths or arrays; a glob pattern, a folder of videos, or a list of these.
            classes: N names to look for.
            out_dir: folder for ``vis/NAME.mp4``, ``pred/NAME/*.png`` (label maps, named by milliseconds) and
                ``pred/NAME.json``; None writes nothing. Each appears under its name when its video is done.
            return_datasamples: whether predictions are data samples with all label maps (in memory) instead of dicts.
            kwargs: ``synonyms``, dict of names to lists of other words; ``prompt_templates``, a list or the name of a
                set; ``score_thr`` of the label map; ``fps``, labelled frames a second (1); ``overlap`` of windows
                in frames (1); ``batch_size`` (1); ``opacity`` (0.6); ``show``, ``wait_time``; ``no_save_vis``,
                ``no_save_pred``; ``on_error='skip'`` to go on after an input that fails, whose prediction is then
                ``dict(video=..., error=...)``.

        Returns:
            ``predictions``, one an input: a :class:`SegDataSample`, or what ``pred/NAME.json`` holds, where the
            records of frames are left out if that file was written; and ``visualization``: paths of the mp4 files, or
            None.

        Raises:
            FileNotFoundError: an input is missing.
            ValueError: an input cannot be read, or an argument is wrong.
        """
        pre, forward, visual, post = self._dispatch_kwargs(classes=classes, out_dir=out_dir, **kwargs)
        wanted = Wanted(
            out_dir,
            vis=not visual.pop('no_save_vis', False),
            pred=not post.get('no_save_pred', False),
            samples=return_datasamples,
            show=visual.pop('wait_time', 0.001) if visual.pop('show', False) else None,
        )
        visual.pop('wait_time', None)
        on_error = post.get('on_error', 'raise')
        if on_error not in ('raise', 'skip'):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        request = self.make_request(**forward, **pre, **visual)
        items = list_inputs(inputs)
        results: dict[str, list] = dict(predictions=[], visualization=[])
        with self._progress() as progress:
            for item, name in zip(items, output_names(items), strict=True):
                try:
                    job = Job(self, open_source(item), request, wanted, name)
                    prediction, path = job.run(progress)
                except (OSError, ValueError) as error:
                    if on_error == 'raise':
                        raise
                    video = str(item) if isinstance(item, (str, Path)) else name
                    prediction, path = dict(video=video, error=str(error)), None
                results['predictions'].append(prediction)
                results['visualization'].append(path)
        return results

    def make_request(
        self,
        classes: Sequence[str],
        synonyms: Mapping[str, Sequence[str]] | None = None,
        prompt_templates: str | Sequence[str] | None = None,
        **options: Any,
    ) -> Request:
        """Check what a call asks for, and embed its names.

        Args:
            classes: N names.
            synonyms: other words for some of them.
            prompt_templates: prompts with ``{}``, or the name of a set of mmseg's; None takes the model's own.
            options: of :class:`Request`.

        Returns:
            The request, to hand to :meth:`stream`.
        """
        vocabulary = Vocabulary(classes, synonyms)
        if prompt_templates is None:
            prompt_templates = self.model.classifier.templates
        length = self.model.window
        options.setdefault('overlap', min(1, length - 1))
        if not isinstance(options['overlap'], int) or not 0 <= options['overlap'] < length:
            raise ValueError(
                f'overlap must be from 0 to the window of {length} frames less 1, got {options["overlap"]!r}'
            )
        table = self.bank.table(vocabulary, resolve_templates(prompt_templates), self.show_progress)
        warn_of_long(self.model.classifier, vocabulary)
        return Request(vocabulary, table, **options)

    # ------------------------------------------------------------------ frame after frame
    def stream(self, source: Source, request: Request, reader: SoundReader | None = None) -> Iterator[LabelledFrame]:
        """Label a source as it is read; what is held in memory does not depend on its length.

        Args:
            source: of frames and sound.
            request: from :meth:`make_request`.
            reader: of the source's sound, for a caller who wants to know how it went.

        Yields:
            Labelled frames in order of time, ``request.fps`` a second.
        """
        blender = Blender(len(request.vocabulary.names))
        reader = reader or SoundReader(source.sound)
        items = self.preprocess(source, reader, request.fps)
        length = self.model.window
        for group, done in group_windows(items, length, request.overlap, request.fps):
            for windows in _same_length(group, request.batch_size):
                for window, sample in zip(windows, self.forward(windows, request), strict=True):
                    blender.add(window.numbers, sample.pred_queries)
            for number, label_map, found in blender.take(done):
                yield LabelledFrame(number / request.fps, label_map.cpu().numpy(), found)

    def preprocess(self, inputs: Source, reader: SoundReader, fps: int = 1) -> Iterator[dict[str, Any]]:
        """Frames at the size that the model sees, each with its sound.

        Args:
            inputs: the source.
            reader: of its sound.
            fps: frames a second.

        Yields:
            ``imgs`` uint8 (1, h, w, 3), ``audio`` float32 (1, 1, 96, 64), the patch that starts at the frame's time
            stamp, and sizes.
        """
        for time, frame in frames_at(inputs, fps):
            shape = frame.shape[:2]
            results = dict(imgs=frame[None], ori_shape=shape, img_shape=shape)
            results = self.pipeline(results)
            yield dict(results, audio=reader.patch(time)[None])

    @torch.no_grad()
    def forward(self, inputs: list[Window], request: Request) -> list[SegDataSample]:
        """Predict windows of one length, masks included.

        Args:
            inputs: the windows.
            request: names and thresholds.

        Returns:
            A sample each, with ``pred_sem_seg`` and ``pred_queries``, which has ``masks``.
        """
        names = request.vocabulary.names
        data = [_packed(window, names) for window in inputs]
        with (
            self.model.classifier.using(names, request.table),
            _changed(self.model.test_cfg, return_masks=True, score_thr=request.score_thr),
        ):
            return self.model.test_step(self.collate_fn(data))

    def visualize(self, inputs: np.ndarray, preds: LabelledFrame, request: Request, **kwargs: Any) -> np.ndarray:
        """Draw a labelled frame.

        Args:
            inputs: the frame, uint8 RGB (H, W, 3).
            preds: its labels.
            request: names and colours.
            kwargs: none.

        Returns:
            uint8 RGB (H, W, 3).
        """
        names = request.vocabulary.names
        return Overlay(preds.label_map, names, request.palette, request.opacity).over(inputs)

    def postprocess(
        self, preds: Source, visualization: None = None, return_datasample: bool = False, **kwargs
    ) -> dict[str, Any]:
        """What a prediction says of a source and of the model, before the first frame.

        Args:
            preds: the source.
            visualization: not used.
            return_datasample: not used.
            kwargs: ``request``.

        Returns:
            A dict that can be written as JSON.
        """
        request: Request = kwargs['request']
        templates = {k: list(v) for k, v in request.vocabulary.synonyms.items() if v}
        thr = request.score_thr
        return dict(
            video=getattr(preds, 'path', preds.name),
            model=self.config_name,
            weights=self.weights and str(self.weights),
            vocabulary=list(request.vocabulary.names),
            synonyms=templates,
            score_thr=self.model.test_cfg['score_thr'] if thr is None else thr,
            fps=request.fps,
            window=self.model.window,
            overlap=request.overlap,
            size=list(preds.size),
        )

    def _progress(self) -> Progress:
        """The bar."""
        return Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('frames'),
            TimeRemainingColumn(),
            disable=not self.show_progress,
        )


def _is_size(step: Mapping) -> bool:
    """Whether a step changes frames; packing is done for whole windows."""
    return step['type'] not in ('PackAVSegInputs',)


def _packed(window: Window, names: tuple[str, ...]) -> dict[str, Any]:
    """A window as the pipeline packs a clip."""
    results = dict(
        window.items[0],
        imgs=np.concatenate([item['imgs'] for item in window.items]),
        audio=np.concatenate([item['audio'] for item in window.items]),
        frame_paths=[str(number) for number in window.numbers],
        num_frames=len(window.items),
        vocabulary=names,
    )
    return PackAVSegInputs(('vocabulary', 'ori_shape', 'img_shape')).transform(results)


def _same_length(group: list[Window], size: int) -> Iterator[list[Window]]:
    """Batches of windows of one length."""
    for length in sorted({len(window.items) for window in group}, reverse=True):
        windows = [window for window in group if len(window.items) == length]
        for i in range(0, len(windows), size):
            yield windows[i : i + size]


@contextmanager
def _changed(cfg: dict, **values: Any) -> Iterator[None]:
    """Have other values in a config while the block runs; None leaves a value as it is."""
    before = {key: cfg[key] for key in values if key in cfg}
    cfg.update({key: value for key, value in values.items() if value is not None})
    try:
        yield
    finally:
        for key in values:
            cfg.pop(key, None)
        cfg.update(before)
