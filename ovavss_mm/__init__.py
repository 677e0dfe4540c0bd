# SPDX-License-Identifier: Apache-2.0
"""OV-AVSS for MMSegmentation: open-vocabulary audio-visual semantic segmentation.

Importing the package checks the versions of the host libraries and makes them importable without
compiled ops. Models, datasets, metrics and the other parts are then found by mmseg's registries, which import
them when they are asked for one: ``custom_imports = dict(imports=['ovavss_mm'])`` in a config is enough.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ovavss_mm.compat import check_versions, ensure_mmcv_ops, register_parts, silence_host_warnings
from ovavss_mm.version import __version__

check_versions()
silence_host_warnings()
ensure_mmcv_ops()
register_parts()

__all__ = ['__version__', 'from_pretrained', 'save_pretrained']

if TYPE_CHECKING:
    from ovavss_mm.apis.pretrained import from_pretrained, save_pretrained


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for, as torch takes seconds."""
    if name in ('from_pretrained', 'save_pretrained'):
        return getattr(import_module('ovavss_mm.apis.pretrained'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
