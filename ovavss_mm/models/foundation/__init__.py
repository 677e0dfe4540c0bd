# SPDX-License-Identifier: Apache-2.0
"""Foundation models of the library ``transformers`` as parts of a segmentor."""

from .adapted_sam import AdaptedSAM
from .base import FoundationModel

__all__ = ['AdaptedSAM', 'FoundationModel']
