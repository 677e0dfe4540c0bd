# SPDX-License-Identifier: Apache-2.0
"""Between the command line and the runner, for ``tools/train.py`` and ``tools/test.py``."""

import ast
import ctypes
import gc
import os
import os.path as osp
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed, master_only
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmseg.registry import RUNNERS
from torch import nn

from ..compat import concerns_user
from ..utils import safe_loading  # noqa: F401  (mmengine reads checkpoints through it)
from ..utils.files import mend_last_checkpoint
from ..utils.known_weights import how_to_get, known_weights, missing_files
from .cpu_distributed import CPUDistributedDataParallel, init_gloo

# Of glibc's mallopt; 2**25 bytes is the most that the first takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


@RUNNERS.register_module()
class AVRunner(Runner):
    """The runner of mmengine: it runs nothing that a checkpoint names, and has another name for the config it keeps.

    Checkpoints are read as plain data (:mod:`ovavss_mm.utils.safe_loading`), and the text of a config in one
    is not executed.

    ``mim train ovavss_mm NAME.py`` searches the whole checkout for a config by its bare name and
    accepts one hit only. mmengine keeps the resolved config as ``<work_dir>/NAME.py``, which would
    be a second one.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, without what the hosts say of their own affairs.

        Args:
            args: as mmengine's.
            kwargs: as mmengine's.

        Returns:
            The logger.
        """
        logger = super().build_logger(*args, **kwargs)
        logger.addFilter(concerns_user)
        return logger

    def setup_env(self, env_cfg: dict) -> None:
        """As mmengine's; several processes without a GPU meet through gloo.

        Args:
            env_cfg: of the environment.
        """
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            init_gloo(self.launcher)
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """As mmengine's, with a wrapper that runs on a CPU where there is no GPU.

        Args:
            model_wrapper_cfg: of the wrapper, None for the usual one.
            model: to wrap.

        Returns:
            The model, wrapped if there are several processes.
        """
        if self.distributed and model_wrapper_cfg is None and not torch.cuda.is_available():
            model_wrapper_cfg = dict(
                type=CPUDistributedDataParallel, find_unused_parameters=self.cfg.get('find_unused_parameters', False)
            )
        return super().wrap_model(model_wrapper_cfg, model)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model; with ``cfg.amp`` its forward passes are in bfloat16, on a CPU too.

        Args:
            model (nn.Module | dict): or its config.

        Returns:
            The model.
        """
        model = super().build_model(model)
        if self.cfg.get('amp'):
            model.forward = torch.autocast(get_device(), dtype=torch.bfloat16)(model.forward)
        return model

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict:
        """As mmengine's, of plain data.

        mmengine executes the text ``meta['config']`` of a checkpoint that it resumes from; it is left out.

        Args:
            filename: local file or http address.
            args: as mmengine's.
            kwargs: as mmengine's.

        Returns:
            The checkpoint.

        Raises:
            CheckpointError: it holds more than data, or is damaged.
        """
        checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        if isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)
        return checkpoint

    @master_only
    def dump_config(self) -> None:
        """Write the resolved config to ``<work_dir>/<name>_resolved.py``."""
        stem = osp.splitext(osp.basename(self.cfg.filename or self.timestamp))[0]
        self.cfg.dump(osp.join(self.work_dir, f'{stem}_resolved.py'))


def load_config(
    path: str,
    work_dir: str | None = None,
    launcher: str = 'none',
    cfg_options: dict[str, Any] | None = None,
    base: str | None = None,
) -> Config:
    """Read a config and merge the command line into it.

    Args:
        path (str): the config file.
        work_dir (str, optional): where logs and checkpoints go. None takes the config's own, else
            ``work_dirs/<config>``, with a base ``work_dirs/<config>_on_<base>``. Defaults to None.
        launcher (str): of the processes: 'none', 'pytorch', 'slurm' or 'mpi'. Defaults to 'none'.
        cfg_options (dict, optional): values to change, by dotted key. Defaults to None.
        base (str, optional): config that takes the place of the one in ``_base_`` (see
            :func:`base_of`): a path, or the name of a file beside it or in a folder beside its
            folder. Defaults to None.

    Returns:
        Config: the config.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the config has no base that can be replaced.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'There is no config {path!r}. A bare file name is found by mim: mim train ovavss_mm {osp.basename(path)}'
        )
    name = Path(path).stem
    if base is None:
        cfg = Config.fromfile(path)
    else:
        base = _find_base(base, path)
        cfg = _read_on(base, path)
        name = f'{name}_on_{Path(base).stem}'
    cfg.launcher = launcher
    cfg.merge_from_dict(cfg_options or {})
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', name)
    return cfg


