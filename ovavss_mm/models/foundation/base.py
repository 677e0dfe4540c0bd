# SPDX-License-Identifier: Apache-2.0
"""Building and loading models of the library ``transformers``, which is imported only when one is built."""

import contextlib
import os.path as osp
from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from ...utils.foundation import import_transformers
from ...utils.known_weights import PACKAGE_SCHEME, package_file
from ...utils.text import one_line
from ..layers.frozen import FrozenModule

DTYPES = ('float32', 'bfloat16')


def build_model(name: str, config: dict, dtype: str = 'float32', drawn: bool = True) -> nn.Module:
    """Build a model from numbers, without any file.

    Args:
        name (str): of its class, such as ``'SamModel'``; its config is ``SamConfig``.
        config (dict): arguments of its config.
        dtype (str): of the weights, 'float32' or 'bfloat16'. Defaults to 'float32'.
        drawn (bool): whether weights are drawn; else their memory is not touched before they are read. Defaults to
            True.

    Returns:
        nn.Module: The model in evaluation mode.

    Raises:
        ImportError: the library is not installed.
        ValueError: another dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f'dtype must be one of {", ".join(DTYPES)}, got {dtype!r}')
    library = import_transformers()
    from transformers.initialization import no_init_weights

    kind = getattr(library, name)
    with contextlib.nullcontext() if drawn else no_init_weights():
        return kind._from_config(make_config(name, config), dtype=getattr(torch, dtype)).eval()


def make_config(name: str, config: dict) -> Any:
    """Config of a model's class, of plain arguments, which may be nested."""
    plain = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
    return getattr(import_transformers(), name).config_class(**plain)


def read_pretrained(name: str, config: dict, checkpoint: str, dtype: str = 'float32') -> dict[str, Tensor]:
    """Read the weights of a model in the library's format.

    Args:
        name (str): as of :func:`build_model`.
        config (dict): as of :func:`build_model`.
        checkpoint (str): a folder, one of the package as ``ovavss_mm://PATH``, or an id of the hub, whose files come
            from its cache or are downloaded; with ``HF_HUB_OFFLINE=1`` from the cache only.
        dtype (str): 'float32' or 'bfloat16'. Defaults to 'float32'.

    Returns:
        dict[str, Tensor]: names to weights on the CPU.

    Raises:
        FileNotFoundError: it is neither there nor to be had.
        ValueError: the weights do not fit the config.
    """
    kind = getattr(import_transformers(), name)
    place = package_file(checkpoint)
    options = dict(config=make_config(name, config), dtype=getattr(torch, dtype), output_loading_info=True)
    try:
        model, told = kind.from_pretrained(place, **options, local_files_only=osp.isdir(place))
    except OSError as error:
        raise FileNotFoundError(
            f'no weights at {checkpoint}: it is no folder with model.safetensors, and no id of the hub that is in the '
            f'cache or can be reached ({one_line(error)})'
        ) from error
    except RuntimeError as error:  # of another shape
        raise ValueError(f'{checkpoint} does not fit the config of {name}: {one_line(error)}') from error
    if bad := {key: sorted(keys) for key, keys in told.items() if keys and key in ('missing_keys', 'mismatched_keys')}:
        raise ValueError(f'{checkpoint} does not fit the config of {name}: {one_line(bad)}')
    return model.state_dict()


def read_tokenizer(place: str) -> Any:
    """The library's tokenizer in a folder, one of the package, or of an id of the hub; code in it never runs."""
    path = package_file(place)
    kind = import_transformers().AutoTokenizer
    return kind.from_pretrained(path, local_files_only=osp.isdir(path), trust_remote_code=False)


class FoundationModel(FrozenModule):
    """A frozen model of the library ``transformers``; subclasses say which, and what they do with it.

    Args:
        config (dict): arguments of the library's config of the model.
        init_cfg (dict, optional): ``dict(type='Pretrained', checkpoint=PLACE)``, see :func:`read_pretrained`; read when
            the model is used, not in the constructor. None draws weights. Defaults to None.
        tokenizer (str, optional): folder or id of the tokenizer's files. None: the place of the weights. Defaults to
            None.
        dtype (str): of weights and activations, 'float32' or 'bfloat16'. Defaults to 'float32'.

    Raises:
        ImportError: the library is not installed.
        ValueError: another dtype or ``init_cfg``.
    """

    model_name: str  # of the library's class

    def __init__(
        self, config: dict, init_cfg: dict | None = None, tokenizer: str | None = None, dtype: str = 'float32'
    ) -> None:
        super().__init__(init_cfg)
        self.config, self.dtype_name = config, dtype
        self.model = build_model(self.model_name, config, dtype, drawn=init_cfg is None)
        self.tokenizer_place = tokenizer or self.checkpoint
        self._tokenizer = None
        self.freeze()

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return getattr(torch, self.dtype_name)

    @property
    def device(self) -> torch.device:
        """That of the weights."""
        return next(self.model.parameters()).device

    @property
    def tokenizer(self) -> Any:
        """The library's tokenizer; its files are read when it is needed.

        Raises:
            ValueError: no place of its files is known.
        """
        if self._tokenizer is None:
            if self.tokenizer_place is None:
                raise ValueError(f'{type(self).__name__} has neither init_cfg nor tokenizer: name a folder or an id')
            self._tokenizer = read_tokenizer(self.tokenizer_place)
        return self._tokenizer

    @classmethod
    def portable_cfg(cls, cfg: dict[str, Any], keep: Callable[..., str]) -> dict[str, Any]:
        """See :class:`FrozenModule`; of a part that reads texts the tokenizer's files are kept."""
        place = cfg.get('tokenizer') or (cfg.get('init_cfg') or {}).get('checkpoint')
        if 'tokenizer' in signature(cls).parameters and place and not place.startswith(PACKAGE_SCHEME):
            cfg = dict(cfg, tokenizer=keep(read_tokenizer(place).save_pretrained, 'tokenizer'))
        return super().portable_cfg(cfg, keep)

    def read_weights(self) -> dict[str, Tensor]:
        """See :func:`read_pretrained`."""
        state = read_pretrained(self.model_name, self.config, self.checkpoint, self.dtype_name)
        return {f'model.{key}': value for key, value in state.items()}
