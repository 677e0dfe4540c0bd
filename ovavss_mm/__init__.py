# SPDX-License-Identifier: Apache-2.0
"""OV-AVSS for MMSegmentation: open-vocabulary audio-visual semantic segmentation.

Importing the package checks the versions of the host libraries and makes them importable without
compiled ops. Models, datasets, metrics and the other parts are then found by mmseg's registries, which import
them when they are asked for one: ``custom_imports = dict(imports=['ovavss_mm'])`` in a config is enough.
"""

from ovavss_mm.compat import check_versions, ensure_mmcv_ops, register_parts, silence_host_warnings
from ovavss_mm.version import __version__

check_versions()
silence_host_warnings()
ensure_mmcv_ops()
register_parts()

__all__ = ['__version__']
