# SPDX-License-Identifier: Apache-2.0
"""Reads pickles of NumPy arrays in plain containers, and nothing else.

A pickle is a program: it may name any function and have it called. The reader here knows the few
names that arrays need, and refuses a file with any other before anything is called.

It is made of the standard library's reader in Python, as the one in C takes a few bytes' word for how much
memory it needs, and has no place where a key of a dict could be looked at before it is hashed.
"""

import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

_NUMPY = ('numpy.core', 'numpy._core')  # NumPy 1 and 2


class UnsafePickleError(ValueError):
    """A pickle that names something other than arrays and containers, or is broken."""


def load_arrays(path: str) -> Any:
    """Read a pickle.

    Args:
        path: the file.

    Returns:
        Its content: dicts, lists, tuples, sets, strings, numbers and numeric arrays.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafePickleError: anything else is in it, or it is no complete pickle.
    """
    with open(path, 'rb') as file:
        try:
            content = _ArrayUnpickler(file, os.fstat(file.fileno()).st_size).load()
        except UnsafePickleError as error:
            raise UnsafePickleError(f'{path}: {error}') from error
        except Exception as error:  # a broken pickle fails in any way, as every operation may
            raise UnsafePickleError(
                f'{path} is no readable pickle, or not complete '
                f'({type(error).__name__}: {str(error)[:120]})'
            ) from error
    _check(content, path)
    return content


class _Budget:
    """Bytes that a pickle may have made of its own, some times its size.

    Args:
        size: of the file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size, self.left = size, 8 * size + 2**20

    def take(self, amount: int) -> None:
        """Raise UnsafePickleError if there is not that much left."""
        self.left -= amount
        if self.left < 0:
            raise UnsafePickleError('the pickle makes many times its own size of itself')


class _ArrayUnpickler(pickle._Unpickler):
    """Resolves the names that pickled arrays have in them.

    Args:
        file: the open file.
        size: of it, in bytes.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: Any, size: int) -> None:
        super().__init__(_Bounded(file, size), encoding='latin1')
        self.budget = _Budget(size)

    def find_class(self, module: str, name: str) -> Callable:
        """Give what a name stands for.

        Args:
            module: of the name.
            name: a class or function.

        Returns:
            A function that does no harm, whatever it is called with.

        Raises:
            UnsafePickleError: any other name.
        """
        allowed = {
            ('numpy', 'ndarray'): _array_kind,
            ('numpy', 'dtype'): _dtype_maker,
            ('collections', 'OrderedDict'): lambda: _ordered_maker(self.budget),
            ('_codecs', 'encode'): lambda: _encoder(self.budget),
            ('__builtin__', 'bytes'): _no_bytes_maker,
            **{(f'{core}.multiarray', '_reconstruct'): _reconstructor for core in _NUMPY},
            **{(f'{core}.multiarray', 'scalar'): _scalar_maker for core in _NUMPY},
            **{(f'{core}.numeric', '_frombuffer'): _buffer_reader for core in _NUMPY},
        }
        if (module, name) not in allowed:
            raise UnsafePickleError(
                f'the pickle asks for {module[:80]}.{name[:80]}; only NumPy arrays in plain '
                'containers are read, and nothing was run'
            )
        return allowed[module, name]()

    # -------------------------------------------------------- operations that could do harm
    def load_bytearray8(self) -> None:
        """Read bytes as arrays of protocol 5 have them; as many as there are, not as announced."""
        (length,) = struct.unpack('<Q', self.read(8))
        self.append(bytearray(self.read(length)))

    def load_setitem(self) -> None:
        """Set an entry of a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [(key, value)])

    def load_setitems(self) -> None:
        """Set entries of a dict."""
        items = self.pop_mark()
        self._set(self.stack[-1], list(zip(items[::2], items[1::2], strict=True)))

    def load_dict(self) -> None:
        """Make a dict of what is on the stack."""
        items, made = self.pop_mark(), {}
        self._set(made, list(zip(items[::2], items[1::2], strict=True)))
        self.append(made)

    @staticmethod
    def _set(target: Any, items: list[tuple]) -> None:
        """Set entries of a dict, whose keys must be plain: those of nested tuples take forever to hash."""
        if not isinstance(target, dict):
            raise UnsafePickleError(f'the pickle sets entries of a {type(target).__name__}')
        _check_keys(key for key, _ in items)
        target.update(items)

    def load_additems(self) -> None:
        """Add to a set."""
        items = self.pop_mark()
        _check_keys(items)
        self.stack[-1].update(items)

    def load_frozenset(self) -> None:
        """Make a frozen set of what is on the stack."""
        items = self.pop_mark()
        _check_keys(items)
        self.append(frozenset(items))

    def load_build(self) -> None:
        """Fill an array, or set the byte order of a data type; nothing else has a state."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, np.dtype):
            self.stack[-1] = target.newbyteorder(_byte_order(state))
        elif type(target) is np.ndarray:
            self.stack[-1] = _filled(state, self.budget)
            for at, known in self.memo.items():  # the array was noted before it was filled
                if known is target:
                    self.memo[at] = self.stack[-1]
        elif not isinstance(target, OrderedDict):  # attributes of dicts are not needed
            raise UnsafePickleError(f'the pickle sets the state of a {type(target).__name__}')


