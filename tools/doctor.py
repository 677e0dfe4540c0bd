# SPDX-License-Identifier: Apache-2.0
"""Say what works here, what is missing or broken, and what to do about it.

Looks at Python, the packages and their versions, mmcv's ops, GPUs, video codecs, weights, data sets,
disk and memory. Needs nothing but the standard library, so it also runs where the installation
failed. Exit status: 0 if the mini model can be trained and tested here, 1 if not.

Examples:
  mim run ovavss_mm doctor
  python tools/doctor.py --weights-dir /disk/weights
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from importlib import metadata, util
from pathlib import Path
from typing import Any, NamedTuple

GIB = 2**30
OK, NOTE, WARNING, ERROR = 'ok', 'note', 'warning', 'error'
TORCH_PAIR = 'torch==2.11.0 torchvision==0.26.0'  # tested together
# Distributions that bring a module of another name.
MODULES = {
    **{f'onedl-{name}': name for name in ('mmengine', 'mmcv', 'mim')},
    **{'onedl-mmsegmentation': 'mmseg', 'onedl-mmdetection': 'mmdet'},
    **{'open_clip_torch': 'open_clip', 'opencv-python': 'cv2', 'Pillow': 'PIL'},
}
# What the mini model can be trained and tested without.
USES = {'mim': 'mim train, mim test and mim run', 'av': 'reading and writing videos'}
PARTS = ('models', 'datasets', 'evaluation', 'visualization', 'engine')  # of ovavss_mm
# Processes that are asked print their answers with say().
CHILD = """
import json, sys
sys.path[:] = [path for path in sys.path if path]  # as a script in tools/, which runs it
def say(*values):
    print('doctor:' + json.dumps(values), flush=True)
try:
    BODY
except Exception as error:
    say(None, type(error).__name__ + ': ' + str(error).strip())
"""
SYSTEM = """
import torch
from mmengine.utils.dl_utils import collect_env
for name, value in collect_env().items():
    if name not in ('Python', 'PyTorch compiling details', 'numpy_random_seed'):
        say(name, str(value))
for i in range(torch.cuda.device_count()):
    torch.zeros(1, device=f'cuda:{i}')  # a driver that is too old shows here
    free, total = (number / 2**30 for number in torch.cuda.mem_get_info(i))
    say(f'memory of GPU {i}', f'{free:.1f} of {total:.1f} GiB free')
"""
IMPORT = """
import importlib
for name in NAMES:
    try:
        say(name, str(getattr(importlib.import_module(name), '__version__', '')), '')
    except Exception as error:
        say(name, '', f'{type(error).__name__}: {error}'.splitlines()[0])
"""
OPS = """
sys.path.insert(0, PACKAGE)
import compat
del sys.path[0]
import torch
say(compat.ensure_mmcv_ops(), torch.cuda.is_available(), compat.INSTALL_OPS_COMMAND)
import mmcv.ops.multi_scale_deform_attn as ops
if torch.cuda.is_available():
    value, shapes = torch.rand(1, 16, 2, 4).cuda(), torch.tensor([[4, 4]]).cuda()
    points, weights = torch.rand(1, 5, 2, 1, 3, 2).cuda(), torch.rand(1, 5, 2, 1, 3).cuda()
    args = value, shapes, shapes.new_zeros(1), points, weights
    ops.MultiScaleDeformableAttnFunction.apply(*args, 16)
"""
CODECS = """
import av
for name, mode in (('h264', 'r'), ('h264', 'w'), ('aac', 'r'), ('aac', 'w')):
    av.codec.Codec(name, mode)
