# SPDX-License-Identifier: Apache-2.0
"""A server that really runs, with a tiny model: fixtures and helpers for the tests that ask it."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from video_files import clicks, numbered, write_mp4
from web.limits import Limits
from web.runner import CancelToken, DemoRunner

PATIENCE = 30  # s


def wait_for(what):
    """Ask until there is an answer."""
    end = time.monotonic() + PATIENCE
    while not (answer := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return answer


def send(site, video=None, **fields):
    """Send a form: gives the answer."""
    import requests

    files = {} if video is None else dict(video=video)
    return requests.post(site.post, files=files, data=fields, timeout=PATIENCE)


@pytest.fixture(scope='session')
def clip(tmp_path_factory):
    """A video of 4 s, 48 x 32 pixels, as a file of a form."""
    path = write_mp4(tmp_path_factory.mktemp('clip') / 'x.mp4', numbered(40), sound=clicks(4, [1.0]))
    return 'my clip.mp4', path.read_bytes()


@pytest.fixture(scope='module')
def site(inferencer, clip):
    """The server: its ``address`` and ``runner``; one job may wait. One that waits when it ends is stopped."""
    from web import api, server

    kept = SimpleNamespace()

    class Runner(DemoRunner):
        def __init__(self, *args):
            super().__init__(*args)
            kept.runner = self

    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as threads:
        patch.setattr(api, 'GRACE_SECONDS', 0.1)
        for name in ('GRADIO_TEMP_DIR', 'GRADIO_ANALYTICS_ENABLED', 'HF_HUB_DISABLE_TELEMETRY'):
            patch.setenv(name, '')  # so that it is as before afterwards
        patch.setattr(server, 'DemoRunner', Runner)
        with server.serving(inferencer, Limits(megabytes=1, seconds=8), port=port, queue=1):
            kept.address, kept.post = f'http://127.0.0.1:{port}', f'http://127.0.0.1:{port}/api/label'
            yield kept
            with kept.runner.line.turn(CancelToken()):
                last = threads.submit(send, kept, clip, names='dog')
                wait_for(lambda: waiting(kept))
                kept.runner.stop()
                assert last.result().status_code == 503 and 'the server ends' in last.result().json()['error']
        assert not kept.runner.root.exists()


@pytest.fixture
def post(site, clip):
    """Label a video: gives the answer."""

    def post(video=clip, names='dog, cat', **fields):
        answer = send(site, video, names=names, **fields)
        kept.append(answer.json().get('id'))
        return answer

    import requests

    kept = []
    yield post
    for job in filter(None, kept):
        requests.delete(f'{site.address}/api/results/{job}')
    if any(kept):
        wait_for(lambda: not files(site))


@pytest.fixture
def later(post):
    """Label a video in another thread: gives a future."""
    with ThreadPoolExecutor() as threads:
        yield lambda *args, **kwargs: threads.submit(post, *args, **kwargs)


@pytest.fixture
def busy(site):
    """A job runs as long as this block."""
    return lambda: site.runner.line.turn(CancelToken())


def waiting(site):
    """How many jobs wait."""
    return len(site.runner.line._jobs) - 1


def files(site):
    """All that the server has on the disk."""
    return [path for path in site.runner.root.rglob('*') if path.is_file()]
