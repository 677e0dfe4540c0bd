# SPDX-License-Identifier: Apache-2.0
"""What the published OV-AVSS model looks like from here."""

from .keys import Conversion, convert, rename

__all__ = ['Conversion', 'convert', 'rename']
