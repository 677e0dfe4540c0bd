# SPDX-License-Identifier: Apache-2.0
"""What the doctor says of this environment, of broken and empty ones, and of other machines."""

import importlib.util
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import archive
import pytest

from ovavss_mm.compat import INSTALL_OPS_COMMAND

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'tools/doctor.py'
CPU = [['PyTorch', '2.11.0'], ['CUDA available', 'False']]


@pytest.fixture(scope='module')
def doctor():
    spec = importlib.util.spec_from_file_location('doctor_tool', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------------- as it is run
def run(*options: str, cwd: Path, python: str = sys.executable, path=ROOT) -> tuple[int, str]:
    """Exit status and output of the script; ``path`` is searched for packages first."""
    env = {**os.environ, 'PYTHONPATH': str(path)}
    command = [python, str(SCRIPT), *options]
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert not result.stderr, result.stderr
    return result.returncode, result.stdout


def statuses(printed: str) -> dict[str, str]:
    """Status by name of the JSON that was printed; what is bad must have advice."""
    listed = json.loads(printed)
    assert listed['fit'] is all(f['status'] != 'error' for f in listed['findings'])
    for finding in listed['findings']:
        assert bool(finding['advice']) or finding['status'] in ('ok', 'note'), finding
    return {f['name']: f['status'] for f in listed['findings']}


def test_here_the_mini_model_works(tmp_path):
    code, printed = run('--json', cwd=tmp_path)
    found = statuses(printed)
    assert code == 0 and found['torch'] == found['mmseg'] == found['ovavss_mm.models'] == 'ok'
    assert found['MMEngine'] == found['clip_mini.safetensors'] == 'ok'
    assert found['data/mini'] == 'warning'  # a command makes it


def test_a_broken_torch_is_reported(tmp_path):
    (tmp_path / 'torch').mkdir()
    (tmp_path / 'torch/__init__.py').write_text('raise ImportError("libcudart.so.99: no")')
    code, printed = run('--json', cwd=tmp_path, path=f'{tmp_path}{os.pathsep}{ROOT}')
    found = statuses(printed)
    assert code == 1
    broken = {'torch', 'torchvision', 'ovavss_mm.models', 'mmcv ops', 'open_clip'}
    assert {name for name, status in found.items() if status == 'error'} >= broken
    assert found['numpy'] == found['memory'] == 'ok'
    assert 'torch==2.11.0 torchvision==0.26.0' in printed and 'libcudart.so.99' in printed
    assert 'Mend torch first.' in printed


def test_an_environment_without_packages_is_reported(tmp_path):
    venv.create(tmp_path / 'empty', with_pip=False)
    code, printed = run(cwd=tmp_path, python=str(tmp_path / 'empty/bin/python'), path='')
    assert code == 1 and 'there is no torch, torchvision, mmengine' in printed
    assert '-> make setup' in printed or 'Use the environment that is there' in printed
    assert 'can NOT be trained' in printed


# ---------------------------------------------------------------------- how it asks
@pytest.mark.parametrize(
    ('code', 'said', 'error'),
    [
        ('print("chatter"); say([1], None)', [[[1], None]], ''),
        ('say(1)\nraise ValueError("bad\\nmore")', [[1]], 'ValueError: bad\nmore'),
        ('say(1); import os; os.abort()', [[1]], 'crashed, -6'),
        ('say(1); import time; time.sleep(60)', [[1]], 'no answer within 2 s'),
    ],
    ids=['well', 'raises', 'crashes', 'hangs'],
)
def test_children(doctor, code, said, error):
    assert doctor.ask_child(code, timeout=2) == (said, error)


def test_one_module_that_crashes_does_not_hide_the_others(doctor, tmp_path, monkeypatch):
    (tmp_path / 'doctor_crash.py').write_text('import os\nos.abort()')
    (tmp_path / 'doctor_raise.py').write_text('raise OSError("no lib\\nmore")')
    (tmp_path / 'doctor_fine.py').write_text('__version__ = "1.2"')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    assert doctor.import_all(['doctor_raise', 'doctor_crash', 'doctor_fine']) == {
        'doctor_raise': ('', 'OSError: no lib'),
        'doctor_crash': ('', 'crashed, -6'),
        'doctor_fine': ('1.2', ''),
    }


def test_a_check_that_breaks_is_a_finding(doctor, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, 'find_package', lambda: tmp_path)
    for name in ('check_packages', 'check_system'):
        monkeypatch.setattr(doctor, name, lambda package: iter(()))
    found = {f.name: f for f in doctor.diagnose(tmp_path)}
    assert found['check_weights'].status == 'warning'
    assert found['clip_mini.safetensors'].status == 'error' and 'disk' in found


# ---------------------------------------------------------------------- what it says
def test_requirements_are_those_of_setup_cfg(doctor, tmp_path):
    needed = doctor.requirements(ROOT)
    assert needed['torch'] == '>=2.5' and needed['Pillow'] == '>=10' and len(needed) > 20
    assert set(doctor.MODULES) <= set(needed), 'each distribution whose module is given is required'
    installed = doctor.requirements(tmp_path)  # no setup.cfg there
    assert installed['torch'] == needed['torch'] and 'gradio' not in installed


@pytest.mark.parametrize(
    ('name', 'found', 'status', 'advice'),
    [
        ('torch', ('2.11.0+cpu', ''), 'ok', ''),
        ('torch', ('2.4.1', ''), 'warning', 'pip install "torch>=2.5"'),
        ('torch', ('', "ModuleNotFoundError: No module named 'torch'"), 'error', '"torch>=2.5"'),
        ('torch', ('', 'OSError: x'), 'error', '--force-reinstall torch==2.11.0 torchvision'),
        ('av', ('', "ModuleNotFoundError: No module named 'av'"), 'warning', 'install "av>=2.5"'),
        ('av', ('', 'ImportError: x'), 'warning', '--force-reinstall --no-deps "av>=2.5"'),
        ('onedl-mmdetection', ('', 'OSError: cv'), 'error', 'Mend cv2 first.'),
        ('Pillow', ('', "ModuleNotFoundError: No module named 'cv2.x'"), 'error', 'Mend cv2 first'),
        ('Pillow', ('', "ModuleNotFoundError: No module named 'ftfy'"), 'error', 'install ftfy'),
    ],
)
def test_package(doctor, name, found, status, advice):
    others = {'numpy': ('2.0', ''), 'cv2': ('', 'OSError: cv')}
    out = doctor.judge_package(name, '>=2.5', {**others, doctor.MODULES.get(name, name): found})
    assert out.status == status and advice in out.advice
    assert found[1] in out.detail or 'is not installed' in out.detail


@pytest.mark.parametrize(
    ('said', 'error', 'status', 'detail', 'advice'),
    [
        ([], 'ModuleNotFoundError: mmcv', 'error', 'mmcv', 'Mend what is reported above first.'),
        ([], 'ImportError: under torch 2.11\nCompile', 'error', 'under torch 2.11', 'Compile'),
        ([[False, False]], '', 'ok', 'stand-in', ''),
        ([[True, True]], '', 'ok', 'compiled', ''),
        ([[True, True]], 'RuntimeError: not built', 'error', 'not built', INSTALL_OPS_COMMAND),
        ([[False, True]], '', 'warning', 'slow', INSTALL_OPS_COMMAND),
    ],
    ids=['no-mmcv', 'other-torch', 'cpu', 'gpu-ops', 'no-kernel', 'gpu-plain'],
)
def test_ops(doctor, said, error, status, detail, advice):
    found = doctor.judge_ops([[*values, INSTALL_OPS_COMMAND] for values in said], error)
    assert found.status == status and detail in found.detail and advice in found.advice


@pytest.mark.parametrize(
    ('said', 'error', 'nvidia', 'status', 'advice'),
    [
        (CPU, '', False, 'note', ''),
        (CPU, '', True, 'warning', 'torch==2.11.0'),
        ([['CUDA available', 'True']], 'RuntimeError: driver', True, 'error', 'Update the driver'),
        ([['CUDA available', 'True'], ['GPU 0', 'H200']], '', True, 'ok', ''),
    ],
    ids=['none', 'unseen', 'old-driver', 'fine'],
)
def test_gpu(doctor, said, error, nvidia, status, advice):
    *_, found = doctor.judge_system(said, error, nvidia)
    assert found.status == status and advice in found.advice


def test_room(doctor):
    found = [doctor.judge_room('disk', free, 0.5, 10, 'Free some.') for free in (0.1, 5, 50)]
    assert [finding.status for finding in found] == ['error', 'warning', 'ok']


def test_weights(doctor, tmp_path):
    for name, mib in {'ViT-B-16.pt': 335, 'ViT-L-14-336px.pt': 500}.items():
        with open(tmp_path / name, 'wb') as file:
            file.truncate(mib * 2**20)
    found = {f.name: f for f in doctor.check_weights(ROOT / 'ovavss_mm', tmp_path)}
    assert found['clip_mini.safetensors'].status == found['ViT-B-16.pt'].status == 'ok'
    cut, lacking = found['ViT-L-14-336px.pt'], found['mask2former_r50_coco.pth']
    assert cut.status == 'warning' and '500 of 891 MiB' in cut.detail
    assert lacking.status == 'note' and 'python tools/model_converters' in lacking.advice


def test_data(doctor, tmp_path):
    assert [f.status for f in doctor.check_data(tmp_path)] == ['warning', 'note']
    for name in ('mini', 'AVSBench-semantic'):
        root = archive.write_archive(tmp_path / 'data' / name)
    assert [f.status for f in doctor.check_data(tmp_path)] == ['ok', 'ok']
    (root / 'v2' / 'horse_1').rename(root / 'x')
    _, real = doctor.check_data(tmp_path)
    assert real.status == 'warning' and '1 without a folder v2/horse_1' in real.detail
