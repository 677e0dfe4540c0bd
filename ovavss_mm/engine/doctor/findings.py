# SPDX-License-Identifier: Apache-2.0
"""What a check finds, and how checks are kept apart."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2]

OK, NOTE, WARNING, ERROR = 'ok', 'note', 'warning', 'error'
STATUSES = (OK, NOTE, WARNING, ERROR)


@dataclass(frozen=True)
class Finding:
    """A line of the report.

    Attributes:
        area: heading under which it stands.
        name: what was looked at.
        status: 'ok'; 'note': only some uses need it; 'warning': works worse or not as tested;
            'error': the mini model can be neither trained nor tested.
        detail: what was found.
        advice: what to do about it; every warning and every error has one.
    """

    area: str
    name: str
    status: str
    detail: str
    advice: str = ''

    def __post_init__(self) -> None:
        """Check the status, and that nobody is left without advice."""
        if self.status not in STATUSES:
            raise ValueError(f'status must be one of {STATUSES}, got {self.status!r}')
        if self.status in (WARNING, ERROR) and not self.advice:
            raise ValueError(f'{self.area}, {self.name}: a {self.status} needs advice')


Check = Callable[[], Iterator[Finding]]


def run_check(area: str, check: Check) -> list[Finding]:
    """Run a check; if it breaks, that is a finding too.

    Args:
        area: heading of its findings.
        check: yields findings.

    Returns:
        What it yielded, up to where it broke.
    """
    findings = []
    try:
        for finding in check():
            findings.append(finding)
    except Exception as error:  # whatever is broken here must not hide the rest of the report
        advice = f'Report this with the whole output. Meanwhile: {sys.executable} -m pip check'
        text = f'the check itself failed: {describe(error)}'
        findings.append(Finding(area, 'check', WARNING, text, advice))
    return findings


def describe(error: BaseException) -> str:
    """Write an error in one line.

    Args:
        error: any.

    Returns:
        Its class and the first line of its message.
    """
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


@cache
def load_file(relative: str) -> ModuleType:
    """Load a module of ovavss_mm without ``ovavss_mm`` itself, which imports the hosts.

    Args:
        relative: path of the file below the package.

    Returns:
        The module.
    """
    path = PACKAGE / relative
    name = f'_doctor_{path.stem}'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and named tuples look their module up
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Answer:
    """What a child process said.

    Attributes:
        values: the JSON values that it printed, one a line, as far as it got.
        error: why it ended early; empty if it did not.
    """

    values: list[Any]
    error: str = ''


def ask_child(code: str, timeout: float = 300) -> Answer:
    """Run Python code in a process of its own: what crashes there leaves the report alone.

    Args:
        code: prints each of its results with ``say(value)``, as JSON.
        timeout: in seconds.

    Returns:
        The results.
    """
    mark = 'doctor:'
    # The scripts in tools/ do not find what lies in the current folder, so neither does the child.
    start = 'import json, sys\nsys.path[:] = [p for p in sys.path if p]\n'
    start += f'def say(x): print({mark!r} + json.dumps(x), flush=True)\n'
    environment = {**os.environ, 'PYTHONWARNINGS': 'ignore', 'TF_CPP_MIN_LOG_LEVEL': '3'}
    try:
        child = subprocess.run(
            [sys.executable, '-c', start + code],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors='replace',
            timeout=timeout,
            env=environment,
        )
        out, err, status = child.stdout, child.stderr, child.returncode
    except subprocess.TimeoutExpired as late:
        out = (late.stdout or b'').decode(errors='replace')
        err, status = f'no answer within {timeout:g} s', 1
    lines = [line for line in out.splitlines() if line.startswith(mark)]
    values = [json.loads(line.removeprefix(mark)) for line in lines]
    if status < 0:
        return Answer(values, f'the process crashed (signal {-status})')
    said = err.strip().splitlines()
    return Answer(values, (said[-1] if said else f'exit status {status}') if status else '')
