# SPDX-License-Identifier: Apache-2.0
"""Checks of Python, the packages and mmcv's ops."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from .findings import ERROR, NOTE, OK, PACKAGE, WARNING, Answer, Finding, ask_child

TORCH_PAIR = 'torch==2.11.0 torchvision==0.26.0'  # tested together


class Package(NamedTuple):
    """A package that is needed.

    Attributes:
        module: name to import.
        distributions: names under which it is installed, the one to install first.
        versions: that are accepted.
        use: what works without it does not, if the mini model does; else empty.
    """

    module: str
    distributions: tuple[str, ...]
    versions: str
    use: str = ''


PACKAGES = (
    Package('torch', ('torch',), '>=2.5'),
    Package('torchvision', ('torchvision',), '>=0.15'),
    Package('numpy', ('numpy',), '>=1.24'),
    Package('mmengine', ('onedl-mmengine', 'mmengine'), '>=0.10.8'),
    Package('mmcv', ('onedl-mmcv', 'mmcv', 'mmcv-lite'), '>=2.3'),
    Package('mmseg', ('onedl-mmsegmentation', 'mmsegmentation'), '>=1.4'),
    Package('mmdet', ('onedl-mmdetection', 'mmdet'), '>=3.5'),
    Package('mim', ('onedl-mim', 'openmim'), '>=0.5', 'mim train, mim test and mim run'),
    Package('open_clip', ('open_clip_torch',), '>=2.24'),
    Package('torchvggish', ('torchvggish',), '>=0.2'),
    Package('resampy', ('resampy',), '>=0.4'),
    Package('soundfile', ('soundfile',), '>=0.12'),
    Package('av', ('av',), '>=12', 'reading and writing videos'),
    Package('cv2', ('opencv-python', 'opencv-python-headless'), '>=4.8'),
    Package('PIL', ('Pillow',), '>=10'),
    Package('scipy', ('scipy',), '>=1.10'),
    Package('pycocotools', ('pycocotools',), '>=2.0.7'),
    Package('prettytable', ('prettytable',), '>=3.8'),
    Package('matplotlib', ('matplotlib',), '>=3.6'),
    Package('rich', ('rich',), '>=13'),
    Package('safetensors', ('safetensors',), '>=0.4'),
    Package('packaging', ('packaging',), '>=23'),
)


def pip(arguments: str) -> str:
    """Write a pip command for this very Python.

    Args:
        arguments: of pip.

    Returns:
        The command.
    """
    return f'{sys.executable} -m pip {arguments}'


def check_python() -> Iterator[Finding]:
    """Look at the Python that runs.

    Yields:
        A finding.
    """
    found, here = '.'.join(map(str, sys.version_info[:3])), sys.executable
    running = tuple(sys.version_info[:2])
    if running < (3, 10):
        advice = 'Make an environment with Python 3.10 to 3.12: make setup PYTHON=python3.11'
        yield Finding('Python', 'Python', ERROR, f'{found} is too old ({here})', advice)
    elif running >= (3, 13):
        advice = 'If something fails, use Python 3.10 to 3.12: make setup PYTHON=python3.11'
        yield Finding('Python', 'Python', WARNING, f'{found} has not been tested ({here})', advice)
    else:
        yield Finding('Python', 'Python', OK, f'{found} ({here})')


@cache
def import_all(modules: tuple[str, ...]) -> dict[str, str]:
    """Import modules in child processes.

    Args:
        modules: names, in this order.

    Returns:
        What is wrong by name; empty for those that can be imported. If one crashes the process,
        the others are imported in another.
    """
    code = """
import contextlib, importlib, io, sys
def attempt(name):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(name)
    except Exception as error:
        lines = str(error).strip().splitlines() or ['']
        return type(error).__name__ + ': ' + lines[0]
    return ''
