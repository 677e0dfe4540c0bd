# SPDX-License-Identifier: Apache-2.0
"""Reading weights without running anything that a file names.

Importing this module makes mmengine read checkpoints through :func:`read_checkpoint` too, whoever asks it to:
``load_from``, ``resume``, ``init_cfg=dict(type='Pretrained', ...)`` and ``load_checkpoint``.
"""

import codecs
import json
import math
import os
import os.path as osp
import pickle
import re
import shlex
import zipfile
from collections import OrderedDict
from hashlib import sha256
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import safe_open
from torch import Tensor

from .known_weights import PACKAGE_SCHEME, how_to_get, package_file
from .text import one_line, shorten

META_KEY = 'ovavss_mm'  # of a safetensors file's metadata; its value is JSON

_UNSAFE = re.compile(r'GLOBAL ([^\s,]+)')
_COPY = (
    'import pickle, sys, torch; file = open(sys.argv[1], "rb"); '
    'c = pickle.load(file, encoding="latin1") if file.name.endswith(".pkl") else '
    'torch.load(file, map_location="cpu", weights_only=False); '
    'c = dict(c.state_dict()) if hasattr(c, "state_dict") else c; '
    'torch.save({"state_dict": c.get("state_dict", c.get("model", c))}, sys.argv[2])'
)


class CheckpointError(ValueError):
    """A file that cannot be read as weights; the message names the file and the cure."""


def read_checkpoint(path: str, map_location: Any = 'cpu') -> Any:
    """Read a file of tensors, numbers, strings and containers of these.

    Reads PyTorch checkpoints (in mmengine's are histories of the log and numpy values), safetensors files, detectron2's
    ``.pkl`` files of arrays, and those TorchScript archives of CLIP that OpenAI has published, by their SHA-256:
    opening any other may run a program.

    Args:
        path (str): of a local file; ``ovavss_mm://PATH`` is one that ships in the package.
        map_location (Any): as of :func:`torch.load`. Defaults to ``'cpu'``.

    Returns:
        Any: What the file holds; ``dict(state_dict=..., meta=...)`` of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it holds more than data, or is damaged.
    """
    path = osp.expanduser(package_file(str(path)))
    if not osp.isfile(path):
        raise FileNotFoundError(how_to_get(path))
    try:
        if path.endswith('.safetensors'):
            return _read_safetensors(path)
        if path.endswith('.pkl'):
            with open(path, 'rb') as file:
                return _ArrayUnpickler(file, encoding='latin1').load()
        if (state := _read_published_archive(path)) is not None:
            return state
        with torch.serialization.safe_globals([(v, k) for k, v in _GLOBALS.items()]):
            return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a broken file fails in as many ways as there are readers
        raise CheckpointError(_complaint(path, error)) from error


def read_state_dict(path: str) -> dict[str, Tensor]:
    """Read the weights of a local file as :func:`read_checkpoint` does, from itself, ``'state_dict'`` or ``'model'``.

    They are on the CPU; a leading ``module.`` of names is removed.
    """
    state = read_checkpoint(path)
    for key in ('state_dict', 'model'):
        state = state.get(key, state) if isinstance(state, dict) else state
    values = state.items() if isinstance(state, dict) else [(type(state), None)]
    if not values or not all(isinstance(k, str) and isinstance(v, (Tensor, np.ndarray)) for k, v in values):
        raise CheckpointError(
            f"{path} holds no state dict of tensors, neither itself nor under 'state_dict' or "
            f"'model': {shorten(one_line(k) for k, _ in values) or 'it is empty'}. Name a file of weights"
        )
    tensors = {}
    for key, value in values:
        if isinstance(value, np.ndarray):  # in the machine's byte order, and writable
            value = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder('=')))
        tensors[key.removeprefix('module.')] = value
    return tensors


def _complaint(path: str, error: Exception) -> str:
    """Say what was refused and what to do about it."""
    match = _UNSAFE.search(str(error))
    if match is None or not isinstance(error, pickle.UnpicklingError):
        return (
            f'{path} cannot be read as a checkpoint ({type(error).__name__}: {one_line(error)}): '
            'is it complete, and a PyTorch checkpoint, safetensors or detectron2 file?'
        )
    copy = shlex.join(['python', '-c', _COPY, path, f'{osp.splitext(path)[0]}_plain.pth'])
    return (
        f'{path} was not read: it asks for {match[1][:200]}. A file that is more than '
        'data can run any program when it is read.\nIf you know where it is from and trust it, '
        f'copy its weights once, and use the copy (load_from; no resume):\n  {copy}'
    )


def _read_safetensors(path: str) -> dict[str, Any]:
    """Weights of a safetensors file, and the metadata that the publish tool writes."""
    with safe_open(path, framework='pt', device='cpu') as file:
        meta = json.loads((file.metadata() or {}).get(META_KEY, '{}'))
        return dict(state_dict={key: file.get_tensor(key) for key in file.keys()}, meta=meta)


