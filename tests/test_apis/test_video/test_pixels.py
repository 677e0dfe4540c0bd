# SPDX-License-Identifier: Apache-2.0
"""Frames look as a player shows them."""

from fractions import Fraction
from itertools import product

import av
import numpy as np
import pytest
from video_files import numbered, set_display_matrix, write_mp4

from ovavss_mm.apis.video.base import frames_at
from ovavss_mm.apis.video.sources import open_source

SIZE = (32, 48)
# Signs of (a, d) without, of (b, c) with an exchange of rows and columns.
MATRICES = [(s, 0, 0, t) for s, t in product((1, -1), repeat=2)] + [(0, s, t, 0) for s, t in product((1, -1), repeat=2)]


def first_frame(path) -> np.ndarray:
    """The first frame as it is shown."""
    source = open_source(path)
    (_, rgb), *_ = frames_at(source, 1)
    assert rgb.shape[:2] == source.size
    return rgb


@pytest.mark.parametrize('matrix', MATRICES)
def test_every_display_matrix(tmp_path, matrix):
    """Each pixel goes where the matrix sends it, up to a shift."""
    frame = np.zeros((*SIZE, 3), np.uint8)
    frame[:8, :16] = 255  # one corner
    path = set_display_matrix(write_mp4(tmp_path / 'a.mp4', [frame] * 3), *matrix)
    a, b, c, d = matrix
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    column, row = a * x + c * y, b * x + d * y
    column, row = column - column.min(), row - row.min()
    expected = np.zeros((row.max() + 1, column.max() + 1, 3), np.uint8)
    expected[row, column] = frame
    shown = first_frame(path)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 4


@pytest.mark.parametrize(
    ('aspect', 'rotated', 'size'),
    [('2/1', 0, (32, 96)), ('1/2', 0, (64, 48)), ('4/3', 90, (64, 32)), ('1/1', 0, (32, 48))],
)
def test_pixels_become_square(tmp_path, aspect, rotated, size):
    """The longer side of a pixel decides, so that nothing is lost; a turn comes after."""
    frame = np.zeros((*SIZE, 3), np.uint8)
    frame[:, 24:] = 255
    aspect = Fraction(aspect)
    path = write_mp4(tmp_path / 'a.mp4', [frame] * 3, rotation=rotated, sample_aspect_ratio=aspect)
    shown = first_frame(path)
    assert shown.shape[:2] == size
    bright = shown.mean(2) > 127
    assert bright.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(('transfer', 'code', 'expected'), [(18, 125, 140), (16, 125, 176), (1, 125, 125)])
def test_high_dynamic_range_is_brought_to_the_standard_one(tmp_path, transfer, code, expected):
    """Grey of HLG and PQ (BT.2100) at 203 cd/m2 for white; standard range stays as it is."""
    frame = np.full((*SIZE, 3), code, np.uint8)
    primaries = 1 if transfer == 1 else 9
    options = dict(pix_fmt='yuv420p10le', color_trc=transfer, color_primaries=primaries, colorspace=primaries)
    path = write_mp4(tmp_path / 'a.mp4', [frame] * 3, **options)
    shown = first_frame(path)
    assert np.abs(shown.astype(int) - expected).max() <= 10
    assert any('high dynamic range' in note for note in open_source(path).notes) == (transfer != 1)


def two_pictures(path, first: dict, second: dict):
    """A file of two picture streams with the same clip, of a size and a disposition; the first is numbered from 1."""
    with av.open(str(path), 'w') as file:
        streams = []
        for settings in (first, second):
            stream = file.add_stream(settings.get('codec', 'libx264'), rate=10)
            stream.height, stream.width = settings['size']
            stream.pix_fmt = 'yuvj420p' if 'codec' in settings else 'yuv420p'
            stream.disposition = settings.get('disposition', 0)
            streams.append(stream)
        for i in range(10):
            for j, settings in enumerate((first, second)):
                if i < settings.get('count', 10):
                    image = numbered(i + 2, settings['size'])[i + 1 - j]
                    file.mux(streams[j].encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
        for stream in streams:
            file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    'first',
    [
        dict(size=(64, 64), disposition=av.stream.Disposition.attached_pic, count=1, codec='mjpeg'),
        dict(size=(64, 64), disposition=av.stream.Disposition.timed_thumbnails),
        dict(size=(64, 64), count=1),
        dict(size=(16, 16)),
    ],
    ids=['cover', 'thumbnails', 'one-picture', 'second'],
)
def test_the_video_is_found_among_other_pictures(tmp_path, first):
    main = dict(size=SIZE, disposition=av.stream.Disposition.default)
    path = two_pictures(tmp_path / 'a.mp4', first, main)
    assert open_source(path).size == SIZE
