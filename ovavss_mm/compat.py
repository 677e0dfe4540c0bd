# SPDX-License-Identifier: Apache-2.0
"""The one place that knows about library versions.

``import mmseg.models`` and ``import mmdet.models`` import ``mmcv.ops``, which wants the compiled module ``mmcv._ext``.
An ordinary ``pip install`` of mmcv does not bring it, and a CPU does not need it: where it is absent,
:func:`ensure_mmcv_ops` puts a stand-in in its place.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import io
import logging
import runpy
import sys
import types
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

EXT_NAME = 'mmcv._ext'

# Name of the module -> distribution that brings it, versions that it may have.
SUPPORTED_VERSIONS = {
    'torch': ('torch', '>=2.5'),
    'mmengine': ('onedl-mmengine', '>=0.10.0,<1.0'),
    'mmcv': ('onedl-mmcv', '>=2.1.0,<3.0'),
    'mmseg': ('onedl-mmsegmentation', '>=1.2.2,<2.0'),
    'mmdet': ('onedl-mmdetection', '>=3.3.0,<4.0'),
}

# Registries of mmseg -> the subpackage whose parts are in them.
PARTS = {
    'MODELS': 'models',
    **dict.fromkeys(('DATASETS', 'TRANSFORMS', 'DATA_SAMPLERS'), 'datasets'),
    'METRICS': 'evaluation',
    'VISUALIZERS': 'visualization',
    **dict.fromkeys(('HOOKS', 'RUNNERS', 'OPTIM_WRAPPERS', 'OPTIM_WRAPPER_CONSTRUCTORS'), 'engine'),
}

# Start of the message, category: warnings that do not concern the user of this package.
HOST_WARNINGS = (
    ('``MultiScaleDeformableAttention`` has been moved to', ImportWarning),
    ('torch.meshgrid: in an upcoming release', UserWarning),
    ('The draw is False, it means that the hook for visualization', UserWarning),  # the default
)

# Start of a line that the hosts print when imported, about a service that nobody asked for.
HOST_CHATTER = 'Could not import OneDL'

# Parts of log messages in which the hosts talk of their own affairs, some once per frozen weight.
HOST_LOG_LINES = (
    'is skipped since its requires_grad=False',
    'The prefix is not set in metric class',
    '"FileClient" will be deprecated in future',
    '"HardDiskBackend" is the alias of',
)

# Without --no-cache-dir pip takes the pure-Python wheel that it built before; -g0 leaves out the debugging symbols,
# without which the library is a fraction of its 84 MB.
INSTALL_OPS_COMMAND = (
    'CFLAGS=-g0 pip install --force-reinstall --no-deps --no-cache-dir --no-build-isolation '
    '--no-binary onedl-mmcv onedl-mmcv'
)
REMOVE_OPS_COMMAND = 'pip install --force-reinstall --no-deps --no-cache-dir onedl-mmcv'


def check_versions() -> None:
    """Raise ImportError if a library of :data:`SUPPORTED_VERSIONS` is missing or of another version."""
    for name, (distribution, supported) in SUPPORTED_VERSIONS.items():
        version = installed_version(name)
        if version is None or not SpecifierSet(supported).contains(version, prereleases=True):
            found = 'which is not installed' if version is None else f'but version {version} is installed'
            raise ImportError(
                f'ovavss_mm needs {name} {supported}, {found}. Run: pip install "{distribution}{supported}"'
            )


def installed_version(name: str) -> str | None:
    """``__version__`` in the ``version.py`` of a package, which is not imported; None if there is no such package."""
    root = _package_root(name)
    if root is None or not (root / 'version.py').is_file():
        return None
    return runpy.run_path(str(root / 'version.py'))['__version__']


def silence_host_warnings() -> None:
    """Hide the warnings of :data:`HOST_WARNINGS`: only the hosts' developers can act on them."""
    for message, category in HOST_WARNINGS:
        warnings.filterwarnings('ignore', message=message, category=category)


