# SPDX-License-Identifier: Apache-2.0
"""Commands and Python in documents: each block runs here, or says what it needs that a test has not.

A block that cannot run has a comment in the line before it, ``<!-- needs: REASON -->``, with a reason (or several, with
commas) of ``REASONS``. The others run by bash, in the order of their document, in a folder with links to the checkout's
folders, a small mini world in ``data/mini``, and stand-ins for videos and checkpoints. Of ``console`` blocks the
lines with ``$`` run; what they print is not compared.

Shortened are (``tests/block_server.py``):

- trainings: one iteration, or an epoch of two clips; tests and validations: two clips; no loader processes
- ``mini_world.py --out``: 24, 4 and 8 clips; ``compare_settings.py``: two clips; ``benchmark.py``: one step
- ``gpu_report.py`` tells versions; ``export.py`` compares nothing
- ``ablate.py`` says what it would do, and its tables are made up; ``make`` prints its commands
- ``web_demo.py`` ends when the page is there; loops of bash have one round
- ``mim``: its part, finding files, is done here; ``tests/test_tools/test_mim.py`` has mim itself
"""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

import label_files  # noqa: E402
import video_files  # noqa: E402
from block_server import CLIENT  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ['README.md', 'data/README.md', *sorted(str(p.relative_to(ROOT)) for p in (ROOT / 'docs').rglob('*.md'))]
SHELL, PYTHON, NOT_RUN = ('bash', 'console', 'sh'), ('python', 'py'), ('', 'bibtex', 'json', 'nginx')
# Run by other tests.
ELSEWHERE = {
    ('docs/extend.md', 'python'): 'tests/test_docs.py::test_sketches_work',
    ('docs/serving.md', 'bash'): 'tests/test_tools/test_web/test_web_api.py::test_examples_of_the_documentation',
    ('docs/serving.md', 'python'): 'tests/test_tools/test_web/test_web_api.py::test_examples_of_the_documentation',
}
REASONS = {
    'AVSBench': 'AVSBench-semantic or AVSBench-object, which their authors hand out',
    'weights': 'weights that are downloaded, or a published checkpoint',
    'large models': 'gigabytes or minutes; check_parity.py runs in tests/test_tools/test_check_parity*.py',
    'GPU': 'one or several GPUs',
    'cluster': 'Slurm, or torchrun with a process a GPU',
    'compiler': 'a C++ compiler, for torch.compile',
    'ffmpeg': 'the program ffmpeg',
    'network': 'the package index, or the Hugging Face hub',
}
MARKER = re.compile(r'<!-- needs: (.*) -->')
CHECKPOINT = re.compile(r'work_dirs/[\w-]+/iter_\d+\.pth')


READ_CONFIG = """
from ovavss_mm.models.skeleton import build_skeleton, read_config
build_skeleton(read_config('configs/mine/block.py').model)
"""


class Block(NamedTuple):
    """A block of a document."""

    document: str
    line: int
    language: str
    code: str
    needs: str | None

    def __str__(self) -> str:
        return f'{self.document}:{self.line}' + (f'-needs {self.needs}' if self.needs else '')


def blocks_of(document: str) -> list[Block]:
    """All blocks of a document."""
    lines, found, number = (ROOT / document).read_text().splitlines(), [], 0
    while number < len(lines):
        fence = re.match(r'( *)(`{3,})(\w*)', lines[number])
        number += 1
        if not fence:
            continue
        begin = number
        while not lines[number].startswith(fence[1] + fence[2]):
            number += 1
        marker = MARKER.fullmatch(lines[begin - 2].strip()) if begin > 1 else None
        code = '\n'.join(line.removeprefix(fence[1]) for line in lines[begin:number])
        found.append(Block(document, begin, fence[3], code, marker and marker[1]))
        number += 1
    return found


ALL = [block for document in DOCUMENTS for block in blocks_of(document)]
BLOCKS = [block for block in ALL if block.language in (*SHELL, *PYTHON)]
MARKED = [block for block in BLOCKS if block.needs]
RUN = [b for b in BLOCKS if not b.needs and (b.document, b.language) not in ELSEWHERE]


