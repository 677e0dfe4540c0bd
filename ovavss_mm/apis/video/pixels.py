# SPDX-License-Identifier: Apache-2.0
"""Decoded frames as a player shows them: turned, mirrored, with square pixels, in standard dynamic range."""

from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

# Transfer characteristics of high dynamic range (ITU-T H.273): PQ and HLG.
HDR = {16: 'PQ', 18: 'HLG'}
SDR = 'out_transfer=bt709:out_primaries=bt709:out_range=pc'


class Shown:
    """Makes arrays of a video's frames.

    Args:
        frame (av.VideoFrame): the first one, whose display matrix and size hold for all.
        aspect (Fraction | None): width of a pixel over its height; None for square ones.

    Attributes:
        size (tuple[int, int]): (H, W) of the arrays.
        hdr (str | None): kind of high dynamic range that is brought to the standard one.
    """

    def __init__(self, frame: av.VideoFrame, aspect: Fraction | None = None) -> None:
        self._matrix = display_matrix(frame)
        height, width = frame.height, frame.width
        if aspect and aspect > 1:  # pixels become square by stretching, so that none is lost
            width = round(width * aspect)
        elif aspect and aspect > 0:
            height = round(height / aspect)
        self._stored = (height, width)
        self.size = (width, height) if self._transposed else (height, width)
        self.hdr = HDR.get(int(frame.color_trc))
        self._graph: tuple[tuple, av.filter.Graph] | None = None

    @property
    def _transposed(self) -> bool:
        """Whether rows become columns."""
        a, b, c, d = self._matrix
        return abs(b) + abs(c) > abs(a) + abs(d)

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame as it is shown, uint8 RGB (H, W, 3)."""
        a, b, c, d = self._matrix
        height, width = self._stored
        rgb = self._tone_mapped(frame) if self.hdr else frame.to_ndarray(format='rgb24', width=width, height=height)
        if self._transposed:
            rgb, a, d = rgb.transpose(1, 0, 2), c, b  # (W, H, 3)
        return np.ascontiguousarray(rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])

    def _tone_mapped(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame of high dynamic range in the colours of BT.709, at the stored size."""
        kind = (frame.format.name, frame.width, frame.height)
        if self._graph is None or self._graph[0] != kind:
            height, width = self._stored
            graph = av.filter.Graph()
            source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=1)
            graph.link_nodes(
                source, graph.add('scale', f'{width}:{height}:{SDR}'), graph.add('format', 'rgb24'),
                graph.add('buffersink'),
            ).configure()  # fmt: skip
            self._graph = kind, graph
        graph = self._graph[1]
        graph.push(frame)
        return graph.pull().to_ndarray()


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """How a frame is shown: a pixel at (x, y) goes to (a x + c y, b x + d y), but for a shift; gives a, b, c, d.

    Each is -1, 0 or 1: other angles than right ones are rounded.
    """
    found = [bytes(data) for data in frame.side_data if data.type == SideDataType.DISPLAYMATRIX]
    if not found or len(found[0]) < 36:
        return 1, 0, 0, 1
    values = np.frombuffer(found[0][:36], '<i4').reshape(3, 3)[:2, :2].astype(float)  # rows (a, b), (c, d)
    largest = np.abs(values).max()
    a, b, c, d = (values / (largest or 1)).round().astype(int).ravel().tolist()
    return (a, b, c, d) if (a and d) or (b and c) else (1, 0, 0, 1)