def import_quietly(name: str) -> types.ModuleType:
    """Import a module by its full name; what is printed meanwhile follows, without :data:`HOST_CHATTER`."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            return importlib.import_module(name)
    finally:
        lines = printed.getvalue().splitlines(keepends=True)
        sys.stdout.writelines(line for line in lines if not line.startswith(HOST_CHATTER))


def register_parts() -> None:
    """Have mmseg's registries import the parts of this package when they are asked for one, as they import mmseg's own.

    So ``import ovavss_mm``, and ``custom_imports`` of it in a config, are enough, and do not wait for torch. Where
    mmseg cannot be imported nothing happens: that is told where it is needed.
    """
    try:
        registries = import_quietly('mmseg.registry')
    except Exception:
        return
    for name, part in PARTS.items():
        registry = getattr(registries, name)
        registry._locations = [*registry._locations, f'ovavss_mm.{part}']
        registry._imported = False  # it may have looked into the others before


def concerns_user(record: logging.LogRecord) -> bool:
    """Filter of a logger that drops the messages of :data:`HOST_LOG_LINES`."""
    message = record.getMessage()
    return not any(part in message for part in HOST_LOG_LINES)


def ensure_mmcv_ops() -> bool:
    """Make ``mmcv.ops`` importable, with the compiled ops if there are any, else with :class:`StandInOps`.

    ``import ovavss_mm`` does so before anything imports ``mmcv.ops``. A second call does nothing.

    Returns:
        bool: True if the compiled ops are there, False if the stand-in serves.

    Raises:
        ImportError: compiled ops are there but cannot be loaded.
    """
    loaded = sys.modules.get(EXT_NAME)
    if loaded is not None:
        return not isinstance(loaded, StandInOps)
    root = _package_root('mmcv')
    # PathFinder looks into the folder; importlib.util.find_spec would import the whole of mmcv.
    spec = PathFinder.find_spec(EXT_NAME, [str(root)]) if root else None
    if spec is None:
        sys.modules[EXT_NAME] = StandInOps()
        if late := [name for name in ('mmseg.models', 'mmdet.models') if name in sys.modules]:
            warnings.warn(
                f'{late[0]} was imported before ovavss_mm and without compiled ops of mmcv: parts of it are crippled '
                'and models cannot be built. Import ovavss_mm first',
                stacklevel=2,
            )
        return False
    _load_compiled_ops(spec.origin)
    return True


class StandInOps(types.ModuleType):
    """Takes the place of ``mmcv._ext`` where no ops were compiled.

    Every op exists, as ``mmcv.ops`` insists on when it is imported, and raises when it is called. Multi-scale
    deformable attention is the exception: mmcv takes its own PyTorch path on a CPU, but calls the op for tensors on a
    GPU, so the op is here, in PyTorch, forward and backward.
    """

    def __init__(self) -> None:
        super().__init__(EXT_NAME, 'Stands in for the compiled ops of mmcv.')
        # Without a loader ``check_ops_exist`` of mmcv rightly says that there are no ops.
        self.__spec__ = ModuleSpec(EXT_NAME, loader=None)
        self.ms_deform_attn_forward = _deform_attn_forward
        self.ms_deform_attn_backward = _deform_attn_backward
        # shown in reports on the environment
        self.get_compiler_version = self.get_compiling_cuda_version = lambda: 'n/a (no compiled ops)'

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):  # the import system asks for __path__, __file__, ...
            raise AttributeError(f'module {EXT_NAME!r} has no attribute {name!r}')

        def op(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError(
                f'The op {name!r} of mmcv was called, but mmcv is installed without compiled ops. '
                f'To compile them for this torch (about 15 minutes), run: {INSTALL_OPS_COMMAND}'
            )

        return op


def _deform_attn_forward(
    value: Any, spatial_shapes: Any, level_start_index: Any, locations: Any, weights: Any, im2col_step: int
) -> Any:
    """Multi-scale deformable attention, called as mmcv calls its compiled op.

    Args:
        value (Tensor): (B, sum of H * W, heads, C / heads).
        spatial_shapes (Tensor): (levels, 2), H and W of each level.
        level_start_index (Tensor): (levels,), not needed here.
        locations (Tensor): (B, queries, heads, levels, points, 2), x and y in 0..1.
        weights (Tensor): (B, queries, heads, levels, points).
        im2col_step (int): not needed here.

    Returns:
        Tensor: (B, queries, C), in the dtype of ``value``.
    """
    import torch
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    warn_slow_attention()
    # Autocast would change the dtype of the result; the compiled op keeps that of the values.
    with torch.autocast(value.device.type, enabled=False):
        return multi_scale_deformable_attn_pytorch(value, spatial_shapes, locations, weights)


def _deform_attn_backward(
    value: Any, shapes: Any, starts: Any, locations: Any, weights: Any, grad_output: Any, *grads: Any, im2col_step: int
) -> None:
    """Write the gradients of value, locations and weights into ``grads``.

    The forward pass is computed once more, as mmcv hands on the inputs only.
    """
    import torch

    inputs = [x.detach().requires_grad_() for x in (value, locations, weights)]
    with torch.enable_grad():
        output = _deform_attn_forward(inputs[0], shapes, starts, inputs[1], inputs[2], im2col_step)
    for target, grad in zip(grads, torch.autograd.grad(output, inputs, grad_output), strict=True):
        target.copy_(grad)


@functools.cache
def warn_slow_attention() -> None:
    """Say, once in a process, that the slow path is taken and what makes it fast."""
    warnings.warn(
        'mmcv is installed without compiled ops: deformable attention runs in PyTorch, which is right but slower on a '
        f'GPU. To compile the ops for this torch (about 15 minutes), run: {INSTALL_OPS_COMMAND}',
        stacklevel=2,
    )


def _load_compiled_ops(path: str | None) -> None:
    """Import ``mmcv._ext``; if that fails, say which file is at fault and what to do."""
    import torch  # brings the libraries that the ops are linked to

    try:
        importlib.import_module(EXT_NAME)
    except ImportError as error:
        raise ImportError(
            f'The compiled ops of mmcv cannot be loaded under torch {torch.__version__}: '
            'most likely they were compiled for another torch.\n'
            f'  file: {path}\n  error: {error}\n'
            f'Compile them for this torch (about 15 minutes): {INSTALL_OPS_COMMAND}\n'
            f'or do without them, which is enough on a CPU: {REMOVE_OPS_COMMAND}'
        ) from error


def _package_root(name: str) -> Path | None:
    """Find the folder of a top-level package without importing it."""
    spec = importlib.util.find_spec(name)
    places = [*(spec.submodule_search_locations or ())] if spec else []
    return Path(places[0]) if places else None
