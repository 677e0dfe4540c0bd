# SPDX-License-Identifier: Apache-2.0
"""Videos and names that mean harm: nothing is written outside, run, or waited for without a bound."""

import contextlib
import json
import multiprocessing
import os
import struct
import wave

import av
import fuzz_videos
import numpy as np
import pytest
import torch
from PIL import Image
from video_files import clicks, numbered, write_mp4

from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.loading import read_checkpoint
from ovavss_mm.apis.video import media
from ovavss_mm.apis.video.base import frames_at
from ovavss_mm.apis.video.listing import output_names, safe_name
from ovavss_mm.apis.video.outputs import Outputs
from ovavss_mm.apis.video.sources import open_source
from ovavss_mm.apis.video.video_source import VideoSource
from ovavss_mm.datasets.vocabulary import resolve_templates

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp('video') / 'clip.mp4'
    return write_mp4(path, numbered(20), sound=clicks(2, [1.0]))


# ------------------------------------------------------------------ bombs
def box(content: bytes, kind: bytes) -> int:
    """Where the content of the first box of a kind begins."""
    return content.index(kind) + 4


def test_a_table_of_a_thousand_million_frames_is_refused(video, tmp_path):
    content = bytearray(video.read_bytes())
    at = box(content, b'stsz')
    content[at + 4 : at + 12] = struct.pack('>II', 1, 10**9)  # a byte each
    (tmp_path / 'a.mp4').write_bytes(content)
    with pytest.raises(ValueError, match=r'a\.mp4 announces 1,000,000,000 samples in'):
        VideoSource(str(tmp_path / 'a.mp4'))


def test_frames_that_are_huge_or_thin_are_refused():
    for size in ((16384, 16384), (0, 10), (10_001, 100)):
        with pytest.raises(ValueError, match=r'x has frames of \d+ x \d+ pixels'):
            media.check_picture('x', *size)
    media.check_picture('x', 2000, 30)
    media.check_picture('x', 8192, 8192)


def test_a_huge_frame_in_a_folder_of_pictures_is_refused(tmp_path):
    Image.new('1', (16384, 8192)).save(tmp_path / '0.png')
    with pytest.raises(OSError, match=r'0\.png: it has 16384 x 8192 pixels'):
        open_source(str(tmp_path))


def test_a_clock_that_jumps_by_years_ends_the_video(tmp_path):
    """Else each second between two frames would be labelled."""
    path = write_mp4(tmp_path / 'a.mp4', numbered(3), [0.0, 1.0, 1e4])
    source = VideoSource(str(path))
    assert [time for time, _ in frames_at(source, 1)][:2] == [0, 1]
    assert sum(1 for _ in frames_at(source, 1)) <= media.MAX_STILL + 3
    assert 'restarts or jumps' in source.notes[0]


def test_a_sound_of_many_hertz_is_refused(tmp_path):
    with wave.open(str(tmp_path / 'a.wav'), 'wb') as file:
        file.setparams((1, 2, 10**9, 0, 'NONE', ''))
        file.writeframes(b'\0' * 1000)
    with pytest.raises(ValueError, match='1 channels of 1000000000 Hz'):
        open_source(dict(frames=np.zeros((1, 8, 8, 3), np.uint8), sound=str(tmp_path / 'a.wav')))


def test_playlists_are_not_followed(video, tmp_path):
    for name, text in (
        ('a.mp4', f'ffconcat version 1.0\nfile {video}\n'),
        ('b.mp4', f'#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{video}\n#EXT-X-ENDLIST\n'),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match='cannot be read as a video'):
            VideoSource(str(tmp_path / name))


# ------------------------------------------------------------------ names
@pytest.mark.parametrize(
    'text',
    ['..', '.', '', '../../x', '/etc/passwd', 'a\nb', 'a\0b', 'C:\\x', '\ud800', 'é' * 300, '.x', ' '],
    ids=lambda text: ascii(text)[:20],
)
def test_names_of_outputs_stay_in_their_folder(text, tmp_path):
    name = safe_name(text)
    for path in (tmp_path / 'pred' / name, tmp_path / 'pred' / f'{name}.json'):
        assert os.path.normpath(path).startswith(f'{tmp_path}/pred/')
        path.parent.mkdir(exist_ok=True)
        path.write_text('x')
    assert name.isprintable() and len(name.encode()) <= 120 and name[0] != '.'


