# SPDX-License-Identifier: Apache-2.0
"""Atomic writes, one holder of a lock at a time, leftovers, and the pointer to the last checkpoint."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import warnings

import pytest
import torch

from ovavss_mm.utils import files
from ovavss_mm.utils.files import (
    FolderLock,
    atomic_path,
    last_checkpoint,
    mend_last_checkpoint,
    part_path,
    remove_leftovers,
    write_atomic,
)

HOLD = """
import sys, time
from pathlib import Path
import ovavss_mm
from ovavss_mm.utils.files import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print('taken:', lock.take(), flush=True)
time.sleep(100)
"""


@pytest.fixture
def lock(tmp_path):
    """In a folder that is not there yet."""
    lock = FolderLock(tmp_path / 'work/.lock')
    yield lock
    lock.free()


def fail_with(monkeypatch, number: int) -> None:
    """Have the system refuse each lock."""

    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, 'flock', flock)


def test_one_holder_at_a_time(lock):
    other = FolderLock(lock.path)
    assert lock.take() and not other.take()
    assert other.holder() == f'process {os.getpid()}'
    lock.free()
    assert other.take() and not lock.take()
    other.free()
    other.free()


def test_who_holds_it_may_be_told_by_another_name(lock):
    assert lock.take()
    lock.sign(123)
    assert lock.holder() == 'process 123'
    lock.path.write_text('')
    assert lock.holder() == 'another process'


def test_that_of_a_killed_process_is_free(lock):
    run = [sys.executable, '-c', HOLD, str(lock.path)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stdout.readline, '')
            assert next(x for x in lines if x.startswith('taken:')) == 'taken: True\n'
            assert not lock.take() and lock.holder() == f'process {process.pid}'
        finally:
            process.send_signal(signal.SIGKILL)
    assert lock.take() and lock.holder() == f'process {os.getpid()}'


def test_a_process_that_shares_it_holds_it_on(lock):
    assert lock.take()
    run = [sys.executable, '-c', 'input()']
    with subprocess.Popen(run, stdin=subprocess.PIPE, pass_fds=lock.numbers()) as process:
        lock.free()
        assert not lock.take()
        process.communicate(b'\n')
    assert lock.take()


@pytest.mark.parametrize('number', [errno.EWOULDBLOCK, errno.EACCES], ids=errno.errorcode.get)
def test_a_refusal_means_that_another_holds_it(lock, monkeypatch, number):
    fail_with(monkeypatch, number)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert not lock.take()


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS], ids=str)
def test_without_locks_of_the_file_system_it_is_taken_with_a_warning(lock, monkeypatch, number):
    fail_with(monkeypatch, number)
    other = FolderLock(lock.path)
    for each in (lock, other):
        with pytest.warns(UserWarning, match=r'work/\.lock cannot be locked'):
            assert each.take()
    assert lock.holder() == f'process {os.getpid()}'
    other.free()


@pytest.mark.parametrize('number', [errno.EIO, errno.EINTR, errno.EBADF], ids=errno.errorcode.get)
def test_other_errors_are_raised_and_name_the_file(lock, monkeypatch, number):
    fail_with(monkeypatch, number)
    with pytest.raises(OSError, match=r'work/\.lock') as caught:
        lock.take()
    assert caught.value.errno == number
    monkeypatch.undo()
    assert lock.take(), 'nothing of the failed attempt is left'


def test_a_folder_is_locked_itself_in_turn(tmp_path):
    """Without a file in it; who waits goes on when the other is done."""
    order = []

    def second():
        with FolderLock(tmp_path):
            order.append('second')

    with FolderLock(tmp_path) as first:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        assert not FolderLock(tmp_path).take() and first.numbers()
        order.append('first')
    thread.join()
    assert order == ['first', 'second'] and not list(tmp_path.iterdir())


@pytest.mark.parametrize('sync', [False, True])
def test_a_file_appears_when_it_is_complete(tmp_path, sync):
    path = tmp_path / 'new' / 'file.txt'
    with atomic_path(path, sync) as beside:
        beside.write_text('one')
        assert not path.exists() and beside.suffix == '.txt'
    assert path.read_text() == 'one'
    write_atomic(path, b'two', sync)
    write_atomic(path.with_name('b'), 'ü', sync)
    assert path.read_bytes() == b'two' and path.with_name('b').read_text('utf-8') == 'ü'
    assert sorted(p.name for p in path.parent.iterdir()) == ['b', 'file.txt']


def test_an_error_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'file.txt'
    path.write_text('old')
    with pytest.raises(RuntimeError, match='stop'), atomic_path(path) as beside:
        beside.write_text('half')
        raise RuntimeError('stop')

    def full(number):
        raise OSError('disk full')

    monkeypatch.setattr(files.os, 'fsync', full)
    with pytest.raises(OSError, match='disk full'):
        write_atomic(path, 'new', sync=True)
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_written_as_a_file_is(tmp_path):
    with atomic_path(tmp_path / 'maps') as beside:
        beside.mkdir()
        (beside / '1.png').touch()
    with pytest.raises(KeyError), atomic_path(tmp_path / 'others') as beside:
        beside.mkdir()
        raise KeyError
    assert [path.name for path in tmp_path.rglob('*')] == ['maps', '1.png']


def test_leftovers(tmp_path):
    """By their exact form; of one file, those of this computer's ended processes only."""
    others = ('x.pth', '.x.part', '.x.12.part', '.lock', '.x.0a-12-0.part.pth')
    left = part_path(tmp_path / 'x.pth')
    ended = left.with_name(re.sub(r'-\d+-', f'-{2**22 + 1}-', left.name))
    elsewhere = left.with_name('.x.000000-4194305-0.part.pth')
    for path in (left, ended, elsewhere, *(tmp_path / name for name in others)):
        path.touch()
    assert remove_leftovers(tmp_path, of=tmp_path / 'y.pth') == []
    assert remove_leftovers(tmp_path, of=tmp_path / 'x.pth') == [ended]
    assert sorted(remove_leftovers(tmp_path)) == sorted([left, elsewhere])
    assert {path.name for path in tmp_path.iterdir()} == set(others)
    assert remove_leftovers(tmp_path / 'none') == []


