# SPDX-License-Identifier: Apache-2.0
"""One sheet a clip: frames, ground truth, prediction and sounding names over time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from ..evaluation.functional import resize_nearest
from .drawing import UNLABELLED, class_indices, font, ink_on, overlay, resize_frame, text_width

TRUTH = 'truth'  # title of the row of the ground truth

_GAP = 3  # pixels between cells
_PAD = 8  # pixels around the sheet
_LINE = 18  # height of a line of text
_BAR = 12  # height of an activity bar
_PAPER = (255, 255, 255)
_INK = (30, 30, 30)
_FAINT = (232, 232, 232)


@dataclass
class ClipView:
    """What a sheet shows.

    Args:
        frames (np.ndarray): uint8 RGB (T, H, W, 3).
        maps (Mapping[str, np.ndarray]): integer label maps (T, H, W) by row title; kept as int64, -1 no label.
        names (Sequence[str]): C names, the background first.
        palette (np.ndarray): uint8 (C, 3).
        parts (Mapping[str, str]): 'base' or 'novel' by name, for those that are.
        seconds (Sequence[str]): T column titles. Defaults to ().
        title (str): of the sheet. Defaults to ''.
        heard (Sequence[str]): what is heard, T texts or none. Defaults to ().
        boxes (Sequence[Sequence]): of T frames, left, top, right, bottom as shares of width and height, or none.
            Defaults to ().
    """

    frames: np.ndarray
    maps: Mapping[str, np.ndarray]
    names: Sequence[str]
    palette: np.ndarray
    parts: Mapping[str, str] = field(default_factory=dict)
    seconds: Sequence[str] = ()
    title: str = ''
    heard: Sequence[str] = ()
    boxes: Sequence[Sequence] = ()

    def __post_init__(self) -> None:
        """Check shapes and indices, mark pixels without a label."""
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(f'frames must be uint8 RGB (T, H, W, 3), got {self.frames.dtype} {self.frames.shape}')
        if len(self.palette) < len(self.names):
            raise ValueError(f'{len(self.names)} classes but only {len(self.palette)} colours')
        self.maps = {row: class_indices(maps, len(self.names)) for row, maps in self.maps.items()}
        for row, maps in self.maps.items():
            if maps.shape != self.frames.shape[:3]:
                raise ValueError(f'{row} maps have shape {maps.shape}, the frames {self.frames.shape[:3]}')
            bad = [i for i in np.unique(maps).tolist() if not -1 <= i < len(self.names)]
            if bad:
                raise ValueError(f'{row} has indices {bad[:8]} outside the {len(self.names)} classes')

    def sounding(self) -> dict[str, np.ndarray]:
        """Which name is where in each second: bool (T, C) by row title, the background unset."""
        out = {row: np.zeros((len(maps), len(self.names)), dtype=bool) for row, maps in self.maps.items()}
        for row, maps in self.maps.items():
            for t, labels in enumerate(maps):
                out[row][t, np.unique(labels[labels > 0])] = True
        return out

    def present(self) -> list[int]:
        """Indices of the names that occur in any row, in order."""
        return sorted({i for maps in self.maps.values() for i in np.unique(maps).tolist() if i > 0})

    def caption(self, index: int) -> str:
        """A name with its part, as in 'violin (novel)'."""
        name = self.names[index]
        return f'{name} ({self.parts[name]})' if name in self.parts else name


def draw_sheet(
    view: ClipView, alpha: float = 0.8, widths: tuple[int, int] = (160, 320), activity: bool = True
) -> np.ndarray:
    """Draw the sheet of a clip.

    From the top: title, seconds, frames, one row of overlays for each entry of ``view.maps``, a legend, and a bar for
    each name and row that is filled in the seconds in which the name sounds. Where a prediction differs from the
    truth, its bar says 'missed' or 'false'. What is heard stands below the seconds, boxes are drawn over the last row.

    Args:
        view (ClipView): what to show.
        alpha (float): opacity of masks, 0 to 1. Defaults to 0.8.
        widths (tuple[int, int]): (least, greatest) width of a shown frame in pixels. Defaults to (160, 320).
        activity (bool): whether the bars are drawn. Defaults to True.

    Returns:
        np.ndarray: uint8 RGB (height, width, 3).
    """
    height, width = view.frames.shape[1:3]
    shown = min(max(width, widths[0]), widths[1])
    height, width = max(round(height * shown / width), 1), shown
    activity = activity and bool(view.maps)
    left = _PAD + _margin(view, activity)
    columns = [left + t * (width + _GAP) for t in range(len(view.frames))]
    right = max(columns[-1] + width + _PAD, _PAD + text_width(view.title, 14, True) + _PAD)
    blocks = [
        _header(view, columns, width, right),
        *_picture_rows(view, alpha, columns, (height, width), right),
        _legend(view, right),
        *([_activity(view, columns, width, right)] if activity else []),
        _blank(_PAD, right)[0],
    ]
    return np.concatenate([np.asarray(block) for block in blocks])


def _blank(height: int, width: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty block and a way to draw on it."""
    image = Image.new('RGB', (width, height), _PAPER)
    return image, ImageDraw.Draw(image)


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int = 12, bold: bool = False) -> None:
    """Write a line that starts at a point, half of its height above it."""
    draw.text(at, text, fill=_INK, font=font(size, bold, text), anchor='lm')


def _margin(view: ClipView, activity: bool) -> int:
    """Width of the column of row titles."""
    widest = max(text_width(title, 12, True) for title in ('frames', *view.maps))
    if activity:
        tags = max(text_width(title, 10) for title in view.maps)
        captions = [text_width(view.caption(i), 12) for i in view.present()]
        widest = max(widest, max(captions, default=0) + tags + 8)
    return widest + 10


