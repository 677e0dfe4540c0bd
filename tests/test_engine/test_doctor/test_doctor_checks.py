# SPDX-License-Identifier: Apache-2.0
"""What the checks of the doctor say of machines that are not this one."""

import configparser
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import archive
import pytest
from packaging.requirements import Requirement

from ovavss_mm.compat import DISTRIBUTIONS, INSTALL_OPS_COMMAND, REMOVE_OPS_COMMAND
from ovavss_mm.engine import doctor
from ovavss_mm.engine.doctor import files, findings, machine, packages
from ovavss_mm.engine.doctor.findings import Answer, Finding
from ovavss_mm.utils.known_weights import known_weights

GIB = 2**30
TORCH, AV = packages.PACKAGES[0], next(p for p in packages.PACKAGES if p.module == 'av')
COMMANDS = dict(install=INSTALL_OPS_COMMAND, remove=REMOVE_OPS_COMMAND)
CPU = dict(torch='2.11.0', built='13.0', threads=4)


def gpu(free: float = 100, **more) -> dict:
    """What the child process says of a GPU."""
    card = dict(index=0, name='H200', free=free * GIB, total=140 * GIB, bf16=True)
    return {**card, **more}


# ------------------------------------------------------------------ findings
def test_bad_findings_need_advice():
    with pytest.raises(ValueError, match='a, b: a error needs advice'):
        Finding('a', 'b', 'error', 'broken')
    with pytest.raises(ValueError, match="got 'fine'"):
        Finding('a', 'b', 'fine', '')


def test_a_check_that_breaks_is_a_finding():
    def check():
        yield Finding('x', 'first', 'ok', '')
        raise RuntimeError('one\ntwo')

    first, broken = findings.run_check('x', check)
    assert first.name == 'first' and broken.status == 'warning'
    assert broken.detail == 'the check itself failed: RuntimeError: one' and broken.advice


@pytest.mark.parametrize(
    ('status', 'fit'), [('ok', True), ('note', True), ('warning', True), ('error', False)]
)
def test_only_errors_make_it_unfit(status, fit):
    found = [Finding('x', 'a', 'ok', ''), Finding('x', 'b', status, 'why', 'do\nthis')]
    assert doctor.is_fit(found) is fit
    text = doctor.report(found)
    assert '-> do\n' in text and '-> this' in text
    assert ('can NOT be trained' in text) is not fit


@pytest.mark.parametrize(
    ('code', 'values', 'error'),
    [
        ('print("chatter"); say([1]); say(None)', [[1], None], ''),
        ('say(1); raise ValueError("bad")', [1], 'ValueError: bad'),
        ('say(1); import os; os.abort()', [1], 'the process crashed (signal 6)'),
        ('say(1); import time; time.sleep(60)', [1], 'no answer within 2 s'),
    ],
    ids=['well', 'raises', 'crashes', 'hangs'],
)
def test_children(code, values, error):
    answer = findings.ask_child(code, timeout=2)
    assert answer == Answer(values, error)


# ------------------------------------------------------------------ Python and packages
@pytest.mark.parametrize(
    ('version', 'status'),
    [((3, 9, 1), 'error'), ((3, 11, 0), 'ok'), ((3, 14, 0), 'warning')],
    ids=['old', 'tested', 'new'],
)
def test_python(monkeypatch, version, status):
    monkeypatch.setattr(sys, 'version_info', version)
    (found,) = packages.check_python()
    assert found.status == status and ('make setup' in found.advice) is (status != 'ok')


def test_packages_are_those_of_setup_cfg(repo_root):
    config = configparser.ConfigParser()
    config.read(repo_root / 'setup.cfg')
    required = [Requirement(r) for r in config['options']['install_requires'].split('\n') if r]
    listed = {p.distributions[0]: p.versions for p in packages.PACKAGES}
    assert {r.name: str(r.specifier) for r in required} == listed
    assert all(p.distributions[0] == DISTRIBUTIONS.get(p.module, p.distributions[0])
               for p in packages.PACKAGES)  # fmt: skip


@pytest.mark.parametrize(
    ('package', 'found', 'wrong', 'status', 'advice'),
    [
        (TORCH, ('torch', '2.11.0+cpu'), '', 'ok', ''),
        (TORCH, ('torch', '2.4.1'), '', 'warning', 'install "torch>=2.5"'),
        (TORCH, None, '', 'error', 'install "torch>=2.5"'),
        (TORCH, ('torch', '2.11.0'), 'OSError: x', 'error', 'torch==2.11.0 torchvision==0.26.0'),
        (AV, None, '', 'warning', 'install "av>=12"'),
        (AV, ('av', '18.1.0'), 'ImportError: x', 'warning', '--no-deps av==18.1.0'),
        (packages.PACKAGES[3], ('mmengine', '0.10.4'), '', 'note', ''),
    ],
    ids=['fine', 'old', 'missing', 'broken', 'no-av', 'broken-av', 'original'],
)
def test_package(package, found, wrong, status, advice):
    out = packages.judge_package(package, found, wrong)
    assert out.status == status and advice in out.advice and wrong in out.detail
    assert (sys.executable in out.advice) is bool(advice)


