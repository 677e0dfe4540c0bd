# SPDX-License-Identifier: Apache-2.0
"""The HTTP interface: plain clients ask a server that really runs, with a tiny model."""

import http.client
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from video_files import numbered, write_mp4
from web.limits import MEGABYTE, Limits
from web_site import PATIENCE, files, wait_for, waiting

pytest.importorskip('gradio', reason='not installed: gradio')
requests = pytest.importorskip('requests', reason='not installed: requests')
schemathesis = pytest.importorskip('schemathesis', reason='not installed: schemathesis')
from hypothesis import HealthCheck, given, settings  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.specs.openapi import checks  # noqa: E402
from web import api  # noqa: E402

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
DOC = Path(__file__).parents[3] / 'docs/serving.md'


# ------------------------------------------------------------------ answers
def test_label_fetch_and_delete(site, post):
    answer = post(names=['dog, <b>/../x', 'cat'], fps=2, opacity=0.5)
    assert answer.status_code == 200, answer.text
    document = requests.get(f'{site.address}/openapi.json').json()
    schemathesis.openapi.from_dict(document)['/label']['POST'].Case().validate_response(answer)
    content = answer.json()
    timeline = content['timeline']
    assert timeline['vocabulary'] == ['dog', '<b>/../x', 'cat'] and timeline['video'] == 'my clip.mp4'
    assert len(timeline['frames']) == timeline['num_frames'] == 8 and timeline['duration'] == pytest.approx(4, abs=0.1)
    assert str(site.runner.root) not in answer.text

    got = {kind: requests.get(site.address + path) for kind, path in content['files'].items()}
    assert {file.status_code for file in got.values()} == {200} and got['timeline'].json() == timeline
    assert 'my%20clip_labelled.mp4' in got['video'].headers['content-disposition']
    with av.open(io.BytesIO(got['video'].content)) as video:
        assert video.streams.audio and video.streams.video[0].frames == 40
    with zipfile.ZipFile(io.BytesIO(got['labels'].content)) as labels:
        assert sorted(labels.namelist()) == [f'{i * 500:09d}.png' for i in range(8)]
        maps = [np.asarray(Image.open(labels.open(name))) for name in sorted(labels.namelist())]
    for frame, label_map in zip(timeline['frames'], maps, strict=True):
        assert label_map.shape == tuple(timeline['size'])
        for i, name in enumerate(timeline['vocabulary'], 1):
            assert np.mean(label_map == i) == pytest.approx(frame['names'].get(name, dict(area=0))['area'], abs=1e-5)
    assert len(files(site)) == 3  # the upload is gone

    result = f'{site.post[:-5]}results/{content["id"]}'
    assert requests.delete(result).status_code == 204
    for path in content['files'].values():
        assert requests.get(site.address + path).status_code == 404
    assert requests.delete(result).status_code == 404
    wait_for(lambda: not files(site))


def test_a_result_has_three_files_and_no_others(site, post):
    content = post().json()
    for path in (
        'x',
        'my%20clip_labelled.mp4',
        '..%2F..%2Fetc%2Fpasswd',
        '../x/labelled.mp4',
        '%2e%2e/%2e%2e/labelled.mp4',
    ):
        connection = http.client.HTTPConnection(site.address[7:])  # sends paths as they are
        connection.request('GET', f'/api/results/{content["id"]}/{path}')
        answer = connection.getresponse()
        assert answer.status == 404 and list(json.load(answer)) == ['error']


def test_results_go_after_a_while_and_the_oldest_of_many(site, post, monkeypatch):
    monkeypatch.setattr(api, 'KEEP_RESULTS', 1)
    first, second = post().json(), post().json()
    assert requests.get(site.address + first['files']['video']).status_code == 404
    assert requests.get(site.address + second['files']['video']).status_code == 200
    wait_for(lambda: len(files(site)) == 3)
    monkeypatch.setattr(api, 'KEEP_SECONDS', 0.1)
    third = post().json()
    wait_for(lambda: requests.get(site.address + third['files']['video']).status_code == 404)
    wait_for(lambda: not files(site))


# ------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(video=None), 'video: send the file as multipart/form-data'),
        (dict(video=('', b'')), 'video: send the file as multipart/form-data'),
        (dict(names=None), 'names: Field required'),
        (dict(names=' , '), 'Give at least one name'),
        (dict(names=['x', 'X']), 'given twice'),
        (dict(names=','.join(map(str, range(201)))), '201 names are given, the server takes 200 at most'),
        (dict(names='x' * 101), 'A name may have up to 100 letters'),
        (dict(fps=5), "fps: Input should be less than or equal to 4, got '5'"),
        (dict(opacity='nan'), 'opacity: Input should be '),
        (dict(fsp=2), "unknown field 'fsp'; there are video, names, fps, opacity"),
        (dict(video=('a/../b.mp4', b'no video')), 'a_.._b.mp4 cannot be read as a video'),
    ],
    ids=['no-video', 'empty', 'no-names', 'blank', 'twice', 'many', 'long', 'fps', 'opacity', 'unknown', 'text'],
)
def test_what_is_wrong_is_said(site, post, kwargs, message):
    answer = post(**kwargs)
    assert answer.status_code == 422 and list(answer.json()) == ['error'] and message in answer.json()['error']
    assert str(site.runner.root) not in answer.text and files(site) == []