def _header(view: ClipView, columns: list[int], width: int, right: int) -> Image.Image:
    """Title and seconds."""
    title_height = _PAD + (22 if view.title else 0)
    image, draw = _blank(title_height + _LINE * (2 if view.heard else 1), right)
    draw.text((_PAD, _PAD), view.title, fill=_INK, font=font(14, True, view.title))
    for left, second in zip(columns, view.seconds, strict=False):
        draw.text((left + width // 2, title_height + _LINE // 2), second, fill=_INK, font=font(12), anchor='mm')
    for left, heard in zip(columns, view.heard, strict=False):
        _write(draw, (left, title_height + _LINE * 3 // 2), heard, 10)
    if view.heard:
        _write(draw, (_PAD, title_height + _LINE * 3 // 2), 'heard', bold=True)
    return image


def _picture_rows(
    view: ClipView, alpha: float, columns: list[int], size: tuple[int, int], right: int
) -> Iterator[Image.Image]:
    """Frames, then one row of overlays for each kind of map."""
    rows = {'frames': [resize_frame(frame, size) for frame in view.frames]}
    for title, maps in view.maps.items():
        pairs = zip(rows['frames'], resize_nearest(maps, size), strict=True)
        rows[title] = [overlay(frame, labels, view.names, view.palette, alpha) for frame, labels in pairs]
    for title, cells in rows.items():
        image, draw = _blank(size[0] + _GAP, right)
        _write(draw, (_PAD, size[0] // 2), title, bold=True)
        for left, cell in zip(columns, cells, strict=True):
            image.paste(Image.fromarray(cell), (left, 0))
        boxes = view.boxes if title == list(rows)[-1] else ()
        for left, some in zip(columns, boxes, strict=False):
            for x0, y0, x1, y1 in some:
                corners = (left + x0 * size[1], y0 * size[0], left + x1 * size[1], y1 * size[0])
                draw.rectangle(corners, outline=_PAPER, width=2)
        yield image


def _legend(view: ClipView, right: int) -> Image.Image:
    """The names that occur, with their colours, in as many lines as they need."""
    present, places, x, y = view.present(), [], _PAD, 4
    for index in present:
        extent = 32 + text_width(view.caption(index), 12)
        if x + extent > right and x > _PAD:
            x, y = _PAD, y + _LINE
        places.append((x, y))
        x += extent
    image, draw = _blank(y + _LINE + 4, right)
    for index, (x, y) in zip(present, places, strict=True):
        draw.rectangle((x, y + 2, x + 13, y + 15), fill=tuple(view.palette[index].tolist()), outline=_INK)
        _write(draw, (x + 18, y + 9), view.caption(index))
    if not present:
        _write(draw, (_PAD, y + 9), 'no name in this clip')
    return image


def _activity(view: ClipView, columns: list[int], width: int, right: int) -> Image.Image:
    """For each name one bar a row of maps, filled in the seconds in which it sounds."""
    sounding, present = view.sounding(), view.present()
    step = len(view.maps) * (_BAR + 2) + 6
    image, draw = _blank(_LINE + len(present) * step, right)
    if present:
        _write(draw, (_PAD, _LINE // 2), 'sounding', bold=True)
    for k, index in enumerate(present):
        top, color = _LINE + k * step, tuple(view.palette[index].tolist())
        _write(draw, (_PAD, top + (step - 6) // 2), view.caption(index))
        for row, (title, maps) in enumerate(view.maps.items()):
            y = top + row * (_BAR + 2)
            draw.text((columns[0] - 6, y + _BAR // 2), title, fill=_INK, font=font(10, text=title), anchor='rm')
            for t, left in enumerate(columns):
                unlabelled = (maps[t] < 0).all()
                fill = UNLABELLED if unlabelled else color if sounding[title][t, index] else _FAINT
                draw.rectangle((left, y, left + width - 1, y + _BAR - 1), fill=fill)
                note = 'no label' if unlabelled else _verdict(view, sounding, title, t, index)
                draw.text((left + width // 2, y + _BAR // 2), note, ink_on(fill), font(10, True), anchor='mm')
    return image


def _verdict(view: ClipView, sounding: Mapping[str, np.ndarray], title: str, t: int, index: int) -> str:
    """'missed' or 'false' for a name in second t of a row that differs from the truth, else empty."""
    if title == TRUTH or TRUTH not in view.maps or (view.maps[TRUTH][t] < 0).all():
        return ''
    said, right = sounding[title][t, index], sounding[TRUTH][t, index]
    return '' if said == right else 'false' if said else 'missed'


def contact_sheet(sheets: Sequence[np.ndarray], num_columns: int = 2) -> np.ndarray:
    """Arrange sheets on one page, row by row.

    Args:
        sheets (Sequence[np.ndarray]): uint8 RGB pictures of any sizes, at least one.
        num_columns (int): how many stand side by side. Defaults to 2.

    Returns:
        np.ndarray: uint8 RGB (height, width, 3).

    Raises:
        ValueError: there are no sheets.
    """
    if not sheets:
        raise ValueError('a contact sheet needs at least one clip')
    num_columns = min(num_columns, len(sheets))
    width = max(sheet.shape[1] for sheet in sheets) + _PAD
    rows = []
    for start in range(0, len(sheets), num_columns):
        row = sheets[start : start + num_columns]
        rows.append(np.full((max(s.shape[0] for s in row) + 1, width * num_columns, 3), 255, np.uint8))
        for k, sheet in enumerate(row):
            rows[-1][: sheet.shape[0], k * width : k * width + sheet.shape[1]] = sheet
        rows[-1][-1] = UNLABELLED  # a line below
    return np.concatenate(rows)
