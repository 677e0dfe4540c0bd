# SPDX-License-Identifier: Apache-2.0
"""Visualizer of video clips with sound."""

import importlib.util
import os.path as osp
from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from mmengine.dist import master_only
from mmseg.registry import VISUALIZERS
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer

from ..datasets.palette import voc_palette
from ..utils.files import atomic_path
from .sheet import TRUTH, ClipView, draw_sheet


@VISUALIZERS.register_module()
class AVSegVisualizer(SegLocalVisualizer):
    """Draws one sheet for each clip.

    Rows are the frames, the ground truth and the prediction, columns the seconds; below stand a legend and, for each
    name, the seconds in which it sounds, true and predicted. Names come from the data sample's ``vocabulary`` if it
    has one, else from ``dataset_meta``; colours from ``dataset_meta`` if it has these names, else from PASCAL VOC.

    Args:
        name (str): of the instance. Defaults to 'visualizer'.
        min_width (int): least width of a shown frame in pixels; smaller ones are enlarged. Defaults to 160.
        max_width (int): greatest width of a shown frame in pixels. Defaults to 320.
        **kwargs: of ``SegLocalVisualizer``: ``vis_backends``, ``save_dir``, ``classes``, ``palette``, ``dataset_name``
            and ``alpha``, the opacity of masks (0.8).
    """

    def __init__(self, name: str = 'visualizer', min_width: int = 160, max_width: int = 320, **kwargs: Any) -> None:
        if not 1 <= min_width <= max_width:
            raise ValueError(f'need 1 <= min_width <= max_width, got {min_width} and {max_width}')
        _check_backends(kwargs.get('vis_backends'))
        classes, palette = kwargs.pop('classes', None), kwargs.pop('palette', None)
        super().__init__(name, **kwargs)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f'alpha must be from 0 to 1, got {self.alpha}')
        if classes is not None:
            self.set_dataset_meta(classes, voc_palette(len(classes)) if palette is None else palette)
        self.widths = (min_width, max_width)

    def draw_clip(
        self,
        image: np.ndarray,
        data_sample: SegDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        title: str = '',
        frames: Sequence[int] | None = None,
        activity: bool = True,
    ) -> np.ndarray:
        """Draw the sheet of a clip.

        Args:
            image (np.ndarray): uint8 RGB frames (T, H, W, 3).
            data_sample (SegDataSample, optional): ``gt_sem_seg`` and ``pred_sem_seg`` of data (T, H, W), 255 no label,
                and in its metainfo ``vocabulary``, ``frame_paths`` and ``frame_notes``, of which ``names`` that are
                heard and ``boxes`` are drawn; each may lack. Defaults to None.
            draw_gt (bool): whether the ground truth is drawn. Defaults to True.
            draw_pred (bool): whether the prediction is drawn. Defaults to True.
            title (str): written at the top. Defaults to ''.
            frames (Sequence[int], optional): which of the T frames are shown; None for all. Defaults to None.
            activity (bool): whether the bars of what sounds when are drawn. Defaults to True.

        Returns:
            np.ndarray: uint8 RGB (height, width, 3).

        Raises:
            ValueError: frames and maps differ in size, or an index has no name.
        """
        sample = SegDataSample() if data_sample is None else data_sample
        kinds = ((TRUTH, 'gt_sem_seg', draw_gt), ('prediction', 'pred_sem_seg', draw_pred))
        maps = {row: sample.get(key).numpy().data for row, key, drawn in kinds if drawn and key in sample}
        view = ClipView(np.asarray(image), maps, *self._names_of(sample), _seconds(sample, len(image)), title)
        if draw_pred:
            view.heard, view.boxes = _notes(sample)
        if frames is not None:
            view.heard = [view.heard[t] for t in frames] if view.heard else ()
            view.boxes = [view.boxes[t] for t in frames] if view.boxes else ()
            view.frames = view.frames[list(frames)]
            view.maps = {row: maps[list(frames)] for row, maps in view.maps.items()}
            view.seconds = [view.seconds[t] for t in frames]
        return draw_sheet(view, self.alpha, self.widths, activity)

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: SegDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
        title: str | None = None,
    ) -> None:
        """Draw the sheet of a clip and hand it to the backends, a window or a file.

        Args:
            name (str): of the picture: part of its file name, TensorBoard's tag.
            image (np.ndarray): as in ``draw_clip``, like the next three.
            data_sample (SegDataSample, optional): with the label maps. Defaults to None.
            draw_gt (bool): whether the ground truth is drawn. Defaults to True.
            draw_pred (bool): whether the prediction is drawn. Defaults to True.
            show (bool): whether a window shows it. Defaults to False.
            wait_time (float): how long the window stays, in seconds; 0 until a key is pressed. Defaults to 0.
            out_file (str, optional): picture file to write, instead of handing it to the backends. Defaults to None.
            step (int): part of the picture's file name, TensorBoard's step. Defaults to 0.
            title (str, optional): of the sheet; None: the name. Defaults to None.
        """
        sheet = self.draw_clip(image, data_sample, draw_gt, draw_pred, name if title is None else title)
        self.set_image(sheet)
        if show:
            self.show(sheet, win_name=name, wait_time=wait_time)
        if out_file is not None:
            write_picture(sheet, out_file)
        else:
            self.add_image(name, sheet, step)

    def _names_of(self, sample: SegDataSample) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
        """Names (the background first), their colours, and which of them are base or novel."""
        meta = self.dataset_meta or {}
        names, palette = tuple(meta.get('classes') or ()), meta.get('palette')
        own = ('background', *sample.metainfo['vocabulary']) if 'vocabulary' in sample.metainfo else names
        palette = voc_palette(len(own)) if palette is None or own != names else palette
        parts = {name: part for part in ('base', 'novel') for name in meta.get(f'{part}_names') or ()}
        return own, np.asarray(palette, dtype=np.uint8), parts


