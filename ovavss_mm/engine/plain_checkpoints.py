# SPDX-License-Identifier: Apache-2.0
"""Reading checkpoints without running anything that they name."""

import os
import os.path as osp
import re
import shlex
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.runner import checkpoint as host
from mmengine.runner.checkpoint import CheckpointLoader

from .plain_values import STAND_INS, to_values

_REFUSED = re.compile(r'GLOBAL (\S+)|Unsupported (?:operand|class) (\S+)|function (\S+)|(<[^>]*>)')
_URLS = ('http://', 'https://')
_COPY = (
    "import sys, torch; c = torch.load(sys.argv[1], map_location='cpu', weights_only=False); "
    "torch.save({'state_dict': c.get('state_dict', c)}, sys.argv[2])"
)


class RefusedCheckpointError(ValueError):
    """A file that is no plain checkpoint; the message says what to do."""


def read_plain(path: str, map_location: Any = None) -> Any:
    """Read a checkpoint of tensors, numbers, strings and containers of these.

    What mmengine puts into a training's checkpoint besides (histories of the log, numpy numbers and arrays) is read
    as data.

    Args:
        path: of a local file.
        map_location: as of :func:`torch.load`.

    Returns:
        What the file holds.

    Raises:
        FileNotFoundError: there is no such file.
        RefusedCheckpointError: it holds more than data, is damaged, or is larger in memory than on disk.
    """
    path = osp.expanduser(path)
    if not osp.isfile(path):
        raise FileNotFoundError(f'there is no checkpoint {path!r}')
    _check_size(path)
    try:
        with torch.serialization.safe_globals(STAND_INS):
            content = torch.load(path, map_location=map_location, weights_only=True)
        return to_values(content)
    except Exception as error:  # a file that is no checkpoint fails in as many ways as there are
        raise RefusedCheckpointError(_complaint(path, str(error), type(error).__name__)) from error


@contextmanager
def plain_checkpoints() -> Iterator[None]:
    """Within, mmengine reads checkpoints with :func:`read_plain` only, whoever asks it to.

    So it is for ``load_from``, ``resume`` and ``init_cfg`` of a model's parts. Addresses are downloaded, then read in
    the same way; stores that need a client of their own (s3, petrel, pavi) are refused.
    """
    before = CheckpointLoader._schemes
    loaders: dict[str, Callable] = dict.fromkeys(before, _load_from_elsewhere)
    loaders |= {'': _load_from_local} | dict.fromkeys(_URLS, _load_from_http)
    loaders |= dict.fromkeys(('modelzoo://', 'torchvision://'), _load_from_torchvision)
    loaders |= dict.fromkeys(('open-mmlab://', 'openmmlab://'), _load_from_openmmlab)
    loaders |= {'mmcls://': _load_from_mmcls}
    # longer prefixes first, as in the host's own table
    CheckpointLoader._schemes = OrderedDict(sorted(loaders.items(), reverse=True))
    try:
        yield
    finally:
        CheckpointLoader._schemes = before


def _load_from_local(filename: str, map_location: Any = None) -> Any:
    """Of mmengine's loaders, the one for files."""
    return read_plain(filename, map_location)


def _load_from_http(filename: str, map_location: Any = None) -> Any:
    """Of mmengine's loaders, the one for addresses; files are kept where torch's hub keeps them."""
    path = osp.join(torch.hub.get_dir(), 'checkpoints', osp.basename(urlparse(filename).path))
    if is_main_process() and not osp.isfile(path):
        os.makedirs(osp.dirname(path), exist_ok=True)
        torch.hub.download_url_to_file(filename, path, progress=False)
    barrier()
    return read_plain(path, map_location)


def _load_from_torchvision(filename: str, map_location: Any = None) -> Any:
    """Of mmengine's loaders, the one for weights of torchvision."""
    name = filename.split('://', 1)[1]
    return _load_from_http(_look_up(host.get_torchvision_models(), name, filename), map_location)


def _load_from_openmmlab(filename: str, map_location: Any = None) -> Any:
    """Of mmengine's loaders, the one for OpenMMLab's old weights."""
    name = filename.split('://', 1)[1]
    name = host.get_deprecated_model_names().get(name, name)
    address = _look_up(host.get_external_models(), name, filename)
    if address.startswith(_URLS):
        return _load_from_http(address, map_location)
    return read_plain(osp.join(host._get_mmengine_home(), address), map_location)


def _load_from_mmcls(filename: str, map_location: Any = None) -> Any:
    """Of mmengine's loaders, the one for classifiers."""
    address = _look_up(host.get_mmcls_models(), filename.split('://', 1)[1], filename)
    return host._process_mmcls_checkpoint(_load_from_http(address, map_location))


def _load_from_elsewhere(filename: str, map_location: Any = None) -> Any:
    """Refuse what has no safe reader."""
    raise RefusedCheckpointError(
        f'{filename} was not read: checkpoints are read from local files and http addresses only; copy it here first'
    )


def _look_up(table: dict[str, str], name: str, filename: str) -> str:
    """Address of a name."""
    if name not in table:
        raise RefusedCheckpointError(f'{filename} was not read: no model {name!r} is known there')
    return table[name]


def _check_size(path: str) -> None:
    """Raise RefusedCheckpointError if the parts of an archive are larger than the file: compressed, or overlapping."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        return  # of the older format, or what torch complains about
    if size > osp.getsize(path):
        raise RefusedCheckpointError(
            f'{path} was not read: its parts take {size} bytes in memory, the file has {osp.getsize(path)}; '
            'torch.save does not compress'
        )


def _complaint(path: str, reason: str, kind: str) -> str:
    """Say what was refused and what to do about it."""
    match = _REFUSED.search(reason)
    if kind != 'UnpicklingError' or match is None:
        first = (reason.strip().splitlines() or [''])[0][:200]
        return f'{path} cannot be read as a checkpoint, is it complete? ({kind}: {first})'
    name = next(filter(None, match.groups()))
    plain = f'{osp.splitext(path)[0]}_plain.pth'
    command = shlex.join(['python', '-c', _COPY, path, plain])
    return (
        f'{path} was not read: it asks for {name[:200]}. A checkpoint that is more than data can run any program '
        'when it is read.\nIf you know where it is from and trust it, make a plain copy of its weights once, and use '
        f'that (load_from; a training cannot be resumed from it):\n  {command}'
    )
