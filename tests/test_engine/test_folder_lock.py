# SPDX-License-Identifier: Apache-2.0
"""One holder at a time, however the last one ended; file systems that cannot lock are named."""

import errno
import os
import signal
import subprocess
import sys
import warnings

import pytest

from ovavss_mm.engine import folder_lock
from ovavss_mm.engine.folder_lock import FolderLock

HOLD = """
import sys, time
from pathlib import Path
import ovavss_mm
from ovavss_mm.engine.folder_lock import FolderLock
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

    monkeypatch.setattr(folder_lock.fcntl, 'flock', flock)


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


@pytest.mark.parametrize(
    'number', [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS], ids=str
)
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