"""
    wrong: dict[str, str] = {}
    left = list(modules)
    while left:
        answer = ask_child(code + f'for name in {left!r}: say(attempt(name))')
        wrong.update(zip(left, answer.values, strict=False))
        left = left[len(answer.values) :]
        if left:
            wrong[left.pop(0)] = answer.error or 'the process ended'
    return wrong


def installed(package: Package) -> tuple[str, str] | None:
    """Find the distribution that brings a package.

    Args:
        package: to look for.

    Returns:
        Its name and version, None if it is not installed.
    """
    for name in package.distributions:
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return None


def check_packages() -> Iterator[Finding]:
    """Look at each package: whether it is installed, its version, whether it can be imported.

    Yields:
        A finding each.
    """
    there = [package for package in PACKAGES if installed(package)]
    wrong = import_all(tuple(package.module for package in there))
    for package in PACKAGES:
        said = wrong.get(package.module, '')
        yield judge_package(package, installed(package), said, culprit(package.module, wrong))


def culprit(module: str, wrong: dict[str, str]) -> str:
    """Find the package on account of which another cannot be imported.

    Args:
        module: that cannot be imported.
        wrong: what is wrong by module.

    Returns:
        Name of the first module that fails with the same message, or that the message says is not
        there; empty if it is ``module``'s own fault.
    """
    lost = re.fullmatch(r"ModuleNotFoundError: No module named '(\w+).*", wrong.get(module, ''))
    if lost and lost[1] != module:
        return lost[1]
    first = next((name for name, why in wrong.items() if why and why == wrong.get(module)), module)
    return '' if first == module else first


def judge_package(
    package: Package, found: tuple[str, str] | None, wrong: str, cause: str = ''
) -> Finding:
    """Say what is to be said about a package.

    Args:
        package: in question.
        found: name and version of its distribution, None if it is not installed.
        wrong: what importing it said, empty if it went well.
        cause: name of the module on account of which it failed, if it is another one's fault.

    Returns:
        The finding.
    """
    bad = WARNING if package.use else ERROR
    without = f'; without it there is no {package.use}' if package.use else ''
    title, wanted = package.module, f'"{package.distributions[0]}{package.versions}"'
    if found is None:
        advice = pip(f'install {wanted}')
        return Finding('Packages', title, bad, f'is not installed{without}', advice)
    name, number = found
    if wrong:
        advice = pip(f'install --force-reinstall --no-deps {name}=={number.partition("+")[0]}')
        if package.module in ('torch', 'torchvision'):
            advice = pip(f'install --force-reinstall {TORCH_PAIR}') + ' (the two belong together)'
        if cause:
            advice = f'Mend {cause} first.'
            if cause not in {known.module for known in PACKAGES}:
                advice = pip(f'install {cause}')
        text = f'{number} is installed but cannot be imported{without}: {wrong}'
        return Finding('Packages', title, bad, text, advice)
    if name == package.distributions[0] and not fits(number, package.versions):
        text = f'{number} is not in {package.versions}'
        return Finding('Packages', title, WARNING, text, pip(f'install {wanted}'))
    text = number if name == title else f'{number} ({name})'
    if name in ('mmengine', 'mmcv', 'mmcv-lite', 'mmsegmentation', 'mmdet'):
        note = 'the original, which has not been tested; the onedl-* continuation has'
        return Finding('Packages', title, NOTE, f'{text}: {note}')
    return Finding('Packages', title, OK, text)


def fits(number: str, versions: str) -> bool:
    """Whether a version is in a range.

    Args:
        number: the version, e.g. '2.11.0+cu130'.
        versions: lower bound, e.g. '>=2.5'.

    Returns:
        True if it is, or if it cannot be told for want of the package packaging.
    """
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return SpecifierSet(versions).contains(number, prereleases=True)


def check_install() -> Iterator[Finding]:
    """Look whether ovavss_mm is installed, which mim asks for, and imports with all its parts.

    Yields:
        Two findings.
    """
    try:
        yield Finding('Packages', 'ovavss_mm', OK, version('ovavss_mm'))
    except PackageNotFoundError:
        advice = f'In the checkout: {pip("install --no-build-isolation --no-deps -e .")}'
        text = 'is not installed: mim cannot find it'
        yield Finding('Packages', 'ovavss_mm', WARNING, text, advice)
    parts = ('models', 'datasets', 'evaluation', 'visualization', 'engine')
    said = import_all(tuple(f'ovavss_mm.{part}' for part in parts))
    wrong = [f'{name} cannot be imported: {why}' for name, why in said.items() if why]
    if wrong:
        advice = 'Mend what is reported above first; then: ' + pip('check')
        yield Finding('Packages', 'components', ERROR, wrong[0], advice)
    else:
        yield Finding('Packages', 'components', OK, 'models, data sets, metric and hooks import')


# ------------------------------------------------------------------ mmcv's ops
_OPS = """
import importlib.util
import mmcv, torch
spec = importlib.util.spec_from_file_location('_compat', {compat!r})
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
say(dict(install=compat.INSTALL_OPS_COMMAND, remove=compat.REMOVE_OPS_COMMAND))
try:
    say(dict(compiled=compat.ensure_mmcv_ops()))
