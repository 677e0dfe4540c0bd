# SPDX-License-Identifier: Apache-2.0
"""Writes a model into a folder that holds all it needs (docs/pretrained.md)."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from inspect import isclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from safetensors.torch import save_file
from torch import Tensor

from ..datasets.transforms import LoadClipAudio, PackAVSegInputs
from ..models.classifiers.open_vocabulary import OpenVocabularyClassifier
from ..models.layers.frozen import FrozenModule, of_package, whole_state
from ..utils.files import atomic_path
from ..utils.known_weights import PACKAGE_SCHEME
from ..utils.text import one_line
from ..version import __version__
from .loading import names_of_training
from .model_card import ModelCard, source_of, write_card
from .model_folder import (
    CARD,
    CONFIG,
    FORMAT,
    KEYS,
    LIBRARY,
    PREPROCESSING,
    SCHEME,
    VOCABULARY,
    WEIGHTS,
    checked_name,
    find_part,
    read_model_folder,
    sample_rates,
    walk,
)

DTYPES = ('float32', 'float16')
Files = Mapping[str, str | Path | Callable[[Path], object]]


def save_pretrained(inferencer: Any, folder: str | Path, card: ModelCard | None = None, dtype: str = 'float32') -> Path:
    """Write the model of an inferencer into a folder, which is all that another computer needs.

    Args:
        inferencer (AVSegInferencer): its weights, those of frozen parts included, go into the folder; those that ship
            with this package are named only.
        folder (str | Path): where; it must not be there, or be empty.
        card (ModelCard, optional): licence and figures for the model card. Defaults to None, nothing is known.
        dtype (str): of the weights, 'float32', whose outputs are exactly those of the inferencer, or 'float16'.
            Defaults to 'float32'.

    Returns:
        Path: the folder.

    Raises:
        FileExistsError: it is there and not empty.
        ValueError: another dtype, weights that float16 cannot hold, or a model that cannot be kept whole, as one whose
            tokenizer is on a hub.
    """
    check_target(folder)
    cfg, files, sources = portable_config(inferencer)
    if not inferencer.model.hears:
        cfg['pipeline'] = [s for s in cfg['pipeline'] if find_part(s['type'], 'TRANSFORMS') is not LoadClipAudio]
    elif 'audio' not in sample_rates(cfg['pipeline']):
        cfg['pipeline'].append(dict(type='LoadClipAudio'))  # what the inferencer takes where a config says nothing
    card = card or ModelCard()
    card = card._replace(name=card.name or inferencer.config_name.removesuffix('.py'))
    state = whole_state(inferencer.model)
    return write_model_folder(folder, cfg, state, known_names(inferencer), card, files, dtype, sources)


def known_names(inferencer: Any) -> dict[str, Any]:
    """What ``vocabulary.json`` says of an inferencer's model."""
    templates = [part.templates for part in inferencer.model.modules() if isinstance(part, OpenVocabularyClassifier)]
    meta = inferencer.dataset_meta
    names = inferencer.own_names or names_of_training(dict(meta=dict(dataset_meta=meta)))
    return dict(
        open=inferencer.is_open,
        names=names,
        base=names and meta.get('base_names') or None,
        prompt_templates=templates[0] if templates else None,
    )


def write_model_folder(
    folder: str | Path,
    cfg: Mapping[str, Any],
    state: Mapping[str, Tensor] | None,
    vocabulary: Mapping[str, Any],
    card: ModelCard,
    files: Files | None = None,
    dtype: str = 'float32',
    sources: list[dict[str, str]] | None = None,
) -> Path:
    """Write a model in a folder; the folder appears when it is whole, and can be read.

    Args:
        folder (str | Path): where; it must not be there, or be empty.
        cfg (Mapping): plain ``model`` and ``pipeline``, the steps that say how frames and sound come to the model
            (``ResizeClip``, ``LoadClipAudio``), and perhaps ``linker``. A file of the folder is named ``model://NAME``.
        state (Mapping[str, Tensor] | None): the weights by name; None or empty: the model has none of its own.
        vocabulary (Mapping): ``open``, whether it takes any names; ``names`` known of training and ``base``, those of
            them that were seen in it, lists or None; ``prompt_templates``, a list, for a model that reads names.
        card (ModelCard): with a name.
        files (Mapping, optional): further files by their names in the folder: the path of a file that is copied, or a
            function that writes a file or a folder at the path that it is given. Defaults to None.
        dtype (str): of weights of floating point, 'float32' or 'float16'; bfloat16 stays. Defaults to 'float32'.
        sources (list[dict], optional): where weights of others come from: ``file``, ``title``, ``licence``. Defaults
            to None.

    Returns:
        Path: the folder.

    Raises:
        FileExistsError: it is there and not empty.
        ValueError: a value that JSON cannot hold, or what :func:`read_model_folder` would refuse.
    """
    folder = check_target(folder)
    if dtype not in DTYPES:
        raise ValueError(f'dtype must be one of {", ".join(DTYPES)}, got {dtype!r}')
    weights = small_weights(state or {}, getattr(torch, dtype))
    model = dict(cfg['model'])
    sources = list({row['file']: row for row in sources or ()}.values())
    tables = {
        PREPROCESSING: dict(
            pipeline=cfg['pipeline'],
            data_preprocessor=model.pop('data_preprocessor', None),
            sample_rates=sample_rates(cfg['pipeline']),
        ),
        VOCABULARY: {key: vocabulary.get(key) for key in ('open', 'names', 'base', 'prompt_templates')},
    }
    with atomic_path(folder) as beside:
        beside.mkdir()
        names = _write_files(files or {}, beside)
        tables[CONFIG] = dict(
            format=FORMAT,
            library=LIBRARY,
            library_version=__version__,
            name=card.name,
            model=model,
            linker=cfg.get('linker', dict(type='WindowLinker')),
            weights=WEIGHTS if weights else None,
            weights_from=sources,
            files=names,
        )
        for name in KEYS:
            (beside / name).write_text(_dump(tables[name], name), encoding='utf-8')
        text = write_card(card, str(model.get('type')), tables[VOCABULARY], sources)
        (beside / CARD).write_text(text, encoding='utf-8')
        if weights:
            save_file(weights, beside / WEIGHTS, metadata=dict(format='pt'))
            (beside / WEIGHTS).chmod(0o644)  # safetensors lets nobody else read it
        try:
            read_model_folder(beside)
        except (OSError, ValueError) as error:
            raise ValueError(
                f'this model cannot be kept in a folder: {error}'.replace(str(beside), str(folder))
            ) from error
    return folder


