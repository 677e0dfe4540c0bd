# SPDX-License-Identifier: Apache-2.0
import os
import pickle
from collections import OrderedDict
from fractions import Fraction

import numpy as np
import pytest
import torch

from ovavss_mm.models.released.safe_pickle import UnsafePickleError, load_arrays


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'a.pkl'


def load(path, content, protocol=2):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return load_arrays(str(path))


# ------------------------------------------------------------------ what is read
@pytest.mark.parametrize('protocol', range(6))
def test_arrays_in_plain_containers_are_read_as_they_are(path, protocol):
    arrays = {
        'float': np.random.rand(2, 3).astype(np.float32),
        'fortran': np.asfortranarray(np.random.rand(3, 4)),
        'half': np.ones(3, np.float16),
        'int': np.arange(6).reshape(2, 3),
        'bool': np.array([True, False]),
        'big endian': np.arange(3, dtype='>f4'),
        'zero-dimensional': np.array(2.5),
        'empty': np.zeros((0, 4)),
    }
    content = {
        'model': OrderedDict(arrays),
        'odd': [1, 2.5, None, True, 'text', b'bytes', (1, {2: 3})],
        'number': np.float32(1.5),
    }
    got = load(path, content, protocol)
    assert got['odd'] == content['odd'] and got['number'] == 1.5
    assert isinstance(got['model'], OrderedDict)
    for key, array in arrays.items():
        native = array.dtype.newbyteorder('=')
        assert got['model'][key].dtype.newbyteorder('=') == native, key
        np.testing.assert_array_equal(got['model'][key], array)


def test_names_of_numpy_1_and_2_are_known(path):
    content = pickle.dumps(np.arange(3), 0)
    new, old = b'numpy._core', b'numpy.core'
    for core in (new, old):
        got = load(path, content.replace(new, old).replace(old, core))
        np.testing.assert_array_equal(got, np.arange(3))


# ------------------------------------------------------------------ what is refused
class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize('protocol', range(6))
def test_code_is_refused_by_name_and_not_run(path, tmp_path, protocol):
    content = {'model': {'a': np.ones(2)}, 'x': Call(os.mkdir, str(tmp_path / 'it ran'))}
    with pytest.raises(UnsafePickleError, match=r'a\.pkl: the pickle asks for \w+\.mkdir'):
        load(path, content, protocol)
    assert not (tmp_path / 'it ran').exists()


@pytest.mark.parametrize(
    'content',
    [
        Call(eval, '1'),
        Call(getattr, 'a', 'upper'),
        Call(np.load, 'a.npy'),
        Call(np.fromfile, 'a.npy'),
        Fraction(1, 2),
        torch.ones(2),
        np.random.RandomState(0),
        np.ma.ones(2),
        np.zeros(2).view(np.recarray),
        {'model': Exception},
    ],
    ids=lambda content: type(content).__name__,
)
def test_everything_else_is_refused_by_name(path, content):
    with pytest.raises(UnsafePickleError, match='the pickle asks for'):
        load(path, content)


@pytest.mark.parametrize('module', ['numpy.core.multiarray', 'numpy._core.multiarray'])
@pytest.mark.parametrize('name', ['fromfile', 'set_typeDict', '__import__', 'os.system'])
def test_only_the_listed_functions_of_numpy_are_known(path, module, name):
    with pytest.raises(UnsafePickleError, match=rf'asks for {module}\.{name}'):
        load(path, f'c{module}\n{name}\n.'.encode())


@pytest.mark.parametrize(
    'array',
    [
        np.array([{'a': 1}, None]),
        np.array(['text']),
        np.array(['2024-01-01'], 'datetime64[D]'),
        np.zeros(2, [('a', 'f4')]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_of_other_things_than_numbers_are_refused(path, array):
    with pytest.raises(UnsafePickleError, match='not of numbers|a number of type'):
        load(path, {'model': {'a': [array]}})


def test_classes_and_functions_themselves_are_refused(path):
    for content in (np.ndarray, OrderedDict, np.dtype('f4')):
        with pytest.raises(UnsafePickleError, match=r'has a \w+'):
            load(path, {'model': content})


def test_a_pickle_cannot_change_the_functions_that_it_gets(path):
    # BUILD sets attributes of whatever is on the stack; a function has attributes.
    poison = b'cnumpy.core.multiarray\n_reconstruct\n}S"__kwdefaults__"\nI1\nsb.'
    with pytest.raises(UnsafePickleError):
        load(path, poison)
    np.testing.assert_array_equal(load(path, np.arange(3)), np.arange(3))


def test_containers_may_hold_themselves_and_be_deep(path):
    content = {'a': np.ones(1)}
    content['self'] = content
    assert load(path, content)['self']['self']['a'] == 1
    got = load(path, b'(' * 3000 + b'l' * 3000 + b'.')
    depth = 0
    while got:
        got, depth = got[0], depth + 1
    assert depth == 2999


# ------------------------------------------------------------------ broken files
@pytest.mark.parametrize('content', [b'', b'text', b'\x80\x05', b'}.', b'\x80\x7f.'])
def test_broken_pickles_are_named(path, content):
    if content == b'}.':
        assert load(path, content) == {}
        return
    with pytest.raises(UnsafePickleError, match=r'a\.pkl is no readable pickle'):
        load(path, content)


def test_truncated_pickles_are_named(path):
    whole = pickle.dumps({'model': {'a': np.ones(1000)}}, 2)
    for end in (len(whole) // 2, len(whole) - 1):
        with pytest.raises(UnsafePickleError, match='or not complete'):
            load(path, whole[:end])


def test_missing_file_is_an_error():
    with pytest.raises(FileNotFoundError):
        load_arrays('gone.pkl')
