# SPDX-License-Identifier: Apache-2.0
"""Which method of the model belongs to which stage."""

from typing import Any

from torch import nn

from .timer import Hook

COMMON = ('preprocessing', 'audio', 'backbone', 'neck', 'pixel_decoder', 'decoder')
TRAIN = (*COMMON, 'matching', 'losses', 'backward', 'optimizer')
TEST = (*COMMON, 'crops', 'clip', 'label_map', 'metric')
STAGES = dict(train=TRAIN, test=TEST)


def call_of(module: nn.Module) -> str:
    """The attribute of a module that a call runs and that can be replaced; of a compiled one, outside of the graph."""
    compiled = getattr(module, '_compiled_call_impl', None) is not None
    return '_compiled_call_impl' if compiled else 'forward'


def model_hooks(model: nn.Module, mode: str) -> list[Hook]:
    """Methods of the segmentor.

    A stage is without what it calls in other stages: 'decoder' is the head without its pixel decoder, 'losses'
    the head's losses without decoder and matching, 'crops' the classifier without CLIP, 'label_map' all that is
    done with a window's queries but the classifier.

    Args:
        model: the segmentor.
        mode: 'train' or 'test'.
    """
    head = model.decode_head
    modules = dict(
        preprocessing=model.data_preprocessor,
        audio=model.audio_encoder,
        backbone=model.backbone,
        neck=model.neck,
        pixel_decoder=head.pixel_decoder,
        decoder=head,
    )
    hooks = [Hook(stage, module, call_of(module)) for stage, module in modules.items()]
    if mode == 'train':
        return [*hooks, Hook('losses', head, 'loss'), Hook('matching', head.criterion, 'match')]
    classifier = model.classifier
    return [
        *hooks,
        Hook('decoder', head, 'predict'),
        Hook('crops', classifier, call_of(classifier)),
        Hook('clip', classifier, 'encode'),
        Hook('label_map', model, '_name_pixels'),
    ]


def optimizer_hooks(optim_wrapper: Any) -> list[Hook]:
    """Methods of mmengine's optimizer wrapper; its step clips gradients as the config says."""
    optimizer = [Hook('optimizer', optim_wrapper, name) for name in ('step', 'zero_grad')]
    return [Hook('backward', optim_wrapper, 'backward'), *optimizer]
