# SPDX-License-Identifier: Apache-2.0
"""Data: the dataset, its vocabulary and the transforms of its pipeline."""

from . import transforms
from .avsbench import ClipDataset
from .avsbench_ov import AVSBenchOVDataset
from .avsbench_tasks import AVSBenchDataset
from .metadata import IndexedClip, read_index, read_metadata, select_clips, write_index
from .other_sounds import OtherSounds
from .palette import voc_index, voc_palette
from .samplers import SeededIndex, SeededInfiniteSampler
from .transforms import *  # noqa: F403
from .vocabulary import Vocabulary

__all__ = ['AVSBenchOVDataset', 'ClipDataset', 'IndexedClip', 'SeededIndex', 'SeededInfiniteSampler', 'Vocabulary']
__all__ += ['read_index', 'read_metadata', 'select_clips', 'voc_index', 'voc_palette', 'write_index']
__all__ += ['AVSBenchDataset', 'OtherSounds', *transforms.__all__]
