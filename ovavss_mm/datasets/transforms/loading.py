# SPDX-License-Identifier: Apache-2.0
"""Frames and label maps from their files."""

import io
import struct
import zlib

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.fileio import get
from mmseg.registry import TRANSFORMS
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..palette import voc_index, voc_labels
from .sampling import frame_inds

UNANNOTATED = 255
MAX_PIXELS = 2**26  # a small file may say that it is huge
# Others of Pillow's formats are never opened; one of them runs a PostScript interpreter.
PICTURE_FORMATS = ('JPEG', 'PNG', 'BMP', 'WEBP')
# What Pillow raises over a file that is no picture or a damaged one; warnings where these are made errors.
_BAD_PICTURE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Warning)
_BAD_PICTURE += (Image.DecompressionBombError,)


class LabelSizeError(ValueError):
    """A label map has another size than its frame."""


class LabelColorError(ValueError):
    """A label map has a colour that stands for no name."""


def read_rgb(path: str, backend_args: dict | None = None) -> np.ndarray:
    """Read a picture (JPEG, PNG, BMP or WebP) as RGB.

    Args:
        path (str): of the file.
        backend_args (dict, optional): of mmengine's file backend; None to go by the path. Defaults to None.

    Returns:
        np.ndarray: uint8 (H, W, 3).

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file is no picture of these kinds, a damaged one, or has over MAX_PIXELS.
    """
    content = get(path, backend_args=backend_args)
    try:
        # Pillow, unlike OpenCV, refuses a truncated file
        with Image.open(io.BytesIO(content), formats=PICTURE_FORMATS) as img:
            if not 0 < img.width * img.height <= MAX_PIXELS:
                raise ValueError(f'it has {img.width} x {img.height} pixels, at most {MAX_PIXELS:,} are read')
            if img.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                img = ImageOps.exif_transpose(img)
            return np.array(img if img.mode == 'RGB' else img.convert('RGB'))
    except _BAD_PICTURE as err:
        other = isinstance(err, UnidentifiedImageError)
        reason = f'of none of the formats {", ".join(PICTURE_FORMATS)}' if other else err
        raise OSError(f'cannot read the picture {path}: {reason}') from err


@TRANSFORMS.register_module()
class LoadClipFrames(BaseTransform):
    """Read the frames.

    Reads frame_paths, frame_inds (default: all); sets imgs, uint8 RGB (T, H, W, 3), ori_shape and img_shape, both
    (H, W) in pixels.
    """

    reads_files = True  # of a clip; the inferencer has its own sources

    def transform(self, results: dict) -> dict:
        """Set imgs, ori_shape and img_shape.

        Raises:
            OSError: a picture is missing or cannot be read.
            ValueError: the frames are not of one size.
        """
        paths = [results['frame_paths'][i] for i in frame_inds(results)]
        imgs = [read_rgb(path) for path in paths]
        for path, img in zip(paths, imgs, strict=True):
            if img.shape != imgs[0].shape:
                sizes = f'{paths[0]} has {_size(imgs[0])}, {path} has {_size(img)}'
                raise ValueError(f'frames of one clip must be of one size: {sizes}')
        results['imgs'] = np.stack(imgs)  # (T, H, W, 3)
        results['ori_shape'] = results['img_shape'] = imgs[0].shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadClipLabels(BaseTransform):
    """Read the label maps of the frames, at the frames' original size.

    Before :class:`ResizeClip` (training) they are resized with the frames, after it (test) they stay as they are.
    Pixels of a name that the clip does not list become background.

    Reads label_paths, frame_inds (default: all), names (or label_names, if a data set says which names labels may have
    whatever the clip lists), vocabulary, ori_shape and label_reader (default:
    :func:`read_labels`, pictures in VOC colours); sets annotated, bool (T,), and, unless the clip has no label at all,
    gt_seg_maps, uint8 (T, H, W): 0 background, i + 1 name i of the vocabulary, 255 all over a frame that is not
    annotated.

    Args:
        first_for_all (bool): whether frames without a label map get that of the clip's first frame, as GAVS was
            trained. Defaults to False.
    """

    reads_files = True  # of a clip; the inferencer has its own sources

    def __init__(self, first_for_all: bool = False):
        self.first_for_all = first_for_all

    def transform(self, results: dict) -> dict:
        """Set annotated and gt_seg_maps.

        Raises:
            OSError: a label map is missing or cannot be read.
            ValueError: a label map has another size than its frame or a colour that stands for no name, or the frames
                have been flipped already.
        """
        if results.get('flip'):
            raise ValueError('LoadClipLabels must come before FlipClip: the frames are flipped')
        first = results['label_paths'][0] if self.first_for_all else None
        chosen = [results['label_paths'][i] or first for i in frame_inds(results)]
        results['annotated'] = np.array([path is not None for path in chosen])
        if not any(results['label_paths']):
            return results
        vocabulary, shape = results['vocabulary'], results['ori_shape']
        reader = results.get('label_reader', read_labels)
        lookup = np.zeros(256, np.uint8)  # label of each palette index: itself if the clip lists its name, else 0
        names = results.get('label_names', results['names'])
        lookup[1 : len(vocabulary) + 1] = [i * (name in names) for i, name in enumerate(vocabulary, 1)]
        maps = np.full((len(chosen), *shape), UNANNOTATED, np.uint8)  # (T, H, W)
        for label_map, path in zip(maps, chosen, strict=True):
            if path is not None:
                cv2.LUT(reader(path, len(vocabulary), shape), lookup, dst=label_map)
        results['gt_seg_maps'] = maps
        return results


def read_labels(path: str, num_names: int, shape: tuple[int, int]) -> np.ndarray:
    """Read a picture of the labels of N names, 1 to 254, in VOC colours, for a frame of shape (H, W).

    Returns:
        np.ndarray: uint8 (H, W), 0 background, i + 1 name i.

    Raises:
        OSError: it is missing or cannot be read.
        LabelSizeError: it has another size than its frame.
        LabelColorError: it has a colour that stands for no name.
    """
    colors = read_rgb(path)
    if colors.shape[:2] != shape:
        raise LabelSizeError(f'the label map {path} has {_size(colors)}, its frame {shape[1]} x {shape[0]} pixels')
    labels = voc_labels(colors)
    if labels is None or labels.max(initial=0) > num_names:
        unknown = colors[voc_index(colors) > num_names]
        found, counts = np.unique(unknown, axis=0, return_counts=True)
        most = counts.argmax()
        raise LabelColorError(
            f'{path}: {len(unknown)} pixels have a colour that stands for none of the {num_names} names of the '
            f'vocabulary ({len(found)} such colours); the most frequent one, RGB {tuple(found[most].tolist())}, is in '
            f'{counts[most]} pixels'
        )
    return labels


def _size(img: np.ndarray) -> str:
    """Width x height of a picture, for messages."""
    return f'{img.shape[1]} x {img.shape[0]} pixels'