say(av.__version__)
"""


class Finding(NamedTuple):
    """A line of the report; only what has the status 'error' stops the mini model."""

    area: str
    name: str
    status: str
    detail: str
    advice: str = ''


def find_package() -> Path:
    """Folder of ovavss_mm: as installed, above .mim/tools/ (wheel) or beside tools/ (checkout)."""
    spec = util.find_spec('ovavss_mm')  # of a top-level package nothing is imported
    if spec and spec.origin:
        return Path(spec.origin).parent
    above = Path(__file__).resolve().parents[1]
    return above.parent if above.name == '.mim' else above / 'ovavss_mm'


def pip(arguments: str) -> str:
    """Write a pip command for this very Python."""
    return f'{sys.executable} -m pip {arguments}'


def ask_child(code: str, timeout: float = 300) -> tuple[list[Any], str]:
    """Run Python code in a process of its own: what crashes there leaves the report alone.

    Args:
        code (str): gives each of its results to ``say``, which writes it as JSON.
        timeout (float): in seconds. Defaults to 300.

    Returns:
        tuple: the results, as far as it got, and the error that ended it early ('' if none did).
    """
    # A script in tools/ does not find what lies in the current folder, so neither does the child.
    script = CHILD.replace('BODY', code.strip().replace('\n', '\n    '))
    quiet = {**os.environ, 'PYTHONWARNINGS': 'ignore', 'TF_CPP_MIN_LOG_LEVEL': '3'}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        child = subprocess.run([sys.executable, '-c', script], env=quiet, timeout=timeout, **pipes)
        out, error = child.stdout, f'crashed, {child.returncode}' if child.returncode else ''
    except subprocess.TimeoutExpired as late:
        out, error = late.stdout or b'', f'no answer within {timeout:g} s'
    lines = out.decode(errors='replace').splitlines()
    said = [json.loads(line[7:]) for line in lines if line.startswith('doctor:')]
    return (said[:-1], said[-1][1]) if said and said[-1][0] is None else (said, error)


def requirements(root: Path) -> dict[str, str]:
    """Distributions that the checkout (or else the installed package) needs: name to versions."""
    config = ConfigParser()
    if config.read(root / 'setup.cfg', encoding='utf-8') and 'options' in config:
        lines = config['options']['install_requires'].splitlines()
    else:
        lines = [line for line in metadata.requires('ovavss_mm') or () if 'extra ==' not in line]
    needed = dict(re.findall(r'^([\w-]+) *([^;\s]*)', '\n'.join(lines), re.MULTILINE))
    return {**needed, 'ovavss_mm': '', **{f'ovavss_mm.{part}': '' for part in PARTS}}


def fits(version: str, versions: str) -> bool:
    """Whether a version, e.g. '2.11.0+cu130', is not below the bound of a range such as '>=2.5'."""
    texts = version.split('+')[0], *re.findall(r'>=([\d.]+)', versions)
    found, *bounds = ([int(number) for number in re.findall(r'\d+', text)] for text in texts)
    return not found or all(found >= bound for bound in bounds)


def import_all(modules: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Import modules in child processes; gives the version and what went wrong by module."""
    found: dict[str, tuple[str, str]] = {}
    left = list(modules)
    while left:  # one that crashes does not hide those after it
        said, error = ask_child(IMPORT.replace('NAMES', repr(left)))
        found.update((name, (version, wrong)) for name, version, wrong in said)
        left = left[len(said) :]
        if left:
            found[left.pop(0)] = ('', error)
    return found


def judge_package(name: str, versions: str, found: dict[str, tuple[str, str]]) -> Finding:
    """Say what is to be said about a required distribution, from what importing all gave."""
    module = MODULES.get(name, name)
    (number, wrong), get = found[module], pip(f'install "{name}{versions}"')
    if module.startswith('ovavss_mm'):
        get = f'In the checkout: {pip("install --no-build-isolation --no-deps -e .")}'
    if not wrong:
        status = OK if fits(number, versions) else WARNING
        return Finding('Packages', module, status, f'{number} {versions and f"({versions})"}', get)
    without = f'; without it there is no {USES[module]}' if module in USES else ''
    status, text = WARNING if without else ERROR, f'cannot be imported{without}: {wrong}'
    lost = re.match(r"ModuleNotFoundError: No module named '(\w+)", wrong)
    cause = lost[1] if lost else next(key for key, (_, why) in found.items() if why == wrong)
    if cause != module:
        advice = f'Mend {cause} first.' if cause in found else pip(f'install {cause}')
        return Finding('Packages', module, status, text, advice)
    if lost:
        return Finding('Packages', module, status, f'is not installed{without}', get)
    again = TORCH_PAIR if module in ('torch', 'torchvision') else '--no-deps'
    advice = get.replace('install', f'install --force-reinstall {again}', 1)
    return Finding('Packages', module, status, text, advice)