for _code, _name in (
    (pickle.BYTEARRAY8, 'load_bytearray8'),
    (pickle.SETITEM, 'load_setitem'),
    (pickle.SETITEMS, 'load_setitems'),
    (pickle.DICT, 'load_dict'),
    (pickle.ADDITEMS, 'load_additems'),
    (pickle.FROZENSET, 'load_frozenset'),
    (pickle.BUILD, 'load_build'),
):
    _ArrayUnpickler.dispatch[_code[0]] = getattr(_ArrayUnpickler, _name)


class _Bounded:
    """A file that gives no room for more than it holds.

    Args:
        file: the open file.
        size: of it, in bytes.
    """

    def __init__(self, file: Any, size: int) -> None:
        self.file, self.size, self.readline = file, size, file.readline

    def read(self, length: int) -> bytes:
        """Read bytes; asking for more than the file has is an error."""
        if not 0 <= length <= self.size:
            raise EOFError(f'{length} bytes are announced, the file has {self.size}')
        return self.file.read(length)


def _check_keys(keys: Iterable) -> None:
    """Raise UnsafePickleError unless all keys are plain values."""
    for key in keys:
        if not isinstance(key, (str, bytes, int, float, type(None), np.generic)):
            raise UnsafePickleError(f'the pickle has a {type(key).__name__} as a key')


def _byte_order(state: Any) -> str:
    """Byte order in the state of a numeric data type."""
    match state:
        case (int(), ('<' | '>' | '|' | '=') as order, None, None, None, *_):
            return order
    raise UnsafePickleError('the pickle has an array of structures, not of numbers')


def _filled(state: Any, budget: _Budget) -> np.ndarray:
    """An array of the state that arrays are pickled with."""
    match state:
        case (
            int(),
            tuple() as shape,
            np.dtype() as dtype,
            bool() | int() as fortran,
            str() | bytes() as raw,
        ):
            pass
        case (int(), tuple(), np.dtype() as dtype, *_):
            raise UnsafePickleError(f'the pickle has an array of {dtype}, not of numbers')
        case _:
            raise UnsafePickleError('the pickle has an array without shape, type or content')
    if dtype.kind not in 'biufc':
        raise UnsafePickleError(f'the pickle has an array of {dtype}, not of numbers')
    raw = raw.encode('latin1') if isinstance(raw, str) else raw
    budget.take(len(raw))
    array = np.frombuffer(bytearray(raw), dtype)
    return array.reshape(shape, order='F' if fortran else 'C')


