# SPDX-License-Identifier: Apache-2.0
"""OV-AVSS for MMSegmentation: open-vocabulary audio-visual semantic segmentation.

Importing the package checks the versions of the host libraries and makes them importable without
compiled ops. Models, datasets and metrics register themselves when their subpackages are imported,
which the configs ask for with ``custom_imports``.
"""

from ovavss_mm.compat import check_versions, ensure_mmcv_ops, silence_host_warnings
from ovavss_mm.version import __version__

check_versions()
silence_host_warnings()
ensure_mmcv_ops()

__all__ = ['__version__']
