# SPDX-License-Identifier: Apache-2.0
"""Reads pickles of NumPy arrays in plain containers, and nothing else.

A pickle is a program: it may name any function and have it called. The reader here knows the few
names that arrays need, and refuses a file with any other before anything is called.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
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
            content = _ArrayUnpickler(file, encoding='latin1').load()
        except UnsafePickleError as error:
            raise UnsafePickleError(f'{path}: {error}') from error
        except Exception as error:  # a broken pickle fails in any way, as every operation may
            raise UnsafePickleError(
                f'{path} is no readable pickle, or not complete '
                f'({type(error).__name__}: {str(error)[:120]})'
            ) from error
    _check(content, path)
    return content


class _ArrayUnpickler(pickle.Unpickler):
    """Resolves the names that pickled arrays have in them."""

    def find_class(self, module: str, name: str) -> Callable:
        """Give what a name stands for.

        Args:
            module: of the name.
            name: a class or function.

        Returns:
            A class or function that does no harm, whatever it is called with.

        Raises:
            UnsafePickleError: any other name.
        """
        allowed = {
            ('numpy', 'ndarray'): np.ndarray,
            ('numpy', 'dtype'): np.dtype,
            ('collections', 'OrderedDict'): OrderedDict,
            ('_codecs', 'encode'): _encoder(),
            ('__builtin__', 'bytes'): _no_bytes_maker(),
            **{(f'{core}.multiarray', '_reconstruct'): _reconstructor() for core in _NUMPY},
            **{(f'{core}.multiarray', 'scalar'): _scalar_maker() for core in _NUMPY},
            **{(f'{core}.numeric', '_frombuffer'): _buffer_reader() for core in _NUMPY},
        }
        if (module, name) not in allowed:
            raise UnsafePickleError(
                f'the pickle asks for {module}.{name}; only NumPy arrays in plain containers are '
                'read, and nothing was run'
            )
        return allowed[module, name]


# A pickle may set attributes of the functions that it gets: each one is made for one use.
def _encoder() -> Callable:
    """Make the function that turns text into bytes, as old protocols write them."""

    def encode(text: str, encoding: str = 'latin1') -> bytes:
        if encoding not in ('latin1', 'latin-1'):
            raise UnsafePickleError(f'the pickle asks for the encoding {encoding!r}')
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
        if kind is not np.ndarray or shape != (0,):
            raise UnsafePickleError(f'the pickle asks for an array of kind {kind!r}')
        return np.empty(0, np.int8)

    return reconstruct


def _scalar_maker() -> Callable:
    """Make the function that gives a NumPy number."""

    def scalar(dtype: np.dtype, raw: bytes) -> np.generic:
        if not isinstance(dtype, np.dtype) or dtype.hasobject:
            raise UnsafePickleError(f'the pickle asks for a number of type {dtype!r}')
        return np.frombuffer(raw, dtype, 1)[0]

    return scalar


def _buffer_reader() -> Callable:
    """Make the function that gives an array from its bytes, as protocol 5 writes them."""

    def frombuffer(buffer: Any, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
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
