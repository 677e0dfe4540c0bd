# SPDX-License-Identifier: Apache-2.0
"""Says what is missing or broken for training and testing, and what to do about it.

This folder uses the standard library alone, and imports nothing of ``ovavss_mm``: it must work when
``import ovavss_mm`` does not. ``tools/doctor.py`` loads it as a package of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .files import check_data, check_weights
from .findings import ERROR, NOTE, STATUSES, WARNING, Check, Finding, run_check
from .machine import check_codecs, check_devices, check_room
from .packages import check_install, check_ops, check_packages, check_python

__all__ = ['Finding', 'checks', 'diagnose', 'is_fit', 'report']

_MARKS = {'ok': 'ok', 'note': '--', 'warning': '!', 'error': 'ERROR'}


def checks(weights_dir: Path, root: Path) -> tuple[tuple[str, Check], ...]:
    """List all checks.

    Args:
        weights_dir: where weights should be.
        root: folder in which ``data/`` is.

    Returns:
        Pairs of a heading and a check, in the order of the report.
    """
    return (
        ('Python', check_python),
        ('Packages', check_packages),
        ('Packages', check_install),
        ('mmcv ops', check_ops),
        ('Devices', check_devices),
        ('Videos', check_codecs),
        ('Weights', partial(check_weights, weights_dir)),
        ('Data', partial(check_data, root)),
        ('Room', check_room),
    )


def diagnose(weights_dir: Path, root: Path) -> list[Finding]:
    """Run all checks; one that breaks does not stop the others.

    Args:
        weights_dir: where weights should be.
        root: folder in which ``data/`` is.

    Returns:
        The findings, in the order of the report.
    """
    return [
        finding for area, check in checks(weights_dir, root) for finding in run_check(area, check)
    ]


def is_fit(findings: Sequence[Finding]) -> bool:
    """Whether the mini model could be trained and tested.

    Args:
        findings: of all checks.

    Returns:
        True unless there is an error.
    """
    return all(finding.status != ERROR for finding in findings)


def report(findings: Sequence[Finding]) -> str:
    """Write the findings for a person.

    Args:
        findings: of all checks.

    Returns:
        Several lines: the findings by heading, each followed by its advice, and a summary.
    """
    lines, area = [], None
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        if finding.area != area:
            lines += [*([''] if lines else []), finding.area]
            area = finding.area
        lines.append(f'  {_MARKS[finding.status]:6}{finding.name:{width}}  {finding.detail}')
        for line in finding.advice.splitlines():
            lines.append(f'        -> {line.strip()}')
    counts = {status: sum(f.status == status for f in findings) for status in STATUSES}
    summary = (
        'The mini model can be trained and tested here.'
        if is_fit(findings)
        else 'The mini model can NOT be trained and tested here: see what is marked ERROR.'
    )
    kinds = f'{counts[ERROR]} errors, {counts[WARNING]} warnings (!), {counts[NOTE]} notes (--)'
    return '\n'.join([*lines, '', f'{summary} {kinds}.'])
