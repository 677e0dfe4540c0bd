# SPDX-License-Identifier: Apache-2.0
"""The package as ``mim`` finds it: in a checkout, and installed from a wheel."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from mim.utils import get_installed_path, recursively_find

NOT_PACKAGED = {'data', 'work_dirs', 'build', 'dist', '__pycache__'}


def run(*command: str | Path, cwd: Path, check: bool = True) -> str:
    """Run a command without the checkout on the path and return all it printed."""
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**env, 'PIP_NO_CACHE_DIR': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=300,
    )
    assert not check or result.returncode == 0, result.stdout
    return result.stdout


def files_below(root: Path) -> set[str]:
    """List the files of a folder, as POSIX paths relative to it, without Python's leavings."""
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


# ------------------------------------------------------------------ a wheel, and a place for it
@pytest.fixture(scope='module')
def wheel(tmp_path_factory, repo_root) -> Path:
    """Build a source distribution from a copy of the checkout, and the wheel from that."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    source.mkdir()
    for entry in repo_root.iterdir():
        if entry.is_dir() and entry.name not in NOT_PACKAGED and not entry.name.startswith('.'):
            ignored = shutil.ignore_patterns('__pycache__')
            shutil.copytree(entry, source / entry.name, ignore=ignored)
        elif entry.is_file():
            shutil.copy(entry, source)
    build = f'from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})'
    run(sys.executable, '-c', build, cwd=source)
    (sdist,) = folder.glob('ovavss_mm-*.tar.gz')
    options = ('--no-deps', '--no-build-isolation', '--no-index', '-w', folder)
    run(sys.executable, '-m', 'pip', 'wheel', *options, sdist, cwd=folder)
    (path,) = folder.glob('ovavss_mm-*.whl')
    return path


@pytest.fixture(scope='module')
def wheel_python(wheel, tmp_path_factory) -> Path:
    """Install the wheel into an environment of its own; return its Python."""
    folder = tmp_path_factory.mktemp('environment')
    run(sys.executable, '-m', 'venv', '--without-pip', folder, cwd=folder)
    python = folder / 'bin' / 'python'
    find = 'import sysconfig; print(sysconfig.get_paths()["purelib"])'
    site = Path(run(python, '-c', find, cwd=folder).strip())
    # The requirements come from the environment of the tests; its editable install does not, as
    # what a .pth file adds to the path is not searched for .pth files.
    (site / 'requirements.pth').write_text(os.path.dirname(os.path.dirname(pytest.__file__)))
    options = ('install', '--no-deps', '--no-index', wheel)
    run(sys.executable, '-m', 'pip', '--python', python, *options, cwd=folder)
    return python


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """An empty folder outside the checkout."""
    return tmp_path


def test_wheel_carries_everything(wheel, repo_root):
    """Modules with their data, and tools and configs in both places where mim looks for them."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        for folder in ('configs', 'tools'):
            for name in files_below(repo_root / folder):
                content = (repo_root / folder / name).read_bytes()
                assert archive.read(f'ovavss_mm/.mim/{folder}/{name}') == content
                assert archive.read(f'.ovavss_mm/.mim/{folder}/{name}') == content
    assert {'ovavss_mm/.mim/model-index.yml', '.ovavss_mm/.mim/model-index.yml'} <= packed
    assert {f'ovavss_mm/{name}' for name in files_below(repo_root / 'ovavss_mm')} <= packed
    assert not [name for name in packed if '__pycache__' in name or name.startswith('tests')]


def test_wheel_has_no_console_scripts(wheel):
    """They would come first in the installed RECORD, where mim looks for the package's folder."""
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith('entry_points.txt')]


def test_wheel_leaves_the_checkout_clean(wheel):
    """No second copy of a config, which mim could mistake for the first."""
    copies = [path for path in (wheel.parent / 'source').rglob('*') if path.name in ('.mim', 'build')]
    assert not copies


def test_mim_run_from_a_wheel(wheel_python, elsewhere):
    """A script is found by its name in the installed wheel, and explains itself."""
    printed = run(wheel_python, '-m', 'mim', 'run', 'ovavss_mm', 'train', '--', '-h', cwd=elsewhere)
    assert f'Use the script {wheel_python.parents[1]}' in printed
    assert 'mim train ovavss_mm ovavss_mini.py' in printed


def test_mim_train_from_a_wheel_takes_a_bare_config_name(wheel_python, elsewhere):
    """The config is found in the wheel; what is missing here is the data, and mim says so."""
    command = (wheel_python, '-m', 'mim', 'train', 'ovavss_mm', 'ovavss_mini.py')
    printed = run(*command, cwd=elsewhere, check=False)
    assert f'There are no data at {elsewhere / "data" / "mini"}' in printed
    assert 'mim run ovavss_mm mini_world --out data/mini' in printed
    assert 'Could not import' not in printed  # what the hosts say of themselves
    assert not (elsewhere / 'work_dirs').exists()


# ------------------------------------------------------------------ the checkout
def test_mim_finds_the_checkout(repo_root):
    """An editable install leads to the root of the checkout, where tools/ is."""
    assert Path(get_installed_path('ovavss_mm')) == repo_root


def test_config_names_are_unique(repo_root):
    """In the whole checkout, as mim searches it: two files of a config's name are an error."""
    found = Counter()
    for root, folders, files in os.walk(repo_root, followlinks=True):
        if Path(root) == repo_root:  # results and data: large, and not ours to name
            folders[:] = [name for name in folders if name not in ('data', 'work_dirs', '.git')]
        found.update(files)
    configs = [path for path in (repo_root / 'configs').rglob('*.py') if '_base_' not in path.parts]
    assert configs
    assert {path.name: found[path.name] for path in configs} == {path.name: 1 for path in configs}