def test_usual_names_are_kept():
    for name in ('clip', 'my clip (1)', 'ünïcödé 🎸', 'a.b', '-x', 'v1s_abc'):
        assert safe_name(name) == name


def test_no_two_outputs_have_one_name():
    items = ['a/x.mp4', 'a/X.mp4', 'b/x.mp4', 'b/x.avi', dict(frames=[], name='../x'), 'c/a_x.mp4']
    items += [dict(frames=[], name='n')] * 3 + ['x' * 300 + '.mp4', 'x' * 301 + '.mp4']
    names = output_names(items)
    assert len({name.casefold() for name in names}) == len(items)
    assert all('/' not in name for name in names)


@pytest.mark.parametrize('name', ['..', '../out', '/tmp/x', 'a\nb', '{0.__class__}', 'x' * 400])
def test_names_of_inputs(inferencer, name, tmp_path):
    item = dict(frames=np.zeros((2, 40, 56, 3), np.uint8), name=name)
    before = set(tmp_path.parent.iterdir())
    inferencer(item, ['dog'], out_dir=str(tmp_path / 'out'))
    assert set(tmp_path.parent.iterdir()) == before
    assert {p.name for p in tmp_path.iterdir()} == {'out'}
    assert {p.name for p in (tmp_path / 'out').iterdir()} == {'vis', 'pred'}
    (path,) = (tmp_path / 'out/pred').glob('*.json')
    json.loads(path.read_text())


CLASSES = ['../../x', '/etc/passwd', '{0.__class__}', '{}', '%s', '🎸🎻', '\u202edog', '<b>"\'&', 'a\\b']


def test_odd_classes(inferencer, video, tmp_path):
    inferencer(str(video), CLASSES, out_dir=str(tmp_path / 'out'))
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*') if p.is_file()}
    pngs = {f'out/pred/clip/{t:06d}000.png' for t in range(2)}
    assert files == {'out/vis/clip.mp4', 'out/pred/clip.json', *pngs}
    content = json.loads((tmp_path / 'out/pred/clip.json').read_text())
    assert content['vocabulary'] == CLASSES


@pytest.mark.parametrize('name', ['a\nb', 'a\0', '\x1b[2J', '\ud800', 'a\u2028b', 'x' * 2**20])
def test_classes_that_are_no_line_are_refused(inferencer, video, name, tmp_path):
    for names, synonyms in (([name], None), (['dog'], {'dog': [name]})):
        with pytest.raises(ValueError, match=' name 0 ') as error:
            inferencer(str(video), names, synonyms=synonyms, out_dir=str(tmp_path / 'out'))
        assert len(str(error.value)) < 1000
    assert not list(tmp_path.iterdir())


def test_a_hundred_thousand_names_are_refused(inferencer, video):
    with pytest.raises(ValueError, match='1 to 32766 names, got 100000'):
        inferencer(str(video), [f'n{i}' for i in range(10**5)])


@pytest.mark.parametrize(
    'template',
    ['{} {}', '{0.__class__} {}', '{x} {}', '{:>999999999}{}', '{{}}', '{', 'x' * 2**20 + '{}', 'a\0{}'],
    ids=range(8),
)
def test_templates_are_no_programs(template):
    with pytest.raises(ValueError, match='templates must be') as error:
        resolve_templates([template])
    assert len(str(error.value)) < 500


# ------------------------------------------------------------------ checkpoints
class Run:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_weights_without_a_config_run_nothing(tmp_path):
    """The host would take the config, which is Python code, out of the checkpoint."""
    code = f'import os\nos.mkdir({str(tmp_path / "ran")!r})\nmodel = dict()\n'
    hub = dict(runtime_info=dict(cfg=code))
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict={}, message_hub=hub, meta=dict(cfg=code)), path)
    for model in (None, str(path)):
        with pytest.raises((ValueError, OSError)):
            AVSegInferencer(model, str(path), device='cpu')
    torch.save(dict(state_dict={'a': Run(tmp_path / 'ran')}), path)
    with pytest.raises(ValueError, match='was not read'):
        AVSegInferencer(None, str(path), device='cpu')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    'content',
    [
        struct.pack('<Q', 2**63),
        struct.pack('<Q', 90_000_000) + b'{}',
        struct.pack('<Q', 2) + b'{}' + b'x',
        struct.pack('<Q', 4000) + b'[' * 4000,
        b'',
    ],
    ids=range(5),
)
def test_headers_of_safetensors_that_lie(content, tmp_path):
    path = tmp_path / 'a.safetensors'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'a\.safetensors cannot be read as a checkpoint'):
        read_checkpoint(str(path))