def check_packages(package: Path) -> Iterator[Finding]:
    """Look at the Python that runs, import what is required and compare the versions."""
    running, root = tuple(sys.version_info[:3]), package.parent
    status = ERROR if running < (3, 10) else WARNING if running >= (3, 13) else OK
    text = f'{".".join(map(str, running))} ({sys.executable}); 3.10 to 3.12 are tested'
    yield Finding('Packages', 'Python', status, text, 'make setup PYTHON=python3.11')
    needed = requirements(root)
    found = import_all(MODULES.get(name, name) for name in needed)
    judged = [judge_package(name, versions, found) for name, versions in needed.items()]
    lost = [finding.name for finding in judged if finding.detail.startswith('is not installed')]
    if len(lost) > 2:
        advice = 'make setup' if (root / 'Makefile').is_file() else pip('install ovavss_mm')
        python = root / '.venv/bin/python'
        if python.exists() and Path(sys.prefix) != python.parents[1]:
            advice = f'Use the environment that is there: {python} tools/doctor.py; or {advice}'
        text = f'not installed, or in parts: there is no {", ".join(lost)}'
        judged = [Finding('Packages', 'ovavss_mm', ERROR, text, advice)]
    yield from judged


def judge_system(said: list, error: str, nvidia: bool) -> Iterator[Finding]:
    """Say what is to be said about GPUs, from what SYSTEM said; ``nvidia``: there is one."""
    for name, text in said:
        yield Finding('System', name, OK, text)
    if said and error:
        advice = 'Update the driver, or train on the CPU: CUDA_VISIBLE_DEVICES= mim train ...'
        yield Finding('System', 'GPU', ERROR, f'torch cannot use it: {error}', advice)
    elif ['CUDA available', 'False'] in said:
        text = 'unseen by torch' if nvidia else 'none: the real models need one, the mini model not'
        advice = f'See nvidia-smi; or {pip(f"install --force-reinstall {TORCH_PAIR}")}'
        yield Finding('System', 'GPU', *((WARNING, text, advice) if nvidia else (NOTE, text)))


def judge_ops(said: list, error: str) -> Finding:
    """Say what is to be said about mmcv's ops, from what OPS said."""
    if not said:  # what compat.py raises has its advice with it
        error, _, advice = error.partition('\n')
        advice = advice or 'Mend what is reported above first.'
        return Finding('System', 'mmcv ops', ERROR, error, advice)
    ((compiled, gpu, command),) = said
    text = 'compiled' if compiled else 'none are compiled, a stand-in serves'
    text += f': {error}' if error else ', slow on a GPU' if gpu and not compiled else ''
    status = ERROR if error else WARNING if gpu and not compiled else OK
    advice = f'Compile them for this torch (15 minutes): {command}'
    return Finding('System', 'mmcv ops', status, text, advice)


def check_system(package: Path) -> Iterator[Finding]:
    """Let mmengine describe the system; try the GPUs, mmcv's ops and the codecs."""
    nvidia = Path('/proc/driver/nvidia').exists() or shutil.which('nvidia-smi') is not None
    yield from judge_system(*ask_child(SYSTEM), nvidia)
    yield judge_ops(*ask_child(OPS.replace('PACKAGE', repr(str(package)))))
    said, error = ask_child(CODECS)
    text = f'no videos of your own: {error}' if error else f'{said[0][0]}: H.264 and AAC'
    advice = pip('install --force-reinstall --only-binary=av av')
    yield Finding('System', 'PyAV', WARNING if error else OK, text, advice)


def judge_room(name: str, free: float, least: float, ample: float, advice: str) -> Finding:
    """Compare room in GiB with what the mini model and the real models need."""
    status = ERROR if free < least else WARNING if free < ample else OK
    text = f'{free:.1f} GiB; {least:g} for the mini model, {ample:g} for the real ones'
    return Finding('Room', name, status, text, advice)


def check_room() -> Iterator[Finding]:
    """Look at free disk and memory, and at the shared memory that loader workers use."""
    advice = 'Free some, or link data and work_dirs to a larger disk.'
    yield judge_room('disk', shutil.disk_usage(os.getcwd()).free / GIB, 0.5, 10, advice)
    if Path('/dev/shm').is_dir():
        advice = 'docker run --shm-size 8g ...: else loader workers may die with a bus error'
        yield judge_room('shared memory', shutil.disk_usage('/dev/shm').total / GIB, 0, 0.5, advice)
    info = Path('/proc/meminfo')
    if info.is_file():
        free = int(re.search(r'MemAvailable: *(\d+)', info.read_text())[1]) / 2**20
        limit, used = (Path(f'/sys/fs/cgroup/memory.{k}') for k in ('max', 'current'))
        if limit.is_file() and limit.read_text().strip() != 'max':  # of a container
            free = min(free, (int(limit.read_text()) - int(used.read_text())) / GIB)
        yield judge_room('memory', free, 1.5, 8, 'End other programs; docker run --memory 16g ...')


