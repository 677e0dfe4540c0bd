# SPDX-License-Identifier: Apache-2.0
"""Weights of TorchScript archives, read as data.

``torch.jit.load`` runs what an archive says is to be done on loading, which may write files. Here nothing of an
archive is run: modules become plain dicts of what they hold, and of its code only the names of parameters and buffers
are read.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_DTYPES = dict(
    DoubleStorage=torch.float64,
    FloatStorage=torch.float32,
    HalfStorage=torch.float16,
    BFloat16Storage=torch.bfloat16,
    LongStorage=torch.int64,
    IntStorage=torch.int32,
    ShortStorage=torch.int16,
    CharStorage=torch.int8,
    ByteStorage=torch.uint8,
    BoolStorage=torch.bool,
)
_TYPED = ('build_intlist', 'build_doublelist', 'build_boollist', 'build_tensorlist')
_MOST_CODE = 2**24  # bytes of a file of code, which is read whole
_MOST_MODULES, _DEEPEST = 10**5, 100  # few bytes can say that each module holds the next one twice
_CLASS = re.compile(r'^class (\w+)\(', re.MULTILINE)
_NAMES = re.compile(r'^  __(?:parameters|buffers)__ = \[(.*)\]', re.MULTILINE)


def is_script_archive(path: str) -> bool:
    """Whether a file is a TorchScript archive; other checkpoints have no table of constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('/constants.pkl') for name in archive.namelist())


def read_script_archive(path: str) -> dict[str, Tensor]:
    """Read the parameters and buffers of a module that ``torch.jit.save`` has written.

    Args:
        path: of the archive.

    Returns:
        Names to tensors on the CPU, those of ``torch.jit.load(path).state_dict()``.

    Raises:
        ValueError: its parts are larger than the file, or it holds something else than a module.
        pickle.UnpicklingError: it asks for more than modules, tensors and plain values.
    """
    with zipfile.ZipFile(path) as archive:
        # torch compresses nothing but code
        parts = [part for part in archive.infolist() if '/code/' not in part.filename]
        if sum(part.file_size for part in parts) > os.path.getsize(path):
            raise ValueError('its parts are larger in memory than the file')
        reader = _Reader(archive)
        content = reader.load()
        if not isinstance(content, _Module):
            raise ValueError(f'it holds a {type(content).__name__}, not a module')
        return dict(reader.state_of(content))


class _Module:
    """Stands for a module or another object of an archive: what it holds, and the name of its class."""

    name = ''
    content: dict[str, Any]

    def __new__(cls) -> '_Module':
        """Hold nothing yet; pickles make objects without a call of ``__init__``."""
        made = super().__new__(cls)
        made.content = {}
        return made


# Python's own unpickler in Python: that in C makes room for as many objects as a file announces.
class _Reader(pickle._Unpickler):
    """Reads ``data.pkl`` of an archive; nothing that it names is imported or called."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        names = [name for name in archive.namelist() if re.fullmatch(r'[^/]+/data\.pkl', name)]
        if len(names) != 1:
            raise ValueError(f'it has {len(names)} files data.pkl, not one')
        self._archive, self._root = archive, names[0].removesuffix('data.pkl')
        self._storages: dict[str, Tensor] = {}
        self._declared: dict[str, set[str]] = {}
        self._visited = 0
        super().__init__(archive.open(names[0]))

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function of that name."""
        if module.split('.')[0] == '__torch__':
            return type('_Module', (_Module,), dict(name=f'{module}.{name}'))
        if module == 'torch' and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            return _tensor
        if (module, name) == ('collections', 'OrderedDict'):
            return dict
        if module == 'torch.jit._pickle' and name in (*_TYPED, 'restore_type_tag'):
            return _untyped
        raise pickle.UnpicklingError(f'{module}.{name} is asked for')

    def persistent_load(self, pid: tuple) -> Tensor:
        """The numbers of a tensor, flat."""
        kind, dtype, key, _, count = pid
        if kind != 'storage' or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f'a {kind} is asked for')
        if key not in self._storages:
            content = bytearray(self._archive.read(f'{self._root}data/{key}'))
            flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0).to(dtype)
            self._storages[key] = flat
        flat = self._storages[key]
        if flat.dtype != dtype or len(flat) != count:
            raise pickle.UnpicklingError(f'storage {key} has {len(flat)} numbers, not {count}')
        return flat

    def _fill(self) -> None:
        """Fill a module; torch's own objects are never filled."""
        content, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, _Module) or not isinstance(content, dict):
            raise pickle.UnpicklingError(f'a {type(made).__name__} with a state of its own')
        made.content = content

    dispatch = pickle._Unpickler.dispatch | {pickle.BUILD[0]: _fill}

    def state_of(self, module: _Module, prefix: str = '') -> Iterator[tuple[str, Tensor]]:
        """Parameters and buffers, by name, of a module and those in it."""
        self._visited += 1
        if self._visited > _MOST_MODULES or prefix.count('.') > _DEEPEST:
            raise ValueError('its modules are nested without end')
        declared = self._names_of(module.name)
        for key, value in module.content.items():
            if isinstance(value, _Module):
                yield from self.state_of(value, f'{prefix}{key}.')
            elif isinstance(value, Tensor) and key in declared:
                yield prefix + key, value

    def _names_of(self, name: str) -> set[str]:
        """Parameters and buffers that a class declares; its other tensors are no part of a state dict."""
        if name not in self._declared:
            module = name.rpartition('.')[0]
            path = f'{self._root}code/{module.replace(".", "/")}.py'
            if self._archive.getinfo(path).file_size > _MOST_CODE:
                raise ValueError(f'{path} has more than {_MOST_CODE} bytes')
            _, *parts = _CLASS.split(self._archive.read(path).decode())
            for own, text in zip(parts[::2], parts[1::2], strict=True):
                lists = ','.join(_NAMES.findall(text))
                self._declared[f'{module}.{own}'] = set(re.findall(r'"([^"]*)"', lists))
        return self._declared[name]


def _tensor(flat: Tensor, offset: int, size: tuple, stride: tuple, *_: object) -> Tensor:
    """A tensor of a storage; torch refuses one that would reach beyond it."""
    return flat.as_strided(size, stride, offset)


def _untyped(value: Any, *_: object) -> Any:
    """A list or dict without the type that TorchScript gives it."""
    return value