def test_what_fails_with_another_package_is_not_reinstalled():
    wrong = {'torch': 'OSError: libx', 'mmdet': "ModuleNotFoundError: No module named 'scipy.x'",
             'open_clip': 'OSError: libx', 'numpy': ''}  # fmt: skip
    assert [packages.culprit(name, wrong) for name in wrong] == ['', 'scipy', 'torch', '']
    clip = next(p for p in packages.PACKAGES if p.module == 'open_clip')
    found = ('open_clip_torch', '3.3.0')
    assert packages.judge_package(clip, found, 'x', 'torch').advice == 'Mend torch first.'
    assert 'pip install ftfy' in packages.judge_package(clip, found, 'x', 'ftfy').advice


def test_one_module_that_crashes_does_not_hide_the_others(tmp_path, monkeypatch):
    (tmp_path / 'doctor_crash.py').write_text('import os\nos.abort()')
    (tmp_path / 'doctor_raise.py').write_text('raise OSError("no lib\\nmore")')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    names = ('doctor_raise', 'doctor_crash', 'json', 'doctor_gone')
    assert packages.import_all(names) == {
        'doctor_raise': 'OSError: no lib',
        'doctor_crash': 'the process crashed (signal 6)',
        'json': '',
        'doctor_gone': "ModuleNotFoundError: No module named 'doctor_gone'",
    }


@pytest.mark.parametrize(
    ('values', 'error', 'status', 'detail', 'advice'),
    [
        ([], "No module named 'mmcv'", 'error', 'cannot be tried', 'Mend the packages'),
        ([dict(broken='undefined symbol: _Z')], '', 'error', '_Z', REMOVE_OPS_COMMAND),
        ([dict(compiled=False), dict(cuda=False)], '', 'ok', 'stand-in', ''),
        ([dict(compiled=True), dict(cuda=False)], '', 'ok', 'compiled ops', ''),
        ([dict(compiled=True), dict(cuda=True, difference=1e-7)], '', 'ok', 'ran on the GPU', ''),
        ([dict(compiled=True), dict(cuda=True, difference=0.5)], '', 'error', 'by 0.5',
         INSTALL_OPS_COMMAND),
        ([dict(compiled=True), dict(cuda=True)], 'RuntimeError: not built for GPU', 'error',
         'not built', INSTALL_OPS_COMMAND),
        ([dict(compiled=False), dict(cuda=True, difference=0.0)], '', 'warning', 'slower',
         INSTALL_OPS_COMMAND),
    ],
    ids=['no-mmcv', 'other-torch', 'cpu', 'cpu-ops', 'gpu-ops', 'wrong', 'no-kernel', 'gpu-plain'],
)  # fmt: skip
def test_ops(values, error, status, detail, advice):
    known = [COMMANDS] if values else []
    found = packages.judge_ops(Answer(known + values, error))
    assert found.status == status and detail in found.detail and advice in found.advice


# ------------------------------------------------------------------ the machine
@pytest.mark.parametrize(
    ('values', 'error', 'nvidia', 'status', 'detail', 'advice'),
    [
        ([], 'ImportError: x', False, 'note', 'ImportError: x', ''),
        ([CPU], '', False, 'note', 'the real ones need a GPU', ''),
        ([CPU, gpu()], '', True, 'ok', 'H200, 100.0 of 140.0 GiB free, bfloat16 yes', ''),
        ([CPU, gpu(0.5, bf16=False)], '', True, 'warning', 'bfloat16 no', 'nvidia-smi'),
        ([CPU], '', True, 'warning', 'built for CUDA 13.0', 'torch==2.11.0'),
        ([{**CPU, 'built': None}], '', True, 'warning', 'without CUDA', 'torch==2.11.0'),
        ([CPU], 'RuntimeError: driver', True, 'error', 'driver', 'CUDA_VISIBLE_DEVICES='),
    ],
    ids=['no-torch', 'none', 'fine', 'full', 'unseen', 'cpu-build', 'old-driver'],
)
def test_devices(values, error, nvidia, status, detail, advice):
    *_, found = machine.judge_devices(Answer(values, error), 8, nvidia)
    assert found.status == status and detail in found.detail and advice in found.advice


