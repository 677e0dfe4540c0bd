# SPDX-License-Identifier: Apache-2.0
"""A model whose network was exported to ONNX: the same windows, names and label maps (docs/deploy.md)."""

from collections.abc import Iterator

from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from torch import Tensor

from ..layers.onnx_graph import OnnxGraph
from .clip_segmentor import ClipSegmentor, Found, checked_test_cfg, frame_shapes, refuse_unread
from .label_map import best_pairs, resize_pairs

STRIDE = 32  # of the coarsest map
MIN_SIDE = 64  # pixels; a map of one row or column is another graph


@MODELS.register_module()
class ExportedSegmentor(ClipSegmentor):
    """Localises by a graph that ``tools/export.py`` has written, and names by another one.

    Args:
        graph (str): path of the graph that localises: ``imgs`` (T, 3, H, W) float32, normalised, and ``audio`` (T, ...)
            float32 in, ``scores`` (Q,), ``masks`` (Q, T, H / 4, W / 4) and perhaps ``frame_sounds`` (Q, T) out. H and W
            are multiples of 32, at least 64.
        classifier (dict): config of the classifier, such as :class:`~ovavss_mm.models.ExportedCropClassifier`.
        data_preprocessor (dict, optional): config of the data preprocessor. Defaults to None.
        test_cfg (dict, optional): as of :class:`~ovavss_mm.models.AVEncoderDecoder`.
        init_cfg (dict, optional): as in mmengine. Defaults to None.
        train_cfg (None): mmseg's ``init_model`` sets it, as the next; nothing reads them.
        pretrained (None): see above.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: the graph is missing.
        ValueError: it cannot be read.
    """

    def __init__(
        self,
        graph: str,
        classifier: dict,
        data_preprocessor: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        train_cfg: None = None,
        pretrained: None = None,
    ) -> None:
        refuse_unread(train_cfg, pretrained)
        super().__init__(data_preprocessor, init_cfg)
        self.test_cfg = checked_test_cfg(test_cfg or {})
        self.graph = OnnxGraph(graph)
        self.classifier = MODELS.build(classifier)

    def localize(self, imgs: Tensor, audio: Tensor) -> InstanceData:
        """The queries of a clip: see :class:`ExportedSegmentor`.

        Raises:
            ValueError: a shape that the graph does not take.
        """
        sides = tuple(imgs.shape[-2:])
        if any(side % STRIDE or side < MIN_SIDE for side in sides):
            raise ValueError(
                f'{self.graph.path} takes frames whose height and width are multiples of {STRIDE}, at least '
                f'{MIN_SIDE}, got {sides}: pad them, as the data preprocessor does, and set ResizeClip.short_side'
            )
        queries = self.graph(imgs=imgs, audio=audio)
        return InstanceData(**{key: value.to(imgs.device) for key, value in queries.items()})

    def find(self, inputs: dict[str, list[Tensor]], metas: list[dict]) -> Iterator[Found]:
        """See :class:`ClipSegmentor`; one window after the other."""
        for imgs, audio, frames, meta in zip(inputs['imgs'], inputs['audio'], inputs['frames'], metas, strict=True):
            shapes = frame_shapes(frames, meta)
            named = self.classifier(frames, self.localize(imgs, audio), meta['vocabulary'], shapes[1])
            pairs = best_pairs(named, self.test_cfg['max_pairs'], self.test_cfg['score_thr'])
            yield Found(resize_pairs(pairs, *shapes))

    def loss(self, inputs: object, data_samples: object) -> dict[str, Tensor]:
        """Refuse to train: a graph has no gradients."""
        raise NotImplementedError('an exported model cannot be trained: train the model of its config')

    extract_feat = encode_decode = _forward = loss