def check_weights(package: Path, folder: Path) -> Iterator[Finding]:
    """Look for the weights that the configs read, in ``folder``."""
    mini = package / 'mini_world/clip_mini.safetensors'
    status = OK if mini.is_file() and mini.stat().st_size > 10**5 else ERROR
    yield Finding('Weights', mini.name, status, str(mini), f'git checkout -- {mini}')
    table = next(package.rglob('*weights.csv')).read_text(encoding='utf-8')
    for row in csv.DictReader(table.splitlines()):
        path, wanted = folder / row['file'], int(row['size_mib'])
        size = path.stat().st_size / 2**20 if path.is_file() else 0
        status = NOTE if not size else WARNING if size < 0.98 * wanted - 1 else OK  # rounded
        text = f'{size:.0f} of {wanted} MiB, {row["title"]}, {row["licence"]}'
        advice = f'Get {row["source"]}' + (f'; {row["make"]}' if row['make'] else f' as {path}')
        yield Finding('Weights', path.name, status, text, advice)


def check_data(root: Path) -> Iterator[Finding]:
    """Look for the mini world and AVSBench-semantic below ``root``; their clips are not opened."""
    for name, status, advice in (
        ('data/mini', WARNING, 'mim run ovavss_mm mini_world --force --out data/mini'),
        ('data/AVSBench-semantic', NOTE, 'Request it from its authors: data/README.md'),
    ):
        folder, text = root / name, ''
        tables = [folder / table for table in ('metadata.csv', 'label2idx.json')]
        if tables[0].is_file() and tables[1].is_file():
            rows = list(csv.DictReader(tables[0].read_text(encoding='utf-8').splitlines()))
            clips = {f'{row["label"]}/{row["uid"]}' for row in rows if row['label'] != 'v1m'}
            lost = sorted(clip for clip in clips if not (folder / clip).is_dir())
            text = f'{len(clips)} clips, {len(lost)} without a folder {" ".join(lost[:1])}'
            status = WARNING if lost else OK
        yield Finding('Data', name, status, text or f'no {" and ".join(map(str, tables))}', advice)


def diagnose(weights: Path) -> Iterator[Finding]:
    """Make all checks; one that breaks does not stop the others."""
    package = find_package()
    checks = [(check_packages, package), (check_system, package), (check_room,)]
    for check, *args in [*checks, (check_weights, package, weights), (check_data, Path.cwd())]:
        try:
            for finding in check(*args):
                yield finding._replace(advice='') if finding.status == OK else finding
        except Exception as error:  # whatever is broken must not hide the rest of the report
            text = f'{type(error).__name__}: {error}'
            yield Finding('Doctor', check.__name__, WARNING, text, pip('check'))


def report(findings: list[Finding]) -> str:
    """Write the findings by heading, each followed by its advice, and a summary."""
    lines, counts = [], Counter(finding.status for finding in findings)
    for area, group in itertools.groupby(findings, lambda finding: finding.area):
        lines.append(f'\n{area}')
        for _, name, status, detail, advice in group:
            lines.append(f'  {status:8}{name:28}{detail}')
            lines += [f'          -> {line.strip()}' for line in advice.splitlines()]
    can = 'can NOT be' if counts[ERROR] else 'can be'
    kinds = f'{counts[ERROR]} errors, {counts[WARNING]} warnings, {counts[NOTE]} notes'
    return '\n'.join([*lines, f'\nThe mini model {can} trained and tested here: {kinds}.']).lstrip()


def main(argv: list[str] | None = None) -> int:
    """Print the report; returns the exit status."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument('--weights-dir', type=Path, default='data/weights', metavar='DIR')
    parser.add_argument('--json', action='store_true', help='print JSON instead of text')
    args = parser.parse_args(argv)
    findings = list(diagnose(args.weights_dir))
    fit = all(finding.status != ERROR for finding in findings)
    found = dict(fit=fit, findings=[finding._asdict() for finding in findings])
    print(json.dumps(found, indent=2) if args.json else report(findings))
    return 0 if fit else 1


if __name__ == '__main__':
    sys.exit(main())
