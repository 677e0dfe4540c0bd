# SPDX-License-Identifier: Apache-2.0
"""Foundation models of the library ``transformers``, frozen, as parts of a segmentor."""

from .base import FoundationModel

__all__ = ['FoundationModel']
