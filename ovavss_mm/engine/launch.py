# SPDX-License-Identifier: Apache-2.0
"""Between the command line and the runner, for ``tools/train.py`` and ``tools/test.py``."""

import ast
import ctypes
import os
import os.path as osp
import timeit
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import RUNNERS

from ..utils.config_check import apply_options, check_config
from ..utils.files import FolderLock, mend_last_checkpoint
from ..utils.known_weights import how_to_get, known_weights, missing_files
from .runner import AVRunner

_RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')  # variables that launchers set


def load_config(
    path: str,
    work_dir: str | None = None,
    launcher: str = 'none',
    cfg_options: dict[str, Any] | None = None,
    base: str | None = None,
) -> Config:
    """Read a config, merge the command line into it, and check that its keys are read by something.

    Args:
        path (str): the config file.
        work_dir (str, optional): where logs and checkpoints go. Defaults to None, which takes the config's own, else
            ``work_dirs/<config>``, with a base ``work_dirs/<config>_on_<base>``.
        launcher (str): of the processes: 'none', 'pytorch', 'slurm' or 'mpi'. Defaults to 'none'.
        cfg_options (dict, optional): values to change, by dotted key. Defaults to None.
        base (str, optional): config that takes the place of the one in ``_base_`` (see :func:`base_of`): a path, or the
            name of a file beside it or in a folder beside its folder. Defaults to None.

    Returns:
        Config: the config.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the config has no base that can be replaced.
        ConfigError: nothing reads a key, or a part does not take it, see :func:`check_config`.
    """
    if not osp.isfile(path):
        advice = f'A bare file name is found by mim: mim train ovavss_mm {osp.basename(path)}'
        raise FileNotFoundError(f'There is no config {path!r}. {advice}')
    name = Path(path).stem
    if base is None:
        cfg = Config.fromfile(path)
    else:
        base = _find_base(base, path)
        cfg = _read_on(base, path)
        name = f'{name}_on_{Path(base).stem}'
    cfg.launcher = launcher
    apply_options(cfg, cfg_options or {})
    check_config(cfg)
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', name)
    return cfg


def base_of(path: str) -> str | None:
    """Find the config that another one is a delta on: the only entry of ``_base_`` outside folders named ``_base_``.

    Returns:
        str: the entry as it stands there; None: there is none, or more than one.
    """
    _, entries = _parse(path)
    whole = [entry for entry in entries if '_base_' not in Path(entry).parts]
    return whole[0] if len(whole) == 1 else None


def _parse(path: str) -> tuple[ast.Module, list[str]]:
    """Syntax tree of a config without its ``_base_``, and the entries of that."""
    tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    entries: list[str] = []
    for node in list(tree.body):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', None) == '_base_':
            value = ast.literal_eval(node.value)
            entries += [value] if isinstance(value, str) else value
            tree.body.remove(node)
    return tree, entries


def _find_base(base: str, path: str) -> str:
    """Find a base by its path, or by its name in the folders beside that of a config."""
    beside = sorted(Path(path).resolve().parent.parent.glob(f'*/{base}')) if base == osp.basename(base) else []
    for found in [base, *map(str, beside)]:
        if osp.isfile(found):
            return osp.abspath(found)
    raise FileNotFoundError(f'There is no config {base!r}, the base for {path}')


def _read_on(base: str, path: str) -> Config:
    """Read a config with another base in the place of its own."""
    own = base_of(path)
    if own is None:
        raise ValueError(
            f'{path} cannot be put on another base: its _base_ must have one config that is not in a folder _base_'
        )
    tree, entries = _parse(path)
    folder = Path(path).resolve().parent
    bases = [base if entry == own else str(folder / entry) for entry in entries]
    cfg = Config.fromstring(f'_base_ = {bases!r}\n{ast.unparse(tree)}', '.py')
    return Config(cfg.to_dict(), cfg_text=cfg.text, filename=path)


@contextmanager
def hold_work_dir(work_dir: str, launcher: str = 'none') -> Iterator[None]:
    """Within, no other training starts in a work dir; tests may.

    The first of several processes holds it for all. The system frees it when the process has ended, however it ends.

    Args:
        work_dir (str): is made if it is not there.
        launcher (str): as of :func:`load_config`. Defaults to 'none'.

    Raises:
        ValueError: another process holds it.
    """
    if int(os.environ.get(_RANKS.get(launcher, ''), 0)) != 0:
        yield
        return
    lock = FolderLock(Path(work_dir) / '.lock')
    if not lock.take():
        raise ValueError(
            f'{lock.holder()} is training in {osp.abspath(work_dir)}: wait for its end, end it, or choose '
            'another --work-dir'
        )
    if hasattr(os, 'register_at_fork'):
        os.register_at_fork(after_in_child=lock.free)  # loader processes outlive a killed training by seconds
    try:
        yield
    finally:
        lock.free()


def choose_start(cfg: Config, resume: bool) -> None:
    """Set ``resume`` and ``load_from``: go on from the last checkpoint of the work dir, if wanted and there is one.

    mmengine resumes from ``load_from`` where that is set; here it is what a training starts from.

    Args:
        cfg (Config): the whole config.
        resume (bool): whether the command line asks for it; the config may ask for it too.
    """
    last = mend_last_checkpoint(cfg.work_dir) if resume or cfg.get('resume') else None
    cfg.resume = last is not None
    if last is not None:
        cfg.load_from = last