def test_last_checkpoint(tmp_path):
    """A name is taken as it is, but for a file that was moved with its folder."""
    assert last_checkpoint(tmp_path) is None and mend_last_checkpoint(tmp_path) is None
    pointer = tmp_path / 'last_checkpoint'
    for name in ('/elsewhere/iter_9.pth', 'https://example.org/iter_9.pth'):
        pointer.write_text(f'{name}\n')
        assert last_checkpoint(tmp_path) == name
    (tmp_path / 'iter_9.pth').touch()
    assert last_checkpoint(tmp_path) == 'https://example.org/iter_9.pth'
    pointer.write_text('/elsewhere/iter_9.pth')
    assert last_checkpoint(tmp_path) == str(tmp_path / 'iter_9.pth')
    assert mend_last_checkpoint(tmp_path) == pointer.read_text() == str(tmp_path / 'iter_9.pth')
    pointer.write_text(' ')
    with pytest.raises(ValueError, match='last_checkpoint is empty: write'):
        last_checkpoint(tmp_path)


def test_a_pointer_to_nothing_is_mended(tmp_path):
    """The newest complete checkpoint takes the place; without any, the pointer goes."""
    pointer, half = tmp_path / 'last_checkpoint', tmp_path / 'iter_3.pth'
    for number in (1, 2):
        torch.save({}, tmp_path / f'iter_{number}.pth')
        os.utime(tmp_path / f'iter_{number}.pth', (number, number))
    half.write_bytes(b'PK')
    pointer.write_text(str(tmp_path / 'iter_9.pth'))
    assert mend_last_checkpoint(tmp_path) == pointer.read_text() == str(tmp_path / 'iter_2.pth')
    for number in (1, 2):
        (tmp_path / f'iter_{number}.pth').unlink()
    assert mend_last_checkpoint(tmp_path) is None and not pointer.exists()