def command(block: Block) -> str:
    """The block as a text for bash."""
    if block.language in PYTHON:
        text, end = block.code, "<<'END OF BLOCK'\n"
        if '_base_ = ' not in text:
            return f'cat > block.py {end}{text}\nEND OF BLOCK\npython block.py'
        return f'cat > configs/mine/block.py {end}{text}\nEND OF BLOCK\npython -c {shlex.quote(READ_CONFIG)}'
    if block.language == 'console':
        return '\n'.join(re.findall(r'^\$ ((?:.*\\\n)*.*)$', block.code, re.MULTILINE))
    return re.sub(r'^(for \w+ in \w+).*; do', r'\1; do', block.code, flags=re.MULTILINE)


# ------------------------------------------------------------------ where they run
@pytest.fixture(scope='module')
def programs() -> Iterator[Path]:
    """A folder of programs whose commands a server runs."""
    with tempfile.TemporaryDirectory() as name:  # short, as addresses of sockets must be
        folder, address = Path(name), f'{name}/socket'
        for program in ('python', 'mim'):
            (folder / program).write_text(CLIENT.format(python=sys.executable, address=address))
        (folder / 'make').write_text(f'#!/bin/sh\nunset MAKEFLAGS\nexec {shutil.which("make")} --dry-run "$@"\n')
        for path in folder.iterdir():
            path.chmod(0o755)
        environ = os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
        server = subprocess.Popen([sys.executable, ROOT / 'tests/block_server.py', address], env=environ)
        while not Path(address).exists():
            assert server.poll() is None, 'the server has ended'
            time.sleep(0.1)
        yield folder
        server.kill()
        server.wait()


def run(code: str, folder: Path, programs: Path) -> str:
    """Run a text by bash; what it printed."""
    path = f'{programs}{os.pathsep}{os.environ["PATH"]}'
    environ = os.environ | dict(PATH=path, BLOCK_BIN=str(programs), HF_HUB_OFFLINE='1', CUDA_VISIBLE_DEVICES='')
    environ.pop('PYTHONPATH', None)
    with tempfile.TemporaryFile('w+') as out:
        bash = ['bash', '-euo', 'pipefail', '-c', code]
        done = subprocess.run(
            bash, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=300
        )
        out.seek(0)
        printed = out.read()
    assert done.returncode == 0, f'{code}\n---\n{printed[-4000:]}'
    return printed


