# SPDX-License-Identifier: Apache-2.0
"""The doctor as it is run: on this environment, and where packages are broken or missing."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'tools/doctor.py'


def run(
    *arguments: str,
    cwd: Path,
    path: Path | None = None,
    code: str = '',
    python: str = sys.executable,
) -> tuple[int, str]:
    """Run the script, or code, in a process; ``path`` is searched for packages first."""
    environment = {**os.environ, 'PYTHONPATH': str(path or '')}
    command = ['-c', code] if code else [str(SCRIPT), *arguments]
    result = subprocess.run(
        [python, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert 'Traceback' not in result.stderr, result.stderr
    return result.returncode, result.stdout


def statuses(printed: str) -> dict[str, str]:
    """Status by name of the JSON that was printed; bad findings must have advice."""
    listed = json.loads(printed)
    assert listed['fit'] is all(f['status'] != 'error' for f in listed['findings'])
    for finding in listed['findings']:
        assert finding['advice'] or finding['status'] in ('ok', 'note'), finding
    return {f['name']: f['status'] for f in listed['findings']}


def test_here_the_mini_model_works(tmp_path):
    code, printed = run('--json', cwd=tmp_path)
    found = statuses(printed)
    assert code == 0, printed
    assert found['torch'] == found['mmseg'] == found['components'] == 'ok'
    assert found['data/mini'] == 'warning'  # a command makes it


def test_a_broken_torch_is_reported_and_no_traceback(tmp_path):
    (tmp_path / 'torch').mkdir()
    (tmp_path / 'torch/__init__.py').write_text('raise ImportError("libcudart.so.99: no")')
    code, printed = run('--json', cwd=tmp_path, path=tmp_path)
    found = statuses(printed)
    assert code == 1
    broken = {'torch', 'torchvision', 'components', 'deformable attention', 'open_clip'}
    assert {name for name, status in found.items() if status == 'error'} >= broken
    assert found['numpy'] == found['memory'] == 'ok'
    assert 'torch==2.11.0 torchvision==0.26.0' in printed and 'libcudart.so.99' in printed


def test_an_empty_environment_is_reported(tmp_path):
    """Without any package, not even ovavss_mm."""
    venv.create(tmp_path / 'empty', with_pip=False)
    python = str(tmp_path / 'empty/bin/python')
    code, printed = run(cwd=tmp_path, python=python)
    assert code == 1 and 'ERROR torch' in printed and 'is not installed' in printed
    assert f'{python} -m pip install "torch>=2.5"' in printed
    assert 'pip install --no-build-isolation --no-deps -e .' in printed
    assert 'can NOT be trained' in printed


@pytest.mark.parametrize('option', ['-h', '--help'])
def test_help_is_light(tmp_path, option):
    code = f"""
import runpy, sys
sys.argv = ['doctor.py', {option!r}]
try:
    runpy.run_path({str(SCRIPT)!r}, run_name='__main__')
except SystemExit as stop:
    assert not stop.code
print([name for name in ('torch', 'numpy', 'ovavss_mm') if name in sys.modules])
"""
    status, printed = run(cwd=tmp_path, code=code)
    assert status == 0 and printed.endswith('[]\n') and 'mim run ovavss_mm doctor' in printed