def write_picture(picture: np.ndarray, path: str) -> None:
    """Write a picture, uint8 RGB (H, W, 3), atomically to a file whose suffix says the format; folders are made."""
    with atomic_path(path) as beside:
        if not mmcv.imwrite(mmcv.rgb2bgr(picture), str(beside)):
            raise OSError(f'could not write {path}')


def _check_backends(backends: Any) -> None:
    """Check that tensorboard is there before a run that writes to it starts."""
    backends = backends if isinstance(backends, (list, tuple)) else [backends]
    kinds = [str(b.get('type') if isinstance(b, dict) else b) for b in backends]
    if any('TensorboardVisBackend' in kind for kind in kinds) and importlib.util.find_spec('tensorboard') is None:
        raise ImportError(
            'vis_backends has a TensorboardVisBackend, which needs the package tensorboard. Run: '
            'pip install tensorboard (or leave the backend out)'
        )


def _seconds(sample: SegDataSample, num_frames: int) -> list[str]:
    """Column titles: the numbers in the frames' file names, which are seconds, else 0, 1, 2, ..."""
    stems = [osp.splitext(osp.basename(path))[0] for path in sample.metainfo.get('frame_paths') or ()]
    if len(stems) != num_frames or not all(stem.isdigit() for stem in stems):
        stems = range(num_frames)
    return [f'{int(stem)} s' for stem in stems]


def _notes(sample: SegDataSample) -> tuple[list[str], list[list]]:
    """What is heard in each frame and its boxes as shares of width and height, where the model has noted them."""
    notes = sample.metainfo.get('frame_notes') or ()
    height, width = sample.metainfo.get('img_shape', (1, 1))[:2]
    heard = [', '.join(note.get('names', ())) for note in notes]
    boxes = [np.asarray(note.get('boxes', ())).reshape(-1, 4) / (width, height, width, height) for note in notes]
    return heard, [part.tolist() for part in boxes]