@pytest.mark.parametrize(
    'content',
    [dict(state_dict=[1]), dict(state_dict={'a': 1}), dict(state_dict={1: torch.ones(1)})]
    + [dict(state_dict={}, meta=[1])],
    ids=range(4),
)
def test_checkpoints_of_other_things_than_weights(content, tmp_path):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'a\.pth'):
        read_checkpoint(str(tmp_path / 'a.pth'))


# ------------------------------------------------------------------ two at once, and killed
def write_files(out, mark, rounds):
    """Write three outputs again and again."""
    for _ in range(rounds):
        with Outputs() as outputs:
            paths = (outputs.add(out / name) for name in ('vis/a.mp4', 'pred/a', 'pred/a.json'))
            video, labels, text = paths
            video.write_text(mark * 5000)
            labels.mkdir()
            for i in range(5):
                (labels / f'{i}.png').write_text(mark * 500)
            text.write_text(mark * 5000)


def start(function, *args):
    """Start a process; what is imported here is there at once."""
    process = multiprocessing.get_context('fork').Process(target=function, args=args)
    process.start()
    return process


def end(process):
    """Exit status of a process, that must end."""
    process.join(60)
    return process.exitcode


def test_two_processes_do_not_mix_files(tmp_path):
    processes = [start(write_files, tmp_path, mark, 60) for mark in 'ab']
    assert [end(process) for process in processes] == [0, 0]
    files = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert len(files) == 7 and {len(p.read_text()) for p in files} == {500, 5000}
    assert len({p.read_text()[0] for p in files}) == 1
    assert len({letter for p in files for letter in p.read_text()}) == 1


def test_what_a_killed_process_left_is_removed(tmp_path):
    process = start(write_files, tmp_path, 'a', 10**6)
    while not list(tmp_path.glob('pred/.a.*.part')):
        assert process.is_alive()
    process.kill()
    process.join()
    mine = tmp_path / 'pred/.a.json.of-mine'
    mine.write_text('x')
    assert end(start(write_files, tmp_path, 'b', 1)) == 0
    assert {p.name for p in tmp_path.glob('*/*')} == {'a.mp4', 'a', 'a.json', mine.name}
    files = [p for p in tmp_path.rglob('*') if p.is_file() and p != mine]
    assert {letter for p in files for letter in p.read_text()} == {'b'}


def test_the_last_output_is_gone_before_the_others_change(tmp_path, monkeypatch):
    """Else one of a run before would stand beside others of this one after a crash."""

    def write(content):
        with Outputs() as outputs:
            for name in ('a', 'b'):
                outputs.add(tmp_path / name).write_text(content)

    write('old')
    real = os.replace

    def replace(beside, path):
        if path.name == 'b':
            raise OSError('the disk is full')
        real(beside, path)

    monkeypatch.setattr(os, 'replace', replace)
    with pytest.raises(OSError, match='full'):
        write('new')
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {'a': 'new'}


# ------------------------------------------------------------------ mutated videos
def run_batch(path):
    """Read mutated files, and write what was found."""
    with open(path, 'w') as file, contextlib.redirect_stdout(file):
        fuzz_videos.batch(fuzz_videos.parse_args(['--first', '0', '--batch', '60']))


def test_mutated_videos(tmp_path):
    """In a process of their own: a crash of the decoder is one of that process."""
    assert end(start(run_batch, tmp_path / 'out.txt')) == 0
    text = (tmp_path / 'out.txt').read_text()
    assert 'RESULTS' in text and 'FINDING' not in text, text


def test_ffmpeg_errors_are_value_errors(inferencer, video, monkeypatch, tmp_path):
    from ovavss_mm.apis.video.overlay import OverlayVideo

    def fail(*args):
        raise av.error.UnknownError(1, 'some error')

    monkeypatch.setattr(OverlayVideo, 'write', fail)
    with pytest.raises(ValueError, match='clip cannot be labelled'):
        inferencer(str(video), ['dog'], out_dir=str(tmp_path))
    assert not [p for p in tmp_path.rglob('*') if p.is_file()]