except ImportError as error:
    say(dict(broken=str(error.__cause__ or error)))
    sys.exit()
say(dict(torch=torch.__version__, cuda=torch.cuda.is_available()))
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction, multi_scale_deformable_attn_pytorch)
if torch.cuda.is_available():
    torch.manual_seed(0)
    value = torch.rand(1, 20, 2, 4, device='cuda')
    shapes = torch.tensor([[4, 4], [2, 2]], device='cuda')
    starts = torch.tensor([0, 16], device='cuda')
    points = torch.rand(1, 5, 2, 2, 3, 2, device='cuda')
    weights = torch.rand(1, 5, 2, 2, 3, device='cuda')
    out = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, points, weights, 64)
    want = multi_scale_deformable_attn_pytorch(value, shapes, points, weights)
    say(dict(difference=float((out - want).abs().max())))
"""


def check_ops() -> Iterator[Finding]:
    """Look at mmcv's compiled ops; with a GPU, run deformable attention on it.

    Yields:
        A finding.
    """
    yield judge_ops(ask_child(_OPS.format(compat=str(PACKAGE / 'compat.py'))))


def judge_ops(answer: Answer) -> Finding:
    """Say what is to be said about mmcv's ops.

    Args:
        answer: of the child: {install, remove}, commands; {compiled} or {broken}; {torch, cuda};
            and on a GPU {difference} between mmcv's deformable attention and the same in PyTorch.

    Returns:
        The finding.
    """
    facts: dict[str, Any] = {}
    for value in answer.values:
        facts.update(value)
    head = ('mmcv ops', 'deformable attention')
    if 'install' not in facts:
        text = f'cannot be tried: {answer.error or "no answer"}'
        return Finding(*head, ERROR, text, 'Mend the packages that are reported above first.')
    advice = f'Compile the ops for this torch (15 minutes): {facts["install"]}\n'
    advice += f'or, on a CPU, do without them: {facts["remove"]}'
    if 'compiled' not in facts:
        text = f'the compiled ops cannot be loaded: {facts.get("broken") or answer.error}'
        return Finding(*head, ERROR, text, advice)
    kind = 'compiled ops' if facts['compiled'] else 'stand-in (mmcv has no compiled ops)'
    if answer.error or facts.get('difference', 0) > 1e-3:
        wrong = answer.error or f'wrong results on the GPU, by {facts["difference"]:.2g}'
        return Finding(*head, ERROR, f'{kind}: {wrong}', advice)
    if not facts.get('cuda'):
        return Finding(*head, OK, f'{kind}; on a CPU mmcv runs it in PyTorch either way')
    if facts['compiled']:
        return Finding(*head, OK, f'{kind}, ran on the GPU')
    text = f'{kind}: ran on the GPU in PyTorch, right but slower'
    return Finding(*head, WARNING, text, advice.splitlines()[0])
