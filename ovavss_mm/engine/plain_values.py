# SPDX-License-Identifier: Apache-2.0
"""What mmengine's checkpoints hold besides tensors, read as data: nothing of numpy's or mmengine's is called.

While a file is read, objects that only hold what the file says stand for numpy's and mmengine's;
:func:`to_values` then checks them and makes the real ones.
"""

import math
import re
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

_PLAIN_NUMBER = re.compile(r'[biufc?](1|2|4|8|16)?')
_STATISTICS = ('min', 'max', 'current', 'mean')


class _StandIn:
    """Holds how it was made and filled."""

    def __new__(cls, *args: object) -> '_StandIn':
        """Make one of any arguments."""
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        """Keep the arguments."""
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        """Keep the state."""
        self.state = state


class _NoBytes(_StandIn):
    """Empty bytes, as pickles of torch write them: a call of ``bytes``."""

    def value(self) -> bytes:
        """The real ones."""
        if self.args:
            raise ValueError('a call of bytes')
        return b''


class _DType(_StandIn):
    """A numpy dtype."""

    def value(self) -> np.dtype:
        """The real one; only numbers have one."""
        if not isinstance(self.args[0], str) or not _PLAIN_NUMBER.fullmatch(self.args[0]):
            raise ValueError(f'numpy dtype {self.args[0]!r} is no number')
        order = self.state[1] if self.state else '='
        if order not in ('<', '>', '|', '='):
            raise ValueError(f'byte order {order!r}')
        return np.dtype(self.args[0]).newbyteorder(order)


class _Array(_StandIn):
    """A numpy array."""

    def value(self) -> np.ndarray:
        """The real one."""
        _, shape, dtype, fortran, content = self.state
        dtype, content = _real(dtype, _DType), _bytes(content)
        if math.prod(shape) * dtype.itemsize != len(content) or any(n < 0 for n in shape):
            raise ValueError(f'numpy array of shape {shape} with {len(content)} bytes')
        order = 'F' if fortran else 'C'
        return np.frombuffer(content, dtype).reshape(shape, order=order).copy(order)


class _Scalar(_StandIn):
    """A numpy number."""

    def value(self) -> np.generic:
        """The real one."""
        dtype, content = self.args
        return np.frombuffer(_bytes(content), _real(dtype, _DType), count=1)[0]


class _History(_StandIn):
    """A log's history."""

    def value(self) -> HistoryBuffer:
        """The real one, without statistics of its own."""
        history = HistoryBuffer(max_length=int(self.state['max_length']))
        history._log_history = _real(self.state['_log_history'], _Array)
        history._count_history = _real(self.state['_count_history'], _Array)
        return history


class _Method(_StandIn):
    """An attribute of something, by name: one of the statistics of a history."""

    def value(self) -> str:
        """Its name, which nobody needs."""
        owner, name = self.args
        if owner is not _History or name not in _STATISTICS:
            raise ValueError(f'attribute {name!r}')
        return name


# For torch.serialization.safe_globals: what stands for what.
STAND_INS = [
    (_DType, 'numpy.dtype'),
    (_Array, 'numpy.ndarray'),
    *((_Array, f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')),
    *((_Scalar, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_Method, 'builtins.getattr'),
    (_NoBytes, 'builtins.bytes'),
]


def to_values(content: Any) -> Any:
    """Replace what stands for numpy's and mmengine's objects by these.

    Args:
        content: of a checkpoint; its dicts and lists are changed.

    Returns:
        The same, or what stands for it.

    Raises:
        ValueError: a stand-in was made or filled in a way that a checkpoint of mmengine never does.
    """
    return _replace(content, {}, 0)


def _replace(content: Any, seen: dict[int, Any], depth: int) -> Any:
    """What an object is to be replaced by; ``seen`` has those met before."""
    if id(content) in seen:
        return seen[id(content)][1]
    if depth > 100:
        raise ValueError('containers in containers, more than 100 deep')
    result = content
    seen[id(content)] = content, content  # the first keeps it alive, and its id its own
    if isinstance(content, dict):
        for key in content:
            content[key] = _replace(content[key], seen, depth + 1)
    elif isinstance(content, list):
        content[:] = [_replace(item, seen, depth + 1) for item in content]
    elif type(content) is tuple:
        result = tuple(_replace(item, seen, depth + 1) for item in content)
    elif isinstance(content, _StandIn):
        try:
            result = content.value()
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f'odd {type(content).__name__.lstrip("_")}: {error}') from error
    elif isinstance(content, type):
        raise ValueError(f'the class {content.__name__}')
    seen[id(content)] = content, result
    return result


def _real(stand_in: Any, kind: type) -> Any:
    """Value of a stand-in that must be of a kind."""
    if type(stand_in) is not kind:
        raise ValueError(f'a {type(stand_in).__name__} in place of a {kind.__name__}')
    return stand_in.value()


def _bytes(content: Any) -> bytes:
    """Bytes as they are."""
    content = content.value() if isinstance(content, _NoBytes) else content
    if not isinstance(content, bytes):
        raise ValueError(f'a {type(content).__name__} in place of bytes')
    return content
