# SPDX-License-Identifier: Apache-2.0
"""Weights that the configs read: what they are, and where a person gets them.

The list is ``known_weights.csv`` beside this module; all files belong in ``data/weights``.
"""

import csv
import os.path as osp
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

PACKAGE = osp.dirname(osp.dirname(osp.abspath(__file__)))
PACKAGE_SCHEME = 'ovavss_mm://'


class Weights(NamedTuple):
    """A file of weights."""

    file: str  # its name in data/weights
    title: str  # what it holds
    size_mib: int  # about
    licence: str
    source: str  # an address, or the file from which it is made
    make: str  # the command that makes it from the source; empty for a file that is used as it comes
    option: str  # the config's key that names another place; empty for files that no config reads


@cache
def known_weights() -> dict[str, Weights]:
    """All listed weights by file name."""
    with open(osp.join(osp.dirname(__file__), 'known_weights.csv'), encoding='utf-8', newline='') as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    return {row['file']: Weights(**row | dict(size_mib=int(row['size_mib']))) for row in rows}


def how_to_get(path: str) -> str:
    """Message of an error: what is missing at ``path``, where to get it and where to put it, as far as it is known."""
    weights = known_weights().get(osp.basename(path))
    if weights is None:
        return f'no weights at {path}: data/README.md lists the weights and where to get them'
    lines = [f'no weights at {path}: {weights.title} ({weights.size_mib} MiB, {weights.licence})']
    source = known_weights().get(weights.source)
    if source:
        lines.append(f'get {source.file} from {source.source}, put it at data/weights/{source.file}')
    elif weights.make:
        lines.append(f'get {weights.source} as PUBLISHED.pth')
    else:
        lines.append(f'get it from {weights.source} and put it at {path}')
    if weights.make:
        lines.append(f'convert it: {weights.make}')
    if weights.option:
        lines.append(f'or, if it is elsewhere: --cfg-options {weights.option}=PATH')
    return '\n  '.join(lines)


def is_tag(checkpoint: str) -> bool:
    """Whether ``checkpoint`` names weights of a library, as ``'openai'`` does, and is no path."""
    return not any(mark in checkpoint for mark in './\\')


def is_hub_id(checkpoint: str) -> bool:
    """Whether ``checkpoint`` may be an id of the Hugging Face hub, as ``'facebook/sam-vit-base'`` is."""
    owner, _, name = checkpoint.partition('/')
    plain = all(part and re.fullmatch(r'[\w.-]+', part) and part.strip('.') for part in (owner, name))
    return (
        plain
        and not osp.splitext(name)[1].startswith(('.pt', '.pk', '.np', '.bin', '.safetensors'))
        and not osp.isdir(owner)
    )


def missing_files(config: Any) -> Iterator[str]:
    """Paths of ``init_cfg=dict(type='Pretrained', checkpoint=PATH)`` anywhere in a config that are not there.

    Addresses (``https://``, ``torchvision://``), tags (``openai``) and ids of the hub are no paths.
    """
    if isinstance(config, dict):
        path = config.get('checkpoint') if config.get('type') == 'Pretrained' else None
        if path and '://' not in path and not (is_tag(path) or is_hub_id(path) or osp.exists(path)):
            yield path
        config = list(config.values())
    for item in config if isinstance(config, (list, tuple)) else ():
        yield from missing_files(item)


def package_file(path: str) -> str:
    """Path of a file that ships in the package for ``ovavss_mm://PATH``; other paths as they are."""
    if path.startswith(PACKAGE_SCHEME):
        return osp.join(PACKAGE, *path.removeprefix(PACKAGE_SCHEME).split('/'))
    return path
