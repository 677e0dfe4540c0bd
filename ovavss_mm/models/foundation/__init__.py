# SPDX-License-Identifier: Apache-2.0
"""Foundation models of the library ``transformers`` as parts of a segmentor."""

from .adapted_sam import AdaptedSAM
from .base import FoundationModel
from .box_masker import BoxMasker
from .sound_namer import SoundNamer
from .text_box_proposer import TextBoxProposer

__all__ = ['AdaptedSAM', 'BoxMasker', 'FoundationModel', 'SoundNamer', 'TextBoxProposer']