def test_over_the_limits(site, post, tmp_path, monkeypatch):
    """Too long, and frames of too many pixels."""
    long = write_mp4(tmp_path / 'long.mp4', numbered(30), 1.0)
    answer = post(('long.mp4', long.read_bytes()))
    assert answer.status_code == 422 and 'long.mp4 is 29 s long, the server takes 8 s' in answer.json()['error']
    monkeypatch.setattr('web.limits.MAX_MEGAPIXELS', 0.001)
    assert 'frames of 48 x 32 pixels' in post().json()['error'] and files(site) == []


def test_files_that_are_too_large(site, post):
    """By what they say, by what comes, and the little that may be other fields."""
    answer = post(('a.mp4', bytes(3 * MEGABYTE)))
    assert answer.status_code == 413 and 'takes 1 MB at most' in answer.json()['error']

    head = b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
    endless = iter([head, *[bytes(MEGABYTE)] * 30])  # never ends as a form does
    kind = {'Content-Type': 'multipart/form-data; boundary=x'}
    answer = requests.post(site.post, endless, headers=kind, timeout=PATIENCE)
    assert answer.status_code == 413 and 'takes 1 MB at most' in answer.json()['error']

    answer = post(('a.mp4', bytes(MEGABYTE + 60000)))
    assert answer.status_code == 413 and 'a.mp4 has 1.1 MB, the server takes 1 MB' in answer.json()['error']
    assert files(site) == []


def test_other_web_sites_are_refused(site, clip):
    """A form of another site (CSRF), and a site whose name was turned to this computer (DNS rebinding)."""
    port = site.address.rsplit(':', 1)[1]
    form = dict(files=dict(video=clip), data=dict(names='dog'))
    for headers, status in (
        ({'Origin': 'http://other.example'}, 403),
        ({'Origin': 'null'}, 403),
        ({'Origin': f'http://127.0.0.1:{int(port) + 1}'}, 403),
        ({'Origin': 'http://[', 'Host': '['}, 403),
        ({'Host': f'other.example:{port}'}, 403),
        ({'Host': f'other.example:{port}', 'Origin': f'http://other.example:{port}'}, 403),
        ({'Origin': f'http://localhost:{port}', 'Host': f'localhost:{port}'}, 422),
        ({'Origin': 'https://own.example', 'X-Forwarded-Host': 'own.example'}, 422),
    ):
        data = form if status == 403 else {}
        answer = requests.post(site.post, headers=headers, **data)
        assert answer.status_code == status and list(answer.json()) == ['error'], headers
    answer = requests.get(site.address, headers={'Host': 'other.example'})  # the page, too
    assert answer.status_code == 403
    ask = {'Origin': 'http://other.example', 'Access-Control-Request-Method': 'DELETE'}
    assert 'Access-Control-Allow-Origin' not in requests.options(site.post, headers=ask).headers


def test_nothing_is_loaded_from_elsewhere(site):
    assert requests.get(f'{site.address}/docs').status_code == 404
    assert requests.get(f'{site.address}/api/docs').status_code == 404
    assert 'over HTTP](openapi.json)' in requests.get(f'{site.address}/config').text


# ------------------------------------------------------------------ the queue
@contextmanager
def page_job(site, clip, session):
    """What the page's script does when its button is pressed: gives the events of the job, a line each."""
    base = f'{site.address}/gradio_api'
    (path,) = requests.post(f'{base}/upload', files=dict(files=clip)).json()
    jobs = [d['id'] for d in requests.get(f'{site.address}/config').json()['dependencies'] if len(d['inputs']) == 4]
    video = dict(path=path, meta=dict(_type='gradio.FileData'))
    body = dict(data=[video, 'dog', 1, 0.6], fn_index=jobs[0], session_hash=session)
    assert requests.post(f'{base}/queue/join', json=body).status_code == 200
    with requests.get(f'{base}/queue/data', dict(session_hash=session), stream=True, timeout=PATIENCE) as events:
        yield (line for line in events.iter_lines(decode_unicode=True) if line)
    site.runner.hold_upload(session, path)  # as when a video is shown, then the tab closed
    site.runner.close(session)


def until(events, words):
    """Read events up to one with these words."""
    assert any(words in line for line in events), words


def test_page_and_http_share_the_queue(site, clip, post, later, busy):
    """Each waits for the other and is refused if it is full; never do two run."""
    with busy():
        first = later()
        wait_for(lambda: waiting(site) == 1)
        with page_job(site, clip, 'refused') as events:
            until(events, '1 video wait already: try again later.')
    assert first.result().status_code == 200

    with busy():
        with page_job(site, clip, 'waits') as events:
            until(events, 'Waiting: 1 video before this one')
            answer = post()
            assert answer.status_code == 503 and int(answer.headers['Retry-After']) > 0
            assert answer.json()['error'] == '1 video wait already: try again later.'
            site.runner.session('waits').token.set()  # at once, though another one still runs
            until(events, 'Cancelled.')