@pytest.fixture(scope='module')
def shared(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all documents take for granted: a small mini world, and the videos ``clip.mp4`` and ``videos/*.mp4``."""
    folder = tmp_path_factory.mktemp('shared')
    (folder / 'videos').mkdir()
    (folder / 'tools').symlink_to(ROOT / 'tools')
    tool = 'python tools/dataset_converters/mini_world.py'
    short = '--seconds 3 --video-fps 5 --sounding red-star blue-disc'
    clips = [f'{tool} --video {name} {short} --seed {i}' for i, name in enumerate(('clip.mp4', 'videos/street.mp4'))]
    run('\n'.join([f'{tool} --out mini', *clips]), folder, programs)
    return folder


def write_sweep(path: Path) -> None:
    """The table of a sweep, as ablate.py writes it."""
    figures = ('base', 'novel', 'harmonic', 'harmonic, noise', 'harmonic, off-screen', 'frames, noise')
    figures += ("frames, another clip's", 'frames, off-screen')
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='') as file:
        table = csv.writer(file)
        table.writerow(['row', 'seed', 'status', *figures])
        table.writerows([f'a = {x}', seed, 'done', *[50 + x + seed] * 8] for x in (0.1, 0.5) for seed in (0, 1))


def write_own_data(folder: Path) -> None:
    """Masks in COCO's form with frames and sounds, and labels of CVAT and Label Studio with their videos."""
    (folder / 'wav').mkdir()
    (folder / 'videos').unlink()
    (folder / 'videos').mkdir()
    for number, split in enumerate(('train', 'test')):
        files = [f'{split}/{i}.jpg' for i in range(4)]
        (folder / 'frames' / split).mkdir(parents=True)
        for file in files:
            Image.new('RGB', (64, 48)).save(folder / 'frames' / file)
        soundfile.write(folder / f'wav/{split}.wav', np.full(32000, 0.5), 16000)
        videos = [dict(id=number, file_names=files, width=64, height=48)]
        notes = [dict(video_id=number, category_id=1, segmentations=[[[0, 0, 20, 0, 20, 20]]] * 4)]
        text = json.dumps(dict(videos=videos, categories=[dict(id=1, name='kettle')], annotations=notes))
        (folder / f'{split}.json').write_text(text)
    mask = np.zeros((48, 64), bool)
    mask[10:20, 10:30] = True
    for name in ('kitchen', 'street', 'yard'):
        video_files.write_mp4(folder / f'videos/{name}.mp4', video_files.numbered(20, mask.shape))
        shapes = [label_files.cvat_mask(0, mask)]
        label_files.write_cvat(folder / f'{name}.xml', [('kettle', shapes)], f'{name}.mp4', mask.shape)
    for name, video in dict(project='street', other='yard').items():
        regions = [label_files.region(mask, 'kettle')]
        tasks = [label_files.task(time, regions, video=f'{video}.mp4') for time in (0.0, 1.0)]
        label_files.write_tasks(folder / f'{name}.json', tasks)


def prepare(document: str, folder: Path, shared: Path, programs: Path) -> None:
    """Fill the working folder of a document."""
    for name in ('Makefile', 'docs', 'ovavss_mm', 'requirements', 'setup.cfg', 'setup.py', 'tests', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    for name in ('configs', 'configs/mine', 'data', 'my_configs', 'work_dirs/demo'):
        (folder / name).mkdir(parents=True)
    for path in (ROOT / 'configs').iterdir():
        (folder / 'configs' / path.name).symlink_to(path)
    (folder / 'my_configs/mine.py').write_text("_base_ = ['../configs/mini/ovavss_mini_ablation.py']\n")
    (folder / 'data/mini').symlink_to(shared / 'mini')
    for name in ('clip.mp4', 'videos'):
        (folder / name).symlink_to(shared / name)
    (folder / 'names.txt').write_text('red-star\nblue-disc\n')
    codes = [block.code for block in RUN if block.document == document]
    wanted = sorted({path for code in codes for path in CHECKPOINT.findall(code)})
    if wanted:
        text = f'from block_server import write_checkpoint\nfor path in {wanted}:\n    write_checkpoint(path)'
        run(f'python -c {shlex.quote(text)}', folder, programs)
    for table in {table for code in codes for table in re.findall(r'plot_sweep\.py (\S+)', code)}:
        write_sweep(folder / table)
    if document == 'docs/own_data.md':
        write_own_data(folder)


@pytest.fixture(scope='module')
def folders(programs: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Working folders by document, each made when it is first asked for."""

    class Folders(dict):
        def __missing__(self, document: str) -> Path:
            folder = tmp_path_factory.mktemp('document')
            prepare(document, folder, shared, programs)
            return self.setdefault(document, folder)

    return Folders()


# ------------------------------------------------------------------ the tests
def test_no_block_is_passed_over() -> None:
    """Of each block it is known whether it can run, each marker belongs to one, and other tests have those of ours."""
    assert {block.language for block in ALL} <= {*SHELL, *PYTHON, *NOT_RUN}
    texts = [(ROOT / document).read_text() for document in DOCUMENTS]
    marked = [block for block in ALL if block.needs]
    assert sum(len(MARKER.findall(text)) for text in texts) == len(marked) > 0
    for (document, language), test in ELSEWHERE.items():
        file, name = test.split('::')
        assert f'def {name}(' in (ROOT / file).read_text()
        assert any(block[:3:2] == (document, language) for block in BLOCKS)


@pytest.mark.parametrize('block', RUN, ids=str)
def test_runs(block: Block, programs: Path, folders: dict[str, Path]) -> None:
    """The commands end without an error."""
    run(command(block), folders[block.document], programs)


@pytest.mark.parametrize('block', MARKED, ids=str)
def test_says_what_it_needs(block: Block, programs: Path, tmp_path: Path) -> None:
    """The reason is a known one, and the text at least one that bash or Python can read."""
    assert [reason for reason in block.needs.split(', ') if reason not in REASONS] == []
    if block.language in PYTHON:
        compile(block.code, str(block), 'exec')
    else:
        run(f'set -n\n{command(block)}', tmp_path, programs)