# A pickle may set attributes of the functions that it gets: each one is made for one use.
def _array_kind() -> Callable:
    """Make what stands for the class of arrays: it is handed over, never called."""

    def ndarray(*args: object) -> None:
        raise UnsafePickleError('the pickle asks for an array without content')

    ndarray.is_array_kind = True
    return ndarray


def _dtype_maker() -> Callable:
    """Make the function that gives a data type by its short name."""

    def dtype(kind: str, align: Any = False, copy: Any = False) -> np.dtype:
        if not isinstance(kind, str) or len(kind) > 8:
            raise UnsafePickleError('the pickle asks for a data type that is no number')
        return np.dtype(kind)

    return dtype


def _ordered_maker(budget: _Budget) -> Callable:
    """Make the function that gives an ordered dict."""

    def ordered(items: Any = ()) -> OrderedDict:
        if not isinstance(items, (list, tuple)):
            raise UnsafePickleError(f'the pickle makes a dict of a {type(items).__name__}')
        budget.take(64 * len(items))
        _check_keys(key for key, _ in items)
        return OrderedDict(items)

    return ordered


def _encoder(budget: _Budget) -> Callable:
    """Make the function that turns text into bytes, as old protocols write them."""

    def encode(text: str, encoding: str = 'latin1') -> bytes:
        if encoding not in ('latin1', 'latin-1'):
            raise UnsafePickleError(f'the pickle asks for the encoding {encoding!r}')
        budget.take(len(text))
        return text.encode('latin1')

    return encode


def _no_bytes_maker() -> Callable:
    """Make the function that gives no bytes, as old protocols write the content of empty arrays."""

    def no_bytes() -> bytes:
        return b''

    return no_bytes


def _reconstructor() -> Callable:
    """Make the function that gives an empty array, whose content follows in the pickle."""

    def reconstruct(kind: type, shape: tuple, dtype: Any) -> np.ndarray:
        if not hasattr(kind, 'is_array_kind') or shape != (0,):
            raise UnsafePickleError('the pickle asks for an array of another kind')
        return np.empty(0, np.int8)

    return reconstruct


def _scalar_maker() -> Callable:
    """Make the function that gives a NumPy number."""

    def scalar(dtype: np.dtype, raw: bytes) -> np.generic:
        if not isinstance(dtype, np.dtype) or dtype.kind not in 'biufc':
            raise UnsafePickleError(f'the pickle asks for a number of type {dtype!r}')
        raw = raw.encode('latin1') if isinstance(raw, str) else raw
        return np.frombuffer(raw, dtype, 1)[0]

    return scalar


def _buffer_reader() -> Callable:
    """Make the function that gives an array from its bytes, as protocol 5 writes them."""

    def frombuffer(buffer: Any, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
        if not isinstance(dtype, np.dtype) or dtype.kind not in 'biufc':
            raise UnsafePickleError(f'the pickle has an array of {dtype}, not of numbers')
        return np.frombuffer(buffer, dtype).reshape(shape, order=order)

    return frombuffer


def _check(content: Any, path: str) -> None:
    """Raise UnsafePickleError if there is anything but plain values and numeric arrays."""
    seen, waiting = set(), [content]
    while waiting:  # no recursion: containers may be nested deeply, or hold themselves
        item = waiting.pop()
        if isinstance(item, (dict, list, tuple, set, frozenset)):
            if id(item) not in seen:
                seen.add(id(item))
                waiting.extend(item)
                waiting.extend(item.values() if isinstance(item, dict) else ())
        elif isinstance(item, (np.ndarray, np.generic)):
            if item.dtype.kind not in 'biufc':
                raise UnsafePickleError(f'{path} has an array of {item.dtype}, not of numbers')
        elif not isinstance(item, (str, bytes, bytearray, int, float, complex, type(None))):
            raise UnsafePickleError(f'{path} has a {type(item).__name__} in it')