def _write_files(files: Files, folder: Path) -> list[str]:
    """Write further files into a folder that is still empty; gives the names of all."""
    for name, source in files.items():
        path = folder / checked_name(name, 'files')
        path.parent.mkdir(parents=True, exist_ok=True)
        source(path) if callable(source) else shutil.copyfile(source, path)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())


def check_target(folder: str | Path) -> Path:
    """The absolute path of a folder that is to be written, which must not be there, or be empty.

    Raises:
        FileExistsError: it is there.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f'{folder} is there and not empty: name a new folder, or remove it')
    return folder


def small_weights(state: Mapping[str, Tensor], dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """Weights on the CPU in another precision, which share no memory; counters and bfloat16 stay as they are.

    Raises:
        ValueError: a value is not finite, or too large for ``dtype``.
    """
    out = {}
    for key, value in state.items():
        changes = value.is_floating_point() and value.dtype != torch.bfloat16
        small = value.detach().to('cpu', dtype if changes else value.dtype)
        if not small.isfinite().all():
            kind = str(dtype).removeprefix('torch.')
            raise ValueError(f'{key} {tuple(value.shape)} has values that {kind} cannot hold')
        out[key] = small.clone().contiguous()
    return out


# ---------------------------------------------------------------------- a config that needs nothing else
def portable_config(inferencer: Any) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, str]]]:
    """What a folder needs of an inferencer's config, which then names no places outside of the folder.

    Returns:
        tuple[dict, dict, list]: plain ``model``, ``linker`` and ``pipeline``, further files, and where weights come
            from, see :func:`write_model_folder`.

    Raises:
        ValueError: a part that cannot be kept, or a type that is no name.
    """
    cfg, own = inferencer.cfg, inferencer.folder and inferencer.folder.path
    files: dict[str, Any] = {}
    sources = [] if own is None else list(inferencer.folder.weights_from)
    model = _portable(_plain(cfg['model']), (), files, sources)
    steps = [step for step in _plain(cfg['test_dataloader']['dataset']['pipeline']) if _is_kept(step)]
    if start := cfg.get('load_from'):
        sources.append(source_of(str(start)))
    out = dict(model=model, pipeline=steps, linker=_plain(cfg.get('linker', dict(type='WindowLinker'))))
    for _, node, key, value in walk(out):
        if own is not None and isinstance(value, str) and value.startswith(f'{own}{os.sep}'):
            name = Path(value).relative_to(own).as_posix()
            paths = [Path(value)] if Path(value).is_file() else [p for p in Path(value).rglob('*') if p.is_file()]
            files.update({path.relative_to(own).as_posix(): path for path in paths})
            node[key] = f'{SCHEME}{name}'
    if inferencer.weights and own is None and (row := source_of(str(inferencer.weights)))['title'] != 'weights':
        sources.append(row)
    return out, files, sources


def _is_kept(step: dict[str, Any]) -> bool:
    """Whether the inferencer runs a step of the pipeline, or takes its front end."""
    kind = find_part(step['type'], 'TRANSFORMS')
    return kind is LoadClipAudio or not getattr(kind, 'reads_files', False) and kind is not PackAVSegInputs


def _portable(node: Any, path: tuple, files: dict[str, Any], sources: list[dict[str, str]]) -> Any:
    """Tables and lists whose parts need no weights of other files."""
    if isinstance(node, list):
        return [_portable(value, (*path, key), files, sources) for key, value in enumerate(node)]
    if not isinstance(node, dict):
        return node
    init_cfg = node.get('init_cfg')
    if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained' and not of_package(init_cfg):
        sources.append(source_of(str(init_cfg['checkpoint'])))
    kind = find_part(node['type'], 'MODELS') if 'type' in node else None
    if isclass(kind) and issubclass(kind, FrozenModule):

        def keep(source: str | Callable[[Path], object], name: str = '') -> str:
            if isinstance(source, str) and source.startswith(PACKAGE_SCHEME):
                return source
            place = '/'.join([*map(str, path), name or Path(str(source)).name])
            files[place] = source
            return f'{SCHEME}{place}'

        node = kind.portable_cfg(node, keep)
    elif 'init_cfg' in node:  # starts a training only
        node = dict(node, init_cfg=None)
    return {key: _portable(value, (*path, key), files, sources) for key, value in node.items()}


def _plain(node: Any) -> Any:
    """A config's tables and lists as JSON has them."""
    if isinstance(node, (Config, ConfigDict)):
        node = node.to_dict()
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(value) for value in node]
    if isclass(node):
        raise ValueError(f'{node} stands in the config where the name of a registered part is needed')
    return node


def _dump(table: dict[str, Any], name: str) -> str:
    """JSON of a table."""
    try:
        return json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    except (TypeError, ValueError) as error:
        raise ValueError(f'{name}: a value cannot be written as JSON: {one_line(error)}') from error
