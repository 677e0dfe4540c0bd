# SPDX-License-Identifier: Apache-2.0
"""Results of tests side by side."""

import json
import subprocess
import sys
from pathlib import Path


def write(folder: Path, time: str, harmonic: float) -> None:
    """A work dir as the test loop leaves it."""
    (folder / time).mkdir(parents=True)
    figures = dict(base_mIoU=60.0, novel_mIoU=40.0, harmonic_mIoU=harmonic, mIoU=55.0)
    (folder / time / f'{time}.json').write_text(json.dumps(figures))


def run(repo_root: Path, *args: object) -> subprocess.CompletedProcess:
    """Run the tool."""
    tool = repo_root / 'tools/analysis_tools/compare_tests.py'
    return subprocess.run([sys.executable, tool, *map(str, args)], capture_output=True, text=True, check=False)


def test_newest_results_and_the_loss(repo_root: Path, tmp_path: Path) -> None:
    """Of several tests in a work dir the last counts; the loss is a share of the first test's figure."""
    write(tmp_path / 'right', '20260101_000000', 1.0)
    write(tmp_path / 'right', '20260102_000000', 50.0)
    write(tmp_path / 'swapped', '20260101_000000', 20.0)
    printed = run(repo_root, tmp_path / 'right', tmp_path / 'swapped').stdout
    rows = [line.replace('|', '').split() for line in printed.splitlines() if '|' in line][1:]
    assert rows == [
        ['right', '60.00', '40.00', '50.00', '55.00'],
        ['swapped', '60.00', '40.00', '20.00', '55.00', '60', '%'],
    ]


def test_says_what_is_missing(repo_root: Path, tmp_path: Path) -> None:
    """A folder without results, and a file that is none, are named."""
    (tmp_path / 'broken.json').write_text('{')
    for path in (tmp_path, tmp_path / 'broken.json'):
        process = run(repo_root, path)
        assert process.returncode == 1
        assert str(path) in process.stderr
        assert 'Traceback' not in process.stderr