def _read_published_archive(path: str) -> dict[str, Tensor] | None:
    """State dict of a TorchScript archive that OpenAI has published; None for other kinds of files."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:  # other checkpoints have no table of constants
        if not any(name.endswith('/constants.pkl') for name in archive.namelist()):
            return None
    import open_clip  # takes seconds

    urls = [open_clip.get_pretrained_url(*p) for p in open_clip.list_pretrained() if 'openai' in p]
    with open(path, 'rb') as file:
        digest = sha256()
        while block := file.read(2**20):
            digest.update(block)
        if digest.hexdigest() not in {url.split('/')[-2] for url in urls}:
            raise pickle.UnpicklingError("GLOBAL TorchScript, and is none of OpenAI's archives")
        file.seek(0)
        return dict(torch.jit.load(file, map_location='cpu').state_dict())


# Checked stand-ins: a forged state of numpy's own dtype would have bytes read as pointers.
class _DType:
    """Stands for a numpy dtype, of numbers only."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r'[biuf][1248]|c8|c16|\?', code):
            raise ValueError(f'numpy dtype {code!r} is no number')
        self.checked = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.checked = self.checked.newbyteorder(state[1])


class _Array(np.ndarray):
    """Stands for a numpy array while it is read; saved as one."""

    def __new__(cls, *_: object) -> '_Array':
        return np.empty(0, np.int8).view(cls)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        dtype, content = dtype.checked, _raw(content)
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content):
            raise ValueError(f'numpy array of shape {shape} with {len(content)} bytes')
        super().__setstate__((1, tuple(shape), dtype, bool(fortran), content))  # type: ignore[arg-type]  # numpy wants its own bool

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self.view(np.ndarray).__reduce__()


class _History(HistoryBuffer):
    """Stands for a history of the log while it is read."""

    def __setstate__(self, state: dict) -> None:
        self._set_default_statistics()
        self.max_length = int(state['max_length'])
        self._log_history = state['_log_history'].view(np.ndarray)
        self._count_history = state['_count_history'].view(np.ndarray)
        self.__class__ = HistoryBuffer


def _scalar(dtype: _DType, content: Any) -> np.generic:
    """A numpy number."""
    return np.frombuffer(_raw(content), dtype.checked, count=1)[0]


def _raw(content: str | bytes) -> bytes:
    """Bytes, which old pickles hold as text."""
    return content.encode('latin1') if isinstance(content, str) else bytes(content)


_GLOBALS: dict[str, Any] = {
    'numpy.dtype': _DType,
    'numpy.ndarray': _Array,
    **{f'numpy.{core}.multiarray._reconstruct': _Array for core in ('core', '_core')},
    **{f'numpy.{core}.multiarray.scalar': _scalar for core in ('core', '_core')},
    'mmengine.logging.history_buffer.HistoryBuffer': _History,
    'builtins.getattr': lambda _, name: name,  # statistics of a history, which nobody needs
    'builtins.bytes': bytes,
    '__builtin__.bytes': bytes,
    'collections.OrderedDict': OrderedDict,
    '_codecs.encode': codecs.encode,  # bytes in protocols before 3
}


# That in C makes room for as many objects as a file announces.
class _ArrayUnpickler(pickle._Unpickler):
    """Reads arrays in plain containers, as detectron2 pickles them."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; UnpicklingError for all that are not listed."""
        if f'{module}.{name}' not in _GLOBALS:
            raise pickle.UnpicklingError(f'GLOBAL {module}.{name} is not allowed')
        return _GLOBALS[f'{module}.{name}']


@CheckpointLoader.register_scheme(('', 'http://', 'https://', PACKAGE_SCHEME), force=True)
def load_from_local(filename: str, map_location: Any = None) -> Any:
    """mmengine's loader of files and addresses, safe; downloads are kept as torch's hub does."""
    if filename.startswith(('http://', 'https://')):
        url, name = filename, osp.basename(urlparse(filename).path)
        filename = osp.join(torch.hub.get_dir(), 'checkpoints', name)
        if is_main_process() and not osp.isfile(filename):
            os.makedirs(osp.dirname(filename), exist_ok=True)
            torch.hub.download_url_to_file(url, filename, progress=False)
        barrier()
    return read_checkpoint(filename, map_location)


_NAMED = ('modelzoo://', 'torchvision://', 'open-mmlab://', 'openmmlab://', 'mmcls://', 'pavi://')


@CheckpointLoader.register_scheme((*_NAMED, r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), force=True)
def load_from_elsewhere(filename: str, map_location: Any = None) -> Any:
    """Refuse what mmengine has no safe reader for."""
    raise CheckpointError(f'{filename} was not read: name a local file, or its address, instead')
