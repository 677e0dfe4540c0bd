# SPDX-License-Identifier: Apache-2.0
"""The three graphs of a model, as programs of torch.export of any number of frames, any size and any names."""

import inspect
from typing import NamedTuple

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.nn import functional as F

from ovavss_mm.models import AudioMaskDecHead, AVEncoderDecoder, CLIPSquareCropClassifier
from ovavss_mm.models.classifiers.text_embeddings import encode_prompts
from ovavss_mm.models.segmentors.exported_segmentor import MIN_SIDE, STRIDE
from ovavss_mm.utils.text import one_line

from .swin import exportable_windows

# No multiples of a usual window of Swin at any stride, as what needs no padding would be exported without any.
HEIGHT, WIDTH, FRAMES = 160, 352, 3


class Graph(NamedTuple):
    """A program with the names of its axes.

    Attributes:
        program (ExportedProgram): of torch.export.
        inputs (dict[str, tuple]): axes of each input: names of those that may be of any length, numbers of others.
        outputs (dict[str, tuple]): the same of each output.
    """

    program: ExportedProgram
    inputs: dict[str, tuple]
    outputs: dict[str, tuple]


class Localizer(nn.Module):
    """Frames and sound of a clip to its queries."""

    def __init__(self, model: AVEncoderDecoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, imgs: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """See :class:`~ovavss_mm.models.segmentors.ExportedSegmentor`."""
        (queries,) = self.model.encode_decode(dict(imgs=[imgs], audio=[audio]))
        return {key: queries[key] for key in ('scores', 'masks', 'frame_sounds') if key in queries}


class Namer(nn.Module):
    """Masks in frames, and names, to logits."""

    def __init__(self, classifier: CLIPSquareCropClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, frames: Tensor, masks: Tensor, index: Tensor, text: Tensor) -> dict[str, Tensor]:
        """See :class:`~ovavss_mm.models.classifiers.ExportedCropClassifier`."""
        part = self.classifier
        crops = (part.crop(frames, index, masks) - part.mean) / part.std
        embeddings = F.normalize(part.clip_model.encode_image(crops).float(), dim=-1)
        return dict(embeddings=embeddings, logits=part._logits(embeddings, text))


class TextTower(nn.Module):
    """Token ids to embeddings."""

    def __init__(self, clip_model: open_clip.CLIP) -> None:
        super().__init__()
        self.clip_model = clip_model

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """See :class:`~ovavss_mm.models.classifiers.exported.ExportedCLIP`."""
        return dict(embeddings=F.normalize(encode_prompts(self.clip_model, tokens).float(), dim=-1))


def why_not(model: nn.Module) -> str | None:
    """Why a model cannot be exported; None if it can."""
    name = type(model).__name__
    if type(model) is not AVEncoderDecoder or type(model.decode_head) is not AudioMaskDecHead:
        head = f' with a {type(model.decode_head).__name__}' if hasattr(model, 'decode_head') else ''
        return f'{name}{head} is not OV-AVSS: its parts hand over other things than the graphs do'
    head, classifier = model.decode_head, model.classifier
    if head.num_classes > 1 or head.text_channels is not None or model.refiner is not None:
        return 'closed-set heads, heads of text embeddings and refiners have no graph'
    if type(classifier) is not CLIPSquareCropClassifier:
        return f'{type(classifier).__name__} has no graph: only CLIPSquareCropClassifier has, for its crops'
    clip_model = classifier.clip_model
    if not isinstance(clip_model, open_clip.CLIP) or type(classifier.tokenizer) is not SimpleTokenizer:
        return 'only the text towers of OpenAI kind, with their tokenizer, can be exported'
    if classifier.score != 'softmax':
        return f'scores of names by {classifier.score} have no graph'
    return None


@torch.no_grad()
def make_graphs(model: AVEncoderDecoder) -> dict[str, Graph]:
    """Export the parts of a model.

    Args:
        model (AVEncoderDecoder): in evaluation mode on the CPU, with its weights.

    Returns:
        dict[str, Graph]: ``localize``, ``name`` and ``text``.

    Raises:
        ValueError: a model that cannot be exported; the message says why.
    """
    if reason := why_not(model):
        raise ValueError(f'this model cannot be exported: {reason}')
    classifier = model.classifier
    return dict(localize=_localize(model), name=_name(classifier), text=_text(classifier.clip_model))


def _localize(model: AVEncoderDecoder) -> Graph:
    """The graph of everything but naming."""
    frames, *sides = Dim('T', min=1), *(Dim(side, min=MIN_SIDE // STRIDE) for side in 'HW')
    queries, cells = model.decode_head.query_feat.num_embeddings, [f'{STRIDE // 4}*{side}' for side in 'HW']
    return _graph(
        Localizer(model),
        dict(imgs=(frames, 3, *(STRIDE * side for side in sides)), audio=(frames, 1, 96, 64)),
        dict(imgs=torch.zeros(FRAMES, 3, HEIGHT, WIDTH), audio=torch.zeros(FRAMES, 1, 96, 64)),
        dict(scores=(queries,), masks=(queries, 'T', *cells), frame_sounds=(queries, 'T')),
    )


def _name(classifier: CLIPSquareCropClassifier) -> Graph:
    """The graph of crops, image tower and cosines."""
    frames, height, width, masks, rows, columns, names = (Dim(axis, min=1) for axis in 'ThwMHWN')
    channels = classifier.text_channels
    return _graph(
        Namer(classifier),
        dict(frames=(frames, 3, height, width), masks=(masks, rows, columns), index=(masks,), text=(names, channels)),
        dict(
            frames=torch.zeros(FRAMES, 3, 50, 70, dtype=torch.uint8),
            masks=torch.ones(4, 64, 96),
            index=torch.zeros(4, dtype=torch.int64),
            text=torch.ones(6, channels),
        ),
        dict(embeddings=('M', channels), logits=('M', 'N')),
    )


def _text(clip_model: open_clip.CLIP) -> Graph:
    """The graph of the text tower."""
    length = clip_model.context_length
    return _graph(
        TextTower(clip_model),
        dict(tokens=(Dim('M', min=1), Dim('L', min=2, max=length - 1))),
        dict(tokens=torch.ones(3, length // 2, dtype=torch.int64)),
        dict(embeddings=('M', clip_model.text_projection.shape[1])),
    )


def _graph(module: nn.Module, axes: dict[str, tuple], example: dict[str, Tensor], outputs: dict[str, tuple]) -> Graph:
    """Export a part with the axes of its inputs."""
    shapes = {key: {i: axis for i, axis in enumerate(row) if not isinstance(axis, int)} for key, row in axes.items()}
    arguments = tuple(example[key] for key in inspect.signature(module.forward).parameters)
    with exportable_windows(module):
        try:
            given = module(*arguments)
            program = export(module, arguments, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # torch.export fails in many ways
            raise ValueError(
                f'{type(module).__name__} cannot be exported: {type(error).__name__}: {one_line(error, 500)}'
            ) from error
    inputs = {
        key: tuple(axis if isinstance(axis, int) else str(getattr(axis, '__name__', axis)) for axis in row)
        for key, row in axes.items()
    }
    return Graph(program, inputs, {key: outputs[key] for key in given})