def test_one_job_at_a_time(site, clip, later, monkeypatch):
    running, most, stream = [], [], site.runner.inferencer.stream

    def counted(*args):
        running.append(1)
        for frame in stream(*args):
            most.append(len(running))
            yield frame
        running.pop()

    monkeypatch.setattr(site.runner.inferencer, 'stream', counted)
    answer = later(fps=4)
    wait_for(lambda: most)
    with page_job(site, clip, 'page') as events:
        until(events, '4 s, 1 name')
    assert answer.result().status_code == 200 and len(most) == 16 + 4 and set(most) == {1}


def test_uploads_are_limited_in_number(site, post):
    """Those that are still being read, too."""
    head = f'POST /api/label HTTP/1.1\r\nHost: {site.address[7:]}\r\nContent-Length: 1000\r\n'
    head += 'Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n'
    host, port = site.address[7:].split(':')
    slow = [socket.create_connection((host, int(port))) for _ in range(2)]
    for connection in slow:
        connection.sendall(head.encode())
    wait_for(lambda: post(video=None).status_code == 503)
    for connection in slow:
        connection.close()
    wait_for(lambda: post(video=None).status_code == 422)
    assert files(site) == []


# ------------------------------------------------------------------ clients that leave
@contextmanager
def leaving(site, clip):
    """Send a video and close the connection at the end of the block, without reading the answer."""
    request = requests.Request('POST', site.post, files=dict(video=clip), data=dict(names='dog', fps=4)).prepare()
    connection = http.client.HTTPConnection(site.address[7:])
    connection.request('POST', '/api/label', request.body, dict(request.headers))
    yield
    connection.close()


def test_a_client_that_leaves_while_it_waits(site, clip, busy):
    with busy():
        with leaving(site, clip):
            wait_for(lambda: waiting(site) == 1)
        wait_for(lambda: waiting(site) == 0 and not files(site))


def test_a_client_that_leaves_while_its_job_runs(site, clip, monkeypatch):
    """The job is stopped at its next frame."""
    seen, left, check = [], threading.Event(), Limits.check_seconds

    def check_and_hold(limits, seconds, name, **kwargs):
        if kwargs.get('seen'):
            seen.append(seconds)
            left.wait(PATIENCE)
        check(limits, seconds, name, **kwargs)

    monkeypatch.setattr(Limits, 'check_seconds', check_and_hold)
    with leaving(site, clip):
        wait_for(lambda: seen)
        (token,) = [session.token for session in site.runner._sessions.values() if session.folder is not None]
    assert token.wait(PATIENCE)
    left.set()
    wait_for(lambda: not site.runner.line._jobs and not files(site))
    assert seen == [0.25]


# ------------------------------------------------------------------ its description
BLOCKS = re.findall(r'```(bash|python)\n(.*?)```', DOC.read_text(encoding='utf-8'), re.DOTALL)


@pytest.mark.parametrize('language, code', BLOCKS, ids=[language for language, _ in BLOCKS])
def test_examples_of_the_documentation(site, post, clip, tmp_path, language, code):
    (tmp_path / 'clip.mp4').write_bytes(clip[1])
    command = [sys.executable, '-c'] if language == 'python' else ['bash', '-ec']
    if shutil.which(command[0]) is None or language == 'bash' and shutil.which('curl') is None:
        pytest.skip('not installed: bash or curl')
    code = code.replace('http://127.0.0.1:7860', site.address)
    environ = dict(os.environ, PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    done = subprocess.run([*command, code], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0 and 'dog' in done.stdout, done.stderr
    with av.open(str(tmp_path / 'labelled.mp4')) as video:
        assert video.streams.video[0].frames == 40
    wait_for(lambda: not files(site))


@pytest.fixture(scope='module')
def schema(site):
    """What the server says of itself."""
    return schemathesis.openapi.from_url(f'{site.address}/openapi.json')


# Ids are nobody's, and names may be blank: what fits the schema may be refused all the same.
EXCLUDED = [checks.positive_data_acceptance]


def check_answers(strategy, most, excluded=EXCLUDED, **fields):
    """Ask what a strategy thinks of; answers are as described, whatever they say."""

    @settings(max_examples=most, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def check(case):
        if fields:
            case.body = dict(case.body, **fields)
        case.call_and_validate(excluded_checks=excluded, timeout=PATIENCE)

    check()


@pytest.mark.parametrize('mode', ['positive', 'negative'])
def test_answers_are_as_described(schema, mode):
    check_answers(schema.as_strategy(GenerationMode(mode)), 40)


def test_answers_to_videos_are_as_described(schema, site, clip):
    excluded = [checks.negative_data_rejection]  # takes a body of bytes for a wrong one
    check_answers(schema['/label']['POST'].as_strategy(), 10, excluded, video=clip[1], names=['dog'])