def check_files(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Check, before anything is built, that the files a run starts from are there.

    Args:
        cfg (Config): the whole config.
        loaders (tuple[str, ...]): keys of the dataloaders that the run will use.

    Raises:
        FileNotFoundError: the root of a dataset, the checkpoint in ``load_from``, or weights that a model to be
            trained starts from are missing.
    """
    start = cfg.get('load_from')
    if start and _is_missing(start):
        advice = f'\n{how_to_get(start)}' if osp.basename(start) in known_weights() else ''
        raise FileNotFoundError(f'There is no checkpoint {start!r}.{advice}')
    for path in missing_files(cfg.get('model')) if 'train_dataloader' in loaders else ():
        raise FileNotFoundError(how_to_get(path))
    for loader in loaders:
        for dataset in iter_datasets(cfg.get(loader)):
            if _is_missing(dataset['data_root']):
                raise FileNotFoundError(_missing_data(dataset['data_root'], loader))


def iter_datasets(cfg: Any) -> Iterator[dict]:
    """Find the dataset configs with a ``data_root`` in a dataloader's or dataset's, also inside dataset wrappers."""
    if isinstance(cfg, (list, tuple)):
        for item in cfg:
            yield from iter_datasets(item)
    elif isinstance(cfg, dict):
        if cfg.get('data_root'):
            yield cfg
        for key in ('dataset', 'datasets'):
            yield from iter_datasets(cfg.get(key))


def _is_missing(path: str) -> bool:
    """Say whether a local path is missing; of a URL nothing is known before it is opened."""
    return '://' not in path and not osp.exists(path)


def _missing_data(root: str, loader: str) -> str:
    """Say that the data are missing, and what to do."""
    name = osp.basename(osp.normpath(root))
    if name.startswith('mini'):
        advice = f'Make them: mim run ovavss_mm mini_world --out {root}\n(or, in a checkout: python '
        advice += f'tools/dataset_converters/mini_world.py --out {root})'
    else:
        advice = 'data/README.md says how to get them. If they are elsewhere: --cfg-options '
        advice += f'{loader}.dataset.data_root=/path/to/{name}'
    return f'There are no data at {osp.abspath(root)}, which {loader} reads.\n{advice}'


def enable_amp(cfg: Config) -> None:
    """Switch a config to mixed precision: forward passes in bfloat16, see :class:`AVRunner`.

    On a GPU, training takes mmengine's ``AmpOptimWrapper``, which a CPU cannot. float16 is
    ``optim_wrapper.type='AmpOptimWrapper'`` without this. Not all CPUs gain by bfloat16: a warning says so.
    """
    cfg.amp = True
    if torch.cuda.is_available():
        if cfg.get('optim_wrapper'):
            cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16')
        return
    full, half = (product_speed(dtype) for dtype in (torch.float32, torch.bfloat16))
    if half < full:
        warnings.warn(
            f'--amp is slower on this CPU: it multiplies matrices in bfloat16 at {half:.0f} GFLOP/s, in float32 at '
            f'{full:.0f}, {full / half:.1f} times as fast. Leave --amp out, unless it is for the numbers',
            stacklevel=2,
        )


def product_speed(dtype: torch.dtype, size: int = 512) -> float:
    """Speed in GFLOP/s at which the CPU multiplies square matrices of ``size``: the best of a few tries."""
    matrix = torch.ones(size, size, dtype=dtype)
    return 2e-9 * size**3 / min(timeit.repeat(lambda: matrix @ matrix, number=1, repeat=20))


def make_deterministic(cfg: Config) -> None:
    """Have a run compute the same numbers each time: equal seeds give equal checkpoints.

    mmengine's ``randomness.deterministic`` is set; torch then stops with an error where it has no deterministic
    algorithm. A seed is set where there is none. Equal means on the same kind of machine, with the same versions and
    the same number of threads.
    """
    randomness = dict(cfg.get('randomness') or {}, deterministic=True)
    if randomness.get('seed') is None:
        randomness['seed'] = 0
    cfg.randomness = randomness
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS reads it when it is first used


def keep_freed_memory() -> None:
    """Have the C library keep memory that is freed, where it is glibc: a tenth of a training step on a CPU.

    By default it hands blocks of megabytes back to the system, which clears them before the next operation gets them.
    """
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  (raises where there is none)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: none of them is a mapping of its own
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never


def enable_pictures(cfg: Config, show: bool, wait_time: float, save_dir: str | None) -> None:
    """Have the visualization hook draw each clip of a test.

    A window shows each picture for ``wait_time`` seconds, or they go into ``save_dir``, by default below the work dir.

    Raises:
        ValueError: the config has no visualization hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise ValueError('--show and --show-dir need default_hooks.visualization in the config')
    hook.update(draw=True, interval=1)
    if show:
        hook.update(show=True, wait_time=wait_time)
    if save_dir is not None:
        cfg.visualizer.save_dir = save_dir


def save_predictions(cfg: Config, folder: str) -> None:
    """Have the test metrics save the predicted label maps in a folder, as PNG files."""
    evaluator = cfg.test_evaluator
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
        metric.output_dir = folder


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config names with ``runner_type``, by default :class:`AVRunner`."""
    return RUNNERS.build(cfg) if cfg.get('runner_type') else AVRunner.from_cfg(cfg)
