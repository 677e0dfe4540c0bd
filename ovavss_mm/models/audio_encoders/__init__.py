# SPDX-License-Identifier: Apache-2.0
"""Audio encoders: log-mel patches in, one embedding a frame out."""

from .log_mel import LogMelEncoder
from .vggish import VGGishEncoder

__all__ = ['LogMelEncoder', 'VGGishEncoder']