@pytest.mark.parametrize('codec', ['h264', 'aac'])
@pytest.mark.parametrize('action', ['encode', 'decode'])
def test_codecs(codec, action):
    rows = {name: [name, '', ''] for name in ('h264', 'aac')}
    rows[codec] = [codec, *(('UnknownCodec', '') if action == 'encode' else ('', 'UnknownCodec'))]
    found = list(machine.judge_codecs(Answer(['18.1', *rows.values()])))
    (bad,) = [f for f in found if f.status == 'warning']
    assert len(found) == 4 and bad.name.endswith(action) and 'install' in bad.advice
    assert machine._WITHOUT[codec, action] in bad.detail


def test_no_pyav():
    (found,) = machine.judge_codecs(Answer([], "No module named 'av'"))
    assert found.status == 'warning' and "'av'" in found.detail and 'av' in found.advice


@pytest.mark.parametrize(
    ('judge', 'gib', 'status'),
    [
        (machine.judge_disk, 0.1, 'error'),
        (machine.judge_disk, 5, 'warning'),
        (machine.judge_disk, 50, 'ok'),
        (machine.judge_memory, 1, 'error'),
        (machine.judge_memory, 4, 'warning'),
        (machine.judge_memory, 16, 'ok'),
        (machine.judge_shared, 0.0625, 'warning'),
        (machine.judge_shared, 8, 'ok'),
    ],
    ids=lambda value: getattr(value, '__name__', str(value)),
)
def test_room(judge, gib, status):
    found = judge(int(gib * GIB))
    assert found.status == status and bool(found.advice) is (status != 'ok')


# ------------------------------------------------------------------ weights and data
def test_weights(tmp_path):
    sparse = {'ViT-B-16.pt': 335, 'ViT-L-14-336px.pt': 500}
    for name, mib in sparse.items():
        with open(tmp_path / name, 'wb') as file:
            file.truncate(mib * 2**20)
    found = {f.name: f for f in files.check_weights(tmp_path)}
    assert set(found) == {'clip_mini.safetensors', *known_weights()}
    assert found['clip_mini.safetensors'].status == found['ViT-B-16.pt'].status == 'ok'
    cut = found['ViT-L-14-336px.pt']
    assert cut.status == 'warning' and '500.0 MiB of about 891' in cut.detail
    assert 'Remove it' in cut.advice
    lacking = found['mask2former_r50_coco.pth']
    assert lacking.status == 'note' and 'convert it: python tools/' in lacking.advice
    assert str(tmp_path / 'vggish-10086976.pth') in found['vggish-10086976.pth'].advice


def test_the_clip_of_the_mini_world_is_needed(monkeypatch, tmp_path):
    monkeypatch.setattr(files, 'PACKAGE', tmp_path / 'ovavss_mm')
    found = next(files.check_weights(tmp_path))
    assert found.status == 'error' and 'git checkout' in found.advice


def data_of(root: Path) -> list[Finding]:
    """What is said of the mini world and of the real data."""
    return list(files.check_data(root))


def test_data(tmp_path):
    mini, real = data_of(tmp_path)
    assert mini.status == 'warning' and 'mini_world --out data/mini' in mini.advice
    assert real.status == 'note' and 'data/README.md' in real.advice
    for name in ('mini', 'AVSBench-semantic'):
        archive.write_archive(tmp_path / 'data' / name)
    mini, real = data_of(tmp_path)
    assert mini.status == real.status == 'ok'
    assert mini.detail == '14 clips (8 train, 2 val, 4 test), 6 names'


@pytest.mark.parametrize(
    ('harm', 'detail'),
    [
        (lambda root: (root / 'base_names.txt').unlink(), 'has no base_names.txt'),
        (lambda root: (root / 'label2idx.json').write_text('{'), 'JSONDecodeError'),
        (lambda root: (root / 'metadata.csv').write_text('a,b\n1,2\n'), "KeyError: 'label'"),
        (lambda root: (root / 'v2' / 'horse_1').rename(root / 'x'), '1 of 14 clips .* v2/horse_1'),
    ],
    ids=['file', 'json', 'columns', 'clip'],
)
def test_damaged_data(tmp_path, harm, detail):
    harm(archive.write_archive(tmp_path / 'data/mini'))
    mini, _ = data_of(tmp_path)
    assert mini.status == 'warning' and 'rm -r data/mini' in mini.advice
    assert re.search(detail, mini.detail)


def test_findings_go_into_json():
    finding = machine.judge_disk(0)
    assert json.loads(json.dumps(asdict(finding)))['status'] == 'error'
