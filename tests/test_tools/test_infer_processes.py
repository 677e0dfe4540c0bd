# SPDX-License-Identifier: Apache-2.0
"""``tools/infer.py`` killed at any moment, and two of it at once."""

import hashlib
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from ovavss_mm.mini_world.video import video_scenes, write_video

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / 'ovavss_mm/mini_world/ovavss_mini_hearing.safetensors'
NAMES = ('red-star', 'blue-disc', 'green-square')
PATIENCE = 120  # s
START = multiprocessing.get_context('forkserver')
START.set_forkserver_preload(['ovavss_mm.apis'])  # each process would take seconds for it


# ------------------------------------------------------------------ processes
def run_tool(videos: list[Path], out: Path, log: Path, spoil: Any = None, *args: Any) -> None:
    """The tool with its arguments, as a process does it; ``spoil(*args)`` may change something before."""
    import torch

    torch.set_num_threads(1)
    if spoil is not None:
        spoil(*args)
    sys.argv = ['tools/infer.py', *map(str, videos), '--classes', *NAMES, '--model', 'ovavss_mini_hearing']
    sys.argv += ['--weights', str(WEIGHTS), '--device', 'cpu', '--fps', '2', '--out-dir', str(out)]
    with log.open('w') as file, redirect_stdout(file), redirect_stderr(file):
        runpy.run_path(str(ROOT / 'tools/infer.py'), run_name='__main__')


def start(*args: Any) -> Any:
    """Start it."""
    process = START.Process(target=run_tool, args=args)
    process.start()
    return process


def end_of(process: Any) -> int:
    """Wait for the end of a process; its exit code."""
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        pytest.fail(f'no end after {PATIENCE} s')
    return process.exitcode


def kill_at(moment: str, number: int) -> None:
    """Have this process killed right before the ``number``-th time that something is done."""
    from ovavss_mm.apis.video import outputs, overlay

    where = dict(
        frame=(overlay.OverlayVideo, 'write'),
        picture=(Image.Image, 'save'),
        record=(outputs.TimelineFile, 'write'),
        opened=(outputs.Outputs, 'add'),
        closing=(overlay.OverlayVideo, 'close'),
        name=(os, 'replace'),
        move=(os, 'rename'),
        removal=(outputs, 'remove_path'),
    )
    owner, name = where[moment]
    done, count = getattr(owner, name), iter(range(1, 10**6))

    def killed(*args: Any, **kwargs: Any) -> Any:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return done(*args, **kwargs)

    setattr(owner, name, killed)


def meet(barrier: Any) -> None:
    """Have two processes begin to give names at the same time, slowly."""
    from ovavss_mm.apis.video import outputs

    finish, replace = outputs.TimelineFile.finish, os.replace

    def finish_together(self: Any, footer: dict) -> None:
        finish(self, footer)
        barrier.wait(PATIENCE)

    def replace_slowly(*args: Any) -> None:
        replace(*args)
        time.sleep(0.1)

    outputs.TimelineFile.finish = finish_together
    os.replace = replace_slowly


# ------------------------------------------------------------------ what they leave
def content_of(path: Path) -> str:
    """A digest of what a file holds, decoded."""
    digest = hashlib.sha256()
    if path.suffix == '.json':
        digest.update(repr(json.loads(path.read_text(encoding='utf-8'))).encode())
    elif path.suffix == '.png':
        with Image.open(path) as image:
            digest.update(repr((image.size, image.getpalette())).encode() + image.tobytes())
    else:
        for kind in ('video', 'audio'):
            with av.open(str(path)) as file:
                frames = list(file.decode(**{kind: 0}))
            assert frames, f'{path}: no {kind}'
            for frame in frames:
                digest.update(repr(frame.pts).encode() + frame.to_ndarray().tobytes())
    return digest.hexdigest()


def content(folder: Path) -> dict[str, str]:
    """All files of videos under final names, decoded."""
    files = [path for path in sorted(folder.rglob('*')) if path.is_file() and path.parent != folder]
    files = [path.relative_to(folder) for path in files]
    shown = [path for path in files if not any(part.startswith('.') for part in path.parts)]
    return {str(path): content_of(folder / path) for path in shown}


def stem_of(name: str) -> str:
    """The name of the video whose output a file is."""
    return name.split('/')[1].split('.')[0]


def hidden(folder: Path) -> list[Path]:
    """What lies under names that are not final."""
    return [path for path in folder.rglob('*') if path.name.startswith('.')]


@pytest.fixture(scope='module')
def videos(tmp_path_factory) -> list[Path]:
    """Three clips of the mini world; the last has the name of the first, and another content."""
    folder = tmp_path_factory.mktemp('videos')
    paths = [folder / name for name in ('a/clip.mp4', 'a/other.mp4', 'b/clip.mp4')]
    for seed, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        write_video(path, list(video_scenes(2, seed, NAMES[:2], NAMES[2:])), fps=5, scale=1)
    return paths


@pytest.fixture(scope='module')
def alone(videos, tmp_path_factory) -> list[dict[str, str]]:
    """What a run for each video leaves that nothing disturbs; and, last, one for all of them."""
    folder = tmp_path_factory.mktemp('alone')
    found = []
    for number, inputs in enumerate([video] for video in videos):
        out = folder / str(number)
        assert end_of(start(inputs, out, folder / 'log')) == 0, (folder / 'log').read_text()
        assert not hidden(out)
        found.append(content(out))
    assert end_of(start(videos, folder / 'all', folder / 'log')) == 0
    return [*found, content(folder / 'all')]


