# SPDX-License-Identifier: Apache-2.0
"""Normalises and pads a batch of video clips."""

from collections.abc import Sequence

from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn import functional as F


@MODELS.register_module()
class AVSegDataPreProcessor(SegDataPreProcessor):
    """Normalises frames and pads each clip by itself to a multiple of ``size_divisor``.

    Clips of a batch keep their own sizes and T: padding one clip to the size of another would change its
    predictions.

    With ``num_frames`` training clips are of one length, as batch norm wants it; with ``input_size`` all clips are of
    one size, whatever their aspect ratio.

    Args:
        mean (Sequence[float]): of R, G, B, in 0..255.
        std (Sequence[float]): of R, G, B, in 0..255.
        size_divisor (int): height and width are padded to a multiple of this, in pixels. Defaults to 32.
        pad_val (float): of padded pixels, after normalisation. Defaults to 0.
        seg_pad_val (int): label of padded pixels. Defaults to 255.
        num_frames (int, optional): shorter training clips are filled up to this T, with frames and audio of 0 (after
            normalisation) and without labels; metainfo ``valid_frames`` is the T that they had. None: clips keep their
            T. Defaults to None.
        input_size (tuple[int, int], optional): height and width that the network sees, in pixels; labels keep their
            size. None: that of the frames. Defaults to None.
        rgb_to_bgr (bool): whether the network sees B, G, R, with the means and deviations of R, G, B in that order, as
            GAVS was trained. Defaults to False.

    Raises:
        ValueError: not three means and deviations, or another number under 1.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        size_divisor: int = 32,
        pad_val: float = 0,
        seg_pad_val: int = 255,
        num_frames: int | None = None,
        input_size: tuple[int, int] | None = None,
        rgb_to_bgr: bool = False,
    ) -> None:
        if len(mean) != 3 or len(std) != 3 or size_divisor < 1:
            raise ValueError(
                f'mean and std must be of R, G, B and size_divisor at least 1, got {mean}, {std}, {size_divisor}'
            )
        sides = input_size or (size_divisor, size_divisor)
        if (
            (num_frames is not None and num_frames < 1)
            or len(sides) != 2
            or any(x < 1 or x % size_divisor for x in sides)
        ):
            raise ValueError(
                'num_frames must be at least 1 or None, input_size a height and width, multiples of size_divisor '
                f'({size_divisor}), or None, got {num_frames} and {input_size}'
            )
        pads = dict(size_divisor=size_divisor, pad_val=pad_val, seg_pad_val=seg_pad_val)
        super().__init__(mean=mean, std=std, rgb_to_bgr=rgb_to_bgr, **pads)
        self._non_blocking = True  # of mmengine, to which mmseg does not hand it on
        self.num_frames = num_frames
        self.input_size = None if input_size is None else tuple(input_size)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare B clips.

        Args:
            data (dict): ``inputs=dict(imgs=[(T, 3, H, W) uint8 RGB] * B, audio=[(T, ...)] * B)``, other rows of
                sound by their keys, and ``data_samples``, B samples or absent.
            training (bool): whether ``gt_sem_seg`` is padded with the frames (with ``seg_pad_val``); labels of another
                size, which were loaded after the frames were resized, keep it.

        Returns:
            dict: ``inputs=dict(imgs, frames, audio, ...)``, lists of B: ``imgs`` (T, 3, Hp, Wp) float32 normalised,
            right and bottom padded with 0; ``frames`` unchanged; and ``data_samples``. Metainfo ``pad_shape`` is the
            part of the frames' plane that the network sees: with ``input_size`` the frames, which are not padded then.

        Raises:
            ValueError: a clip without frames, or whose sound is not one row a frame; in training, one without labels.
        """
        data = self.cast_data(data)
        frames = data['inputs']['imgs']
        sounds = {key: rows for key, rows in data['inputs'].items() if key != 'imgs'}
        samples = data.get('data_samples') or [SegDataSample() for _ in frames]
        imgs = [self._pad(self._resize(self._normalise(clip)), self.pad_val) for clip in frames]
        for i, (clip, sample, img) in enumerate(zip(frames, samples, imgs, strict=True)):
            _check_clip(clip, {key: rows[i] for key, rows in sounds.items()}, sample)
            seen = clip if self.input_size else img
            size = dict(img_shape=tuple(clip.shape[-2:]), pad_shape=tuple(seen.shape[-2:]))
            sample.set_metainfo(dict(ori_shape=sample.get('ori_shape', size['img_shape']), **size))
            if training and 'gt_sem_seg' not in sample:
                raise ValueError(f'clip {_clip_id(sample)} has no labels to train on')
            if training:
                labels = sample.gt_sem_seg.data
                if not self.input_size and labels.shape[-2:] == clip.shape[-2:]:
                    # a new one, as PixelData refuses data of another size
                    sample.gt_sem_seg = PixelData(data=self._pad(labels, self.seg_pad_val))
        inputs = {key: [sound.float() for sound in rows] for key, rows in sounds.items()}
        inputs.update(imgs=imgs, frames=frames)
        if training and self.num_frames is not None:
            self._fill_up(inputs, samples)
        return dict(inputs=inputs, data_samples=samples)

    def _normalise(self, clip: Tensor) -> Tensor:
        """Frames (T, 3, H, W) less the means, over the deviations, in the network's order of channels."""
        return ((clip.flip(1) if self._channel_conversion else clip).float() - self.mean) / self.std

    def _resize(self, x: Tensor) -> Tensor:
        """Resize (T, 3, H, W) to ``input_size``; antialiased, as Pillow does."""
        if self.input_size in (None, tuple(x.shape[-2:])):
            return x
        return F.interpolate(x, self.input_size, mode='bilinear', align_corners=False, antialias=True)

    def _fill_up(self, inputs: dict[str, list[Tensor]], samples: list[SegDataSample]) -> None:
        """Bring shorter clips to ``num_frames``, in place."""

        def fill(x: Tensor, value: float = 0) -> Tensor:
            return F.pad(x, [0, 0] * (x.ndim - 1) + [0, max(0, self.num_frames - len(x))], value=value)

        for i, sample in enumerate(samples):
            sample.set_metainfo(dict(valid_frames=len(inputs['imgs'][i])))
            sample.gt_sem_seg = PixelData(data=fill(sample.gt_sem_seg.data, self.seg_pad_val))
            for key in inputs.keys() - {'frames'}:
                inputs[key][i] = fill(inputs[key][i])

    def _pad(self, x: Tensor, value: float) -> Tensor:
        """Pad (..., H, W) at the right and bottom."""
        divisor = self.size_divisor
        return F.pad(x, (0, -x.shape[-1] % divisor, 0, -x.shape[-2] % divisor), value=value)


def _clip_id(sample: SegDataSample) -> str:
    """Name of a clip in messages."""
    return sample.get('clip_id', 'without a name')


def _check_clip(frames: Tensor, sounds: dict[str, Tensor], sample: SegDataSample) -> None:
    """Raise ValueError if a clip has no frames, or not one row of each sound a frame."""
    for key, rows in sounds.items():
        if len(frames) == 0 or len(frames) != len(rows):
            raise ValueError(
                f'clip {_clip_id(sample)} needs at least one frame and one row of {key} a frame, '
                f'got frames {tuple(frames.shape)} and {key} {tuple(rows.shape)}'
            )