def test_base_config_names_are_unique_among_configs(repo_root):
    """Base configs are not run by name, but one name must not mean two of them."""
    names = Counter(path.name for path in (repo_root / 'configs').rglob('*.py'))
    assert [name for name, count in names.items() if count > 1] == []


def test_mim_looks_a_config_up_in_the_checkout(repo_root):
    """The very function of mim finds the mini config, and nothing else."""
    found = recursively_find(str(repo_root / 'configs'), 'ovavss_mini.py', followlinks=True)
    assert found == [str(repo_root / 'configs' / 'mini' / 'ovavss_mini.py')]


@pytest.mark.parametrize('name', ['train', 'test'])
def test_help_is_quick_and_asks_for_no_device(repo_root, elsewhere, name):
    """mim asks for it before each training, and adds device options if it finds one there."""
    script = repo_root / 'tools' / f'{name}.py'
    code = f"""
import runpy, sys
sys.argv = ['{name}.py', '-h']
try:
    runpy.run_path({str(script)!r}, run_name='__main__')
except SystemExit as stop:
    assert not stop.code, stop.code
print('torch was imported' if 'torch' in sys.modules else 'light')
"""
    printed = run(sys.executable, '-c', code, cwd=elsewhere)
    assert printed.endswith('light\n')
    assert 'examples:' in printed and '--gpus' not in printed and '--device' not in printed


def test_model_index_is_valid(repo_root):
    """It loads, and every config that it names is there."""
    from modelindex.load_model_index import load

    index = load(str(repo_root / 'model-index.yml'))
    index.build_models_with_collections()
    assert index.collections[0].name == 'OV-AVSS'
    for model in index.models or []:
        assert (repo_root / model.config).is_file(), model.config
        # no address: mim splits it at commas, and asks the network for what begins with http
        assert re.match('[a-z ]+: ', model.weights) and ',' not in model.weights, model.weights


@pytest.mark.parametrize(
    ('config', 'words'),
    [
        ('ovavss_mini_hearing', '--checkpoint ovavss_mm://mini_world/ovavss_mini_hearing.safetensors'),
        ('ovavss_r50_release', 'to get by hand: the R50 checkpoint of https://github.com/.* as data/README.md says'),
    ],
)
def test_mim_download_says_where_weights_are(elsewhere, config, words):
    """It has nothing to fetch, and shows what the model index says."""
    command = (sys.executable, '-m', 'mim', 'download', 'ovavss_mm', '--config', config, '--dest', 'here')
    assert re.search(words, run(*command, cwd=elsewhere, check=False))


# ------------------------------------------------------------------ the whole way, from both installs
@pytest.fixture(scope='module')
def world(tmp_path_factory, repo_root) -> Path:
    """A mini world of a few clips."""
    folder = tmp_path_factory.mktemp('world') / 'mini'
    sizes = ('--train', '4', '--val', '1', '--test', '2', '--workers', '1')
    tool = repo_root / 'tools/dataset_converters/mini_world.py'
    run(sys.executable, tool, '--out', folder, *sizes, cwd=repo_root)
    return folder


@pytest.mark.parametrize('install', ['wheel', 'checkout'])
def test_mim_trains_resumes_and_tests(install, request, world, repo_root, elsewhere):
    """By bare config name, in another folder: train, test; from a wheel, go on with --resume and --amp, too."""
    wheel = install == 'wheel'
    python = request.getfixturevalue('wheel_python') if wheel else sys.executable
    loaders = [f'{name}_dataloader' for name in ('train', 'val', 'test')]
    options = [f'{loader}.dataset.data_root={world}' for loader in loaders]
    options += [f'{loader}.{key}' for loader in loaders for key in ('num_workers=0', 'persistent_workers=False')]
    options += ['train_dataloader.batch_size=2', 'default_hooks.checkpoint.interval=1']
    mim = (python, '-m', 'mim')
    common = ('ovavss_mini_hearing.py', '--work-dir', 'out')
    train = (*mim, 'train', 'ovavss_mm', *common)
    run(*train, '--cfg-options', 'train_cfg.max_iters=2', *options, cwd=elsewhere)
    last = 2
    if wheel:  # mim and the tools are the same in a checkout
        again = run(*train, '--resume', '--amp', '--cfg-options', 'train_cfg.max_iters=3', *options, cwd=elsewhere)
        assert 'resumed epoch: 0, iter: 2' in again
        shipped = repo_root / 'ovavss_mm/mini_world/ovavss_mini_hearing.safetensors'
        shutil.copy(shipped, elsewhere / 'weights.safetensors')
        test = (*mim, 'test', 'ovavss_mm', *common, '--checkpoint', 'weights.safetensors', '--cfg-options', *options)
        assert float(re.search(r' mIoU: ([\d.]+)', run(*test, cwd=elsewhere))[1]) > 50, 'the model of the package'
        last = 3
    checkpoint = elsewhere / 'out' / f'iter_{last}.pth'
    assert checkpoint.is_file()
    tested = run(
        *mim, 'test', 'ovavss_mm', *common, '--checkpoint', checkpoint, '--cfg-options', *options, cwd=elsewhere
    )
    assert 'Harmonic' in tested and 'red-star' in tested
    where = 'site-packages' if wheel else str(repo_root / 'tools')
    assert where in tested