def test_runs_alone_are_what_is_compared_with(videos, alone):
    """Names are found, so that contents differ; two videos of one name keep apart within a run."""
    assert set(alone[0]) == {
        *('pred/clip.json', 'vis/clip.mp4'),
        *(f'pred/clip/{time:09d}.png' for time in (0, 500, 1000, 1500)),
    }
    assert not any(
        alone[0][name] == alone[2][name] for name in ('pred/clip.json', 'vis/clip.mp4', 'pred/clip/000000500.png')
    )
    assert {stem_of(name) for name in alone[3]} == {'a_clip', 'b_clip', 'other'}


# ------------------------------------------------------------------ two at once
def test_two_at_once_into_two_folders(videos, alone, tmp_path):
    barrier = START.Barrier(2)
    ones = [start([videos[i]], tmp_path / str(i), tmp_path / f'{i}.log', meet, barrier) for i in (0, 2)]
    assert [end_of(process) for process in ones] == [0, 0]
    for i in (0, 2):
        assert content(tmp_path / str(i)) == alone[i] and not hidden(tmp_path / str(i))


@pytest.mark.parametrize('older', [False, True], ids=['empty_folder', 'older_files'])
def test_two_at_once_into_one_folder(videos, alone, tmp_path, older):
    """Of videos of one name all files are those of one run, the one that ended last; others do not meet."""
    out, barrier = tmp_path / 'out', START.Barrier(2)
    if older:
        assert end_of(start([videos[0]], out, tmp_path / 'log')) == 0
    pairs = [start([videos[i]], out, tmp_path / f'{i}.log', meet, barrier) for i in (0, 2)]
    assert [end_of(process) for process in pairs] == [0, 0]
    assert content(out) in (alone[0], alone[2]) and not hidden(out)
    assert end_of(start([videos[1]], out, tmp_path / 'log')) == 0
    assert content(out).items() > alone[1].items()


# ------------------------------------------------------------------ killed
MOMENTS = [
    ('opened', 2),
    ('frame', 7),  # of 5 a video: in the second
    ('picture', 3),
    ('record', 6),
    ('closing', 2),
    *(('name', i) for i in (1, 2, 3, 5)),
    ('removal', 1),
]
# Timeline removed, video named, labels moved away, labels named, old labels removed, timeline named.
REPLACING = [*(('removal', 1), ('name', 1), ('move', 1), ('name', 2), ('removal', 2), ('name', 3)), ('removal', 3)]


def test_killed_at_any_moment(videos, alone, tmp_path):
    """What has its final name is whole and right, the rest is hidden; the next run leaves what one alone does."""
    whole, log = alone[3], tmp_path / 'log'
    for moment in MOMENTS:
        out = tmp_path / '_'.join(map(str, moment))
        assert end_of(start(videos, out, log, kill_at, *moment)) == -signal.SIGKILL, moment
        left = content(out)
        assert left.items() <= whole.items(), moment
        for name in left:
            if name.endswith('.json'):  # the last to get its name
                own = {key for key in whole if stem_of(key) == stem_of(name)}
                assert own <= set(left), moment
        assert all('.part' in str(path) or '.labelling' in str(path) for path in hidden(out)), moment
        if moment in MOMENTS[::3]:
            assert end_of(start(videos, out, log)) == 0, log.read_text()
            assert content(out) == whole and not hidden(out), moment


def test_killed_while_older_files_are_replaced(videos, alone, tmp_path):
    """Where there is a timeline, picture and labels are of the same run as it."""
    old, new, out, log = alone[0], alone[2], tmp_path / 'out', tmp_path / 'log'
    assert end_of(start([videos[0]], out, log)) == 0
    for moment in REPLACING:
        assert end_of(start([videos[2]], out, log, kill_at, *moment)) == -signal.SIGKILL, moment
        left = content(out)
        if 'pred/clip.json' in left:
            assert left in (old, new), moment
        assert all(digest in (old[name], new[name]) for name, digest in left.items()), moment
        old, new = new, old
        videos = videos[::-1]
        assert end_of(start([videos[0]], out, log)) == 0, log.read_text()
        assert content(out) == old and not hidden(out), moment


# ------------------------------------------------------------------ several processes of one start
def test_processes_share_the_videos_out(videos, alone, tmp_path):
    """As one process leaves them; a video that is spoiled later is labelled anew by the next start, and only that."""
    out = tmp_path / 'out'
    options = ['--classes', *NAMES, '--model', 'ovavss_mini_hearing', '--weights', WEIGHTS, '--device', 'cpu']
    options += ['--fps', '2', '--out-dir', out, '--resume']
    command = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', ROOT / 'tools/infer.py']
    command = [sys.executable, *map(str, [*command, *videos, *options])]
    environment = os.environ | dict(OMP_NUM_THREADS='1')
    for states in (['labelled'] * 3, ['labelled', 'complete', 'complete']):
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr
        assert content(out) == alone[3] and not hidden(out)
        assert [row['state'] for row in json.loads((out / 'summary.json').read_text())] == states
        (out / 'vis/a_clip.mp4').unlink()
