# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from mmseg.datasets import PascalVOCDataset

from ovavss_mm.datasets import voc_index, voc_palette
from ovavss_mm.datasets.palette import voc_labels


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


def test_quick_lookup_equals_the_general_one():
    palette = np.array(voc_palette(256), np.uint8)
    labels = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    found = voc_labels(palette[labels])
    assert found.dtype == np.uint8
    assert np.array_equal(found, labels)
    # Every colour on its own: given exactly if its index fits into 8 bits.
    rng = np.random.default_rng(1)
    for color in [*voc_palette(300)[250:], *rng.integers(0, 256, (50, 3)).tolist()]:
        colors = np.zeros((4, 5, 3), np.uint8)
        colors[2, 3] = color
        index = voc_index(colors)
        quick = voc_labels(colors)
        assert (quick is None) == (index.max() > 255)
        if quick is not None:
            assert np.array_equal(quick, index)


@pytest.mark.parametrize('num', [-1, 2**24 + 1])
def test_size_out_of_range(num):
    with pytest.raises(ValueError, match=str(num)):
        voc_palette(num)


def test_empty_palette():
    assert voc_palette(0) == []
