# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from mmseg.datasets import PascalVOCDataset

from ovavss_mm.datasets import voc_index, voc_palette


def test_is_the_voc_colour_map():
    assert voc_palette(21) == PascalVOCDataset.METAINFO['palette']


def test_encode_then_decode_is_identity():
    palette = np.array(voc_palette(3000), np.uint8)
    labels = np.random.default_rng(0).integers(0, 3000, (4, 9, 7))
    assert np.array_equal(voc_index(palette[labels]), labels)


def test_no_two_colours_share_an_index():
    colors = np.random.default_rng(0).integers(0, 256, (50000, 3), dtype=np.uint8)
    colors = np.unique(colors, axis=0)
    index = voc_index(colors)
    assert len(np.unique(index)) == len(colors)
    assert index.max() < 2**24


@pytest.mark.parametrize('num', [-1, 2**24 + 1])
def test_size_out_of_range(num):
    with pytest.raises(ValueError, match=str(num)):
        voc_palette(num)


def test_empty_palette():
    assert voc_palette(0) == []
