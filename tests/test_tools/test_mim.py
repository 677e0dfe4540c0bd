# SPDX-License-Identifier: Apache-2.0
"""The package as ``mim`` finds it: in a checkout, and installed from a wheel."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from email import message_from_bytes
from pathlib import Path

import pytest
from mim.utils import get_installed_path, recursively_find

NOT_PACKAGED = {'data', 'work_dirs', 'build', 'dist', '__pycache__'}

# What GitHub's workflows say of the place where they build.
GITHUB = dict(GITHUB_SERVER_URL='https://example.org', GITHUB_REPOSITORY='we/ovavss', GITHUB_REF_NAME='v1.2.3')

# In an environment: notes the files of all modules that its processes have imported.
WATCH = """
import atexit, sys
def note():
    files = [getattr(module, '__file__', None) for module in list(sys.modules.values())]
    with open({path!r}, 'a') as file:
        file.writelines(f'{{path}}\\n' for path in files)
atexit.register(note)
"""


def run(*command: str | Path, cwd: Path, check: bool = True, **variables: str) -> str:
    """Run a command without the checkout on the path and return all it printed."""
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**env, 'PIP_NO_CACHE_DIR': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1', **variables},
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
    """Build a source distribution from a copy of the checkout, and the wheel from that, as GitHub's workflow does."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    source.mkdir()
    for entry in repo_root.iterdir():
        hidden = entry.name.startswith('.') and entry.name not in ('.ci', '.github')
        if entry.is_dir() and entry.name not in NOT_PACKAGED and not hidden:
            ignored = shutil.ignore_patterns('__pycache__')
            shutil.copytree(entry, source / entry.name, ignore=ignored)
        elif entry.is_file():
            shutil.copy(entry, source)
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder / 'dist', source, cwd=folder, **GITHUB)
    (path,) = folder.glob('dist/ovavss_mm-*.whl')
    return path


@pytest.fixture(scope='module')
def wheel_python(wheel, tmp_path_factory) -> Path:
    """Install the wheel, and what it asks for, into an environment of its own; return its Python.

    The requirements come from the environment of the tests, without this package, which is the checkout there.
    """
    folder = tmp_path_factory.mktemp('environment')
    run(sys.executable, '-m', 'venv', '--without-pip', folder, cwd=folder)
    python = folder / 'bin' / 'python'
    find = 'import sysconfig; print(sysconfig.get_paths()["purelib"])'
    site = Path(run(python, '-c', find, cwd=folder).strip())
    (folder / 'requirements').mkdir()
    for entry in Path(pytest.__file__).parents[1].iterdir():
        if 'ovavss_mm' not in entry.name:
            (folder / 'requirements' / entry.name).symlink_to(entry)
    (site / 'requirements.pth').write_text(f'{folder / "requirements"}\nimport watch\n')
    (site / 'watch.py').write_text(WATCH.format(path=str(folder / 'imported')))
    pip = (sys.executable, '-m', 'pip', '--python', python)
    run(*pip, 'install', '--no-index', wheel, cwd=folder)
    run(*pip, 'check', cwd=folder)
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


def test_the_index_takes_the_package(wheel):
    """Both files pass its checks; extras, licence and addresses are there, and no link of the README is relative."""
    run(sys.executable, '-m', 'twine', 'check', '--strict', *wheel.parent.iterdir(), cwd=wheel.parent)
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith('.dist-info/METADATA')]
        metadata = message_from_bytes(archive.read(path))
    extras = {'web', 'export', 'onnx', 'docs', 'foundation', 'identities', 'tensorboard'}
    assert extras <= set(metadata.get_all('Provides-Extra'))
    assert metadata['License-Expression'] == 'Apache-2.0'
    assert 'https://example.org/we/ovavss' in metadata['Home-page']
    links = re.findall(r'\]\(([^)]+)\)', metadata.get_payload())
    assert 'https://example.org/we/ovavss/raw/v1.2.3/docs/images/contact_sheet.png' in links
    assert 'https://example.org/we/ovavss/blob/v1.2.3/docs/extend.md' in links
    assert [link for link in links if not re.match('https?://|#', link)] == []


def test_mim_labels_a_video_from_a_wheel(wheel_python, elsewhere, repo_root):
    """In an empty folder, with the model of the package and a clip that it makes; the checkout is not imported."""
    mim = (wheel_python, '-m', 'mim', 'run', 'ovavss_mm')
    run(*mim, 'mini_world', '--video', 'mini.mp4', '--seconds', '3', '--sounding', 'red-square', cwd=elsewhere)
    printed = run(*mim, 'infer', 'mini.mp4', '--classes', 'red-square', '--out-dir', 'out', cwd=elsewhere)
    assert f'Use the script {wheel_python.parents[1]}' in printed
    found = json.loads((elsewhere / 'out/pred/mini.json').read_text())
    assert found['weights'].startswith(str(wheel_python.parents[1])) and 'red-square' in found['names']
    assert (elsewhere / 'out/vis/mini.mp4').is_file() and len(list((elsewhere / 'out/pred/mini').iterdir())) == 3
    imported = (wheel_python.parents[1] / 'imported').read_text().splitlines()
    assert any(path.endswith('site-packages/ovavss_mm/apis/inferencer.py') for path in imported)
    assert [path for path in imported if path.startswith((f'{repo_root}/ovavss_mm', f'{repo_root}/tools'))] == []


USER = """
from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.datasets.vocabulary import Vocabulary

inferencer = AVSegInferencer('ovavss_mini_hearing', weights='weights.safetensors', device='cpu')
results = inferencer('clip.mp4', classes=['dog', 'cat'], out_dir='out')
names: list[str] = [name for prediction in results['predictions'] for name in prediction['names']]
words: tuple[str, ...] = Vocabulary(names, synonyms={'dog': ['puppy']}).synonyms['dog']
AVSegInferencer('ovavss_mini_hearing', device=0)  # type: ignore[arg-type]
inferencer('clip.mp4', classes=3)  # type: ignore[arg-type]
inferencer.label('clip.mp4')  # type: ignore[attr-defined]
number: int = Vocabulary(names).words  # type: ignore[assignment]
"""


def test_scripts_see_the_types_of_the_wheel(wheel_python, elsewhere):
    """mypy accepts what is right, and finds each mistake that is marked: a mark without one is an error, too."""
    (elsewhere / 'user.py').write_text(USER)
    skipped = 'torch numpy av scipy PIL rich transformers ovavss_mm.models ovavss_mm.engine ovavss_mm.evaluation'
    modules = ','.join(f'{name}.*' for name in skipped.split())  # large, and not what the script is about
    config = ('[mypy]', 'warn_unused_ignores = True', 'ignore_missing_imports = True')
    (elsewhere / 'mypy.ini').write_text('\n'.join((*config, f'[mypy-{modules}]', 'follow_imports = skip')))
    mypy = (sys.executable, '-m', 'mypy', '--python-executable', wheel_python, '--cache-dir', elsewhere / 'cache')
    assert 'Success' in run(*mypy, 'user.py', cwd=elsewhere)


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
