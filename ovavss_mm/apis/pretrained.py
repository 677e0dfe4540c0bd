# SPDX-License-Identifier: Apache-2.0
"""A model in a folder, here or on the Hugging Face hub: read it, use it, write it (docs/pretrained.md)."""

from pathlib import Path
from typing import Any

from .inferencer import AVSegInferencer
from .loading import fetch_model
from .model_card import ModelCard, read_figures
from .model_folder import ModelFolder, read_model_folder
from .model_writing import save_pretrained, write_model_folder

__all__ = [
    'ModelCard',
    'ModelFolder',
    'fetch_model',
    'from_pretrained',
    'read_figures',
    'read_model_folder',
    'save_pretrained',
    'write_model_folder',
]


def from_pretrained(
    model: str | Path, device: str | None = None, revision: str | None = None, **kwargs: Any
) -> AVSegInferencer:
    """An inferencer for a model in a folder, ready to use. Nothing that is in the folder is run.

    Args:
        model (str | Path): a folder, or the id of one on the Hugging Face hub, ``'org/name'``, whose files come from
            its cache or are downloaded; with ``HF_HUB_OFFLINE=1`` from the cache only. A folder wins over an id.
        device (str, optional): such as ``'cpu'`` or ``'cuda:0'``. Defaults to a GPU if there is one.
        revision (str, optional): branch, tag or commit on the hub. Defaults to its main branch.
        **kwargs: ``scope`` and ``show_progress`` of :class:`AVSegInferencer`.

    Raises:
        FileNotFoundError: there is no such folder, an id that is neither cached nor to be had, or a file is missing.
        ValueError: it is no model folder, of a newer format, or says what it may not; ``revision`` with a folder.
    """
    return AVSegInferencer(fetch_model(str(model), revision), device=device, **kwargs)
