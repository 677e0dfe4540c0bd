# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints in small, and the tools that read them."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / 'tests/data/released'
sys.path.insert(0, str(ROOT / 'tools/model_converters'))  # released/ and parity/
FILES = {'r50': 'r50', 'swin-b': 'swinb'}
CLIPS = {'r50': 'ViT-B-16-quickgelu', 'swin-b': 'ViT-L-14-336-quickgelu'}


def load_tool(path: str) -> ModuleType:
    """Import a script of ``tools/``."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / 'tools' / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shapes(backbone: str) -> dict[str, list[int]]:
    """Names and shapes of a published checkpoint, with a tiny CLIP."""
    return json.loads((DATA / f'state_dict_{FILES.get(backbone, backbone)}.json').read_text())


def real_shapes(backbone: str) -> dict[str, list[int]]:
    """Names and shapes of a published checkpoint with the CLIP that it really has."""
    kept = {k: v for k, v in shapes(backbone).items() if not k.startswith('clip_adapter.clip')}
    with torch.device('meta'):
        clip = open_clip.CLIP(**open_clip.get_model_config(CLIPS[backbone])).state_dict()
    return kept | {f'clip_adapter.clip_model.{k}': list(v.shape) for k, v in clip.items()}


def openvis_shapes() -> dict[str, list[int]]:
    """Names and shapes of a published OpenVIS of 6 layers: those of OV-AVSS that do not hear."""
    heard = r'audio|\.b_attn\.|predictor\.(v2a|a2a)|predictor\.transformer_\w+\.[678]\.'
    return {key: shape for key, shape in shapes('r50').items() if not re.search(heard, key)}


def published_state(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """A checkpoint in which weight i is i everywhere: full size, but a number each in memory."""
    return {
        key: torch.full((1,) * len(shape), i).expand(shape)
        if key.endswith('index')
        else torch.full((1,) * len(shape), float(i)).expand(shape)
        for i, (key, shape) in enumerate(shapes.items())
    }


def save(state: dict[str, Tensor], path: Path) -> str:
    """Write a published checkpoint and return its path."""
    torch.save({'model': state}, path)
    return str(path)


def fixture(name: str) -> dict[str, np.ndarray]:
    """A fixture with the frames that it was measured on."""
    with np.load(DATA / f'{name}.npz') as file:
        arrays = {key: file[key] for key in file.files}
    if name in ('metric', 'loss', 'loss_inner'):
        return arrays
    with Image.open(DATA / 'images.png') as picture:
        frames = np.asarray(picture).reshape(5, 96, 128, 3).transpose(0, 3, 1, 2)
    if name == 'clip':
        return arrays | {'frames': frames[: len(arrays['masks'])].copy()}
    return arrays | {'images': frames.copy()}


def error_of(call: object, *args: object) -> str:
    """The message with which a tool gives up."""
    try:
        call(*args)
    except SystemExit as exit:
        assert isinstance(exit.code, str), 'a text makes the exit status 1'
        assert exit.code.startswith('error: ')
        return exit.code
    raise AssertionError('no error')