def base_of(path: str) -> str | None:
    """Find the config that another one is a delta on: the only entry of ``_base_`` that is whole.

    Parts of configs, in folders named ``_base_``, do not count.

    Args:
        path (str): the config file.

    Returns:
        str: the entry as it stands there; None: there is none, or more than one.
    """
    entries = [entry.value for entry in _base_entries(ast.parse(Path(path).read_text('utf-8')))]
    whole = [entry for entry in entries if '_base_' not in Path(entry).parts]
    return whole[0] if len(whole) == 1 else None


def _base_entries(tree: ast.Module) -> list[ast.Constant]:
    """Find the texts in the value of ``_base_``."""
    values = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '_base_'
    ]
    nodes = [node for value in values for node in ast.walk(value)]
    return [n for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def _find_base(base: str, path: str) -> str:
    """Find a base by its path, or by its name in the folders beside that of a config."""
    found = [base] if osp.isfile(base) else []
    if not found and base == osp.basename(base):
        found = sorted(map(str, Path(path).resolve().parent.parent.glob(f'*/{base}')))
    if not found:
        raise FileNotFoundError(f'There is no config {base!r}, the base for {path}')
    return osp.abspath(found[0])


def _read_on(base: str, path: str) -> Config:
    """Read a config with another base in its ``_base_``, so that ``_base_.name`` is the base's."""
    own = base_of(path)
    if own is None:
        raise ValueError(
            f'{path} cannot be put on another base: its _base_ must have one config that is not in a folder _base_'
        )
    with TemporaryDirectory() as folder:
        copy = Path(folder, osp.basename(path))
        Config._substitute_predefined_vars(path, str(copy))  # fileDirname is that of path
        tree = ast.parse(copy.read_text('utf-8'))
        for entry in _base_entries(tree):
            value = base if entry.value == own else osp.join(osp.dirname(path), entry.value)
            entry.value = osp.abspath(value)
        copy.write_text(ast.unparse(tree), 'utf-8')
        cfg = Config.fromfile(str(copy))
    return Config(cfg.to_dict(), cfg_text=cfg.text, filename=path)


def choose_start(cfg: Config, resume: bool) -> None:
    """Let a training go on from the last checkpoint of its work dir, if wanted and there is one.

    mmengine resumes from ``load_from`` where that is set; here it is what a training starts from.

    Args:
        cfg: the whole config; ``resume`` and ``load_from`` are changed.
        resume: whether the command line asks for it; the config may ask for it too.
    """
    resume = resume or cfg.get('resume', False)
    last = mend_last_checkpoint(cfg.work_dir) if resume else None
    cfg.resume = last is not None
    if last is not None:
        cfg.load_from = last


def check_files(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Check, before anything is built, that the files a run starts from are there.

    Args:
        cfg: the whole config.
        loaders: keys of the dataloaders that the run will use.

    Raises:
        FileNotFoundError: if the root of a dataset, the checkpoint in ``load_from``, or weights that
            a model to be trained starts from are missing.
    """
    if cfg.get('load_from') and _is_missing(cfg.load_from):
        known = osp.basename(cfg.load_from) in known_weights()
        advice = f'\n{how_to_get(cfg.load_from)}' if known else ''
        raise FileNotFoundError(f'There is no checkpoint {cfg.load_from!r}.{advice}')
    for path in missing_files(cfg.get('model')) if 'train_dataloader' in loaders else ():
        raise FileNotFoundError(how_to_get(path))
    for loader in loaders:
        for dataset in iter_datasets(cfg.get(loader)):
            if _is_missing(dataset['data_root']):
                raise FileNotFoundError(_missing_data(dataset['data_root'], loader))


def iter_datasets(cfg: Any) -> Iterator[dict]:
    """Find the dataset configs with a data root, also inside dataset wrappers.

    Args:
        cfg: config of a dataloader or dataset, a list of these, or None.

    Yields:
        Each dict that has a ``data_root``.
    """
    if isinstance(cfg, (list, tuple)):
        for item in cfg:
            yield from iter_datasets(item)
    elif isinstance(cfg, dict):
        if cfg.get('data_root'):
            yield cfg
        for key in ('dataset', 'datasets'):
            yield from iter_datasets(cfg.get(key))


def enable_amp(cfg: Config) -> None:
    """Switch a config to mixed precision: forward passes in bfloat16, in training and testing.

    On a GPU, training takes mmengine's ``AmpOptimWrapper``, which a CPU cannot. float16 is
    ``optim_wrapper.type='AmpOptimWrapper'`` without this.

    Args:
        cfg (Config): the whole config; ``amp`` and ``optim_wrapper`` are changed.
    """
    cfg.amp = True  # see AVRunner
    if torch.cuda.is_available() and cfg.get('optim_wrapper'):
        cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16')


def make_deterministic(cfg: Config) -> None:
    """Have a run compute the same numbers each time: equal seeds give equal checkpoints.

    mmengine's ``randomness.deterministic`` is set: torch uses deterministic algorithms, and stops with an error where
    it has none; cuDNN's algorithms are not chosen by their speed. Equal means on the same kind of machine, with the
    same versions and the same number of threads.

    Args:
        cfg: the whole config; ``randomness`` is changed. A seed is set where there is none.
    """
    randomness = dict(cfg.get('randomness') or {})
    if randomness.get('seed') is None:
        randomness['seed'] = 0
    cfg.randomness = dict(randomness, deterministic=True)
    # cuBLAS reads it when it is first used
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')


def keep_freed_memory() -> None:
    """Have the C library keep memory that is freed, where it is glibc: a tenth of a training step on a CPU.

    By default it hands blocks of megabytes back to the system, which clears them, page by page, before the
    next operation gets them.
    """
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  (raises where there is none)
        for parameter, value in ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**31 - 1)):
            libc.mallopt(parameter, value)


def enable_pictures(cfg: Config, show: bool, wait_time: float, save_dir: str | None) -> None:
    """Have the visualization hook draw while testing.

    Args:
        cfg: the whole config; its visualization hook and visualizer are changed.
        show: whether a window shows the pictures.
        wait_time: how long it shows each, in seconds.
        save_dir: folder for the pictures; None: below the work directory.

    Raises:
        ValueError: if the config has no visualization hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise ValueError('--show and --show-dir need default_hooks.visualization in the config')
    hook.draw = True
    hook.interval = 1
    if show:
        hook.show = True
        hook.wait_time = wait_time
    if save_dir is not None:
        cfg.visualizer.save_dir = save_dir


def save_predictions(cfg: Config, folder: str) -> None:
    """Have the test metrics save the predicted label maps.

    Args:
        cfg: the whole config; its ``test_evaluator`` is changed.
        folder: where the PNG files go.
    """
    evaluator = cfg.test_evaluator
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
        metric.output_dir = folder


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config names with ``runner_type``, by default :class:`AVRunner`.

    Args:
        cfg: the whole config.

    Returns:
        The runner, ready to train or test.
    """
    kind = cfg.get('runner_type')
    return AVRunner.from_cfg(cfg) if kind is None else RUNNERS.build(cfg)


def leave_group() -> None:
    """Leave the process group, where there are several processes, when all have come to the end.

    Nothing may refer to the runner any more. A wrapped model that outlives the group ends gloo's threads while it keeps
    Python from running, for which they may be waiting: the process hangs. One that ends with these threads running
    may be aborted (``terminate called``), and torchrun reports a training that went well as failed.
    """
    if is_distributed():
        gc.collect()  # runner, loops and hooks refer to each other
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def set_local_rank(local_rank: int) -> None:
    """Hand the rank from the command line on, where the launcher has not set it itself.

    Args:
        local_rank: number of the process on its machine.
    """
    os.environ.setdefault('LOCAL_RANK', str(local_rank))


def _is_missing(path: str) -> bool:
    """Say whether a local path is missing; of a URL nothing is known before it is opened."""
    return '://' not in path and not osp.exists(path)


def _missing_data(root: str, loader: str) -> str:
    """Say that the data are missing, and what to do."""
    name = osp.basename(osp.normpath(root))
    if name.startswith('mini'):
        advice = (
            f'Make them: mim run ovavss_mm mini_world --out {root}\n'
            f'(or, in a checkout: python tools/dataset_converters/mini_world.py --out {root})'
        )
    else:
        advice = (
            'data/README.md says how to get them. If they are elsewhere: '
            f'--cfg-options {loader}.dataset.data_root=/path/to/{name}'
        )
    return f'There are no data at {osp.abspath(root)}, which {loader} reads.\n{advice}'
