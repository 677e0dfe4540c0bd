# SPDX-License-Identifier: Apache-2.0
"""Made-up labelled frames, and what exports of them must hold."""

import numpy as np

from ovavss_mm.apis.video.base import Picture
from ovavss_mm.apis.video.outputs import Outputs
from ovavss_mm.apis.video.request import LabelledFrame
from ovavss_mm.apis.video.timeline import ClassTimeline
from ovavss_mm.exports import Exports, Origin
from ovavss_mm.exports.base import objects_of
from ovavss_mm.exports.group import export_paths
from ovavss_mm.models.segmentors.windows import FrameClass, FrameObject

NAMES = (
    *('dog', 'baby crying', 'a, b', 'snake_case', '"quoted" \'name\'', 'R&B <live>', '二胡', 'كمان', '100% %20'),
    *('a --> b', 'two\nlines', '[violin]', 'é🎻', '<i>', '&amp;'),
)


def scene(
    seed: int = 0,
    size: tuple[int, int] = (37, 53),
    count: int = 6,
    fps: int = 1,
    names: tuple[str, ...] = NAMES,
    linked: bool = True,
    silence: float = 0.3,
) -> list[LabelledFrame]:
    """Frames with up to four of six objects, of which some change their name and some share one."""
    rng = np.random.default_rng(seed)
    frames = []
    for j in range(count):
        ids = rng.permutation(np.arange(1, 7))[: rng.integers(0, 5) * (rng.random() >= silence)]
        places = rng.integers(0, len(ids) + 1, tuple(-(-side // 5) for side in size))
        object_map = np.kron(places, np.ones((5, 5), int))[: size[0], : size[1]]  # (H, W)
        noise = rng.random(size) < 0.05
        object_map[noise] = rng.integers(0, len(ids) + 1, noise.sum())
        kinds = {i: int(i if rng.random() < 0.2 else i // 2) % len(names) for i in ids.tolist()}
        frames.append(labelled(j / fps, object_map, kinds, rng, linked, len(names)))
    return frames


def labelled(time, object_map, kinds, rng, linked=True, num_names=2) -> LabelledFrame:
    """A frame of a map (H, W) of 0 and i + 1 for object i of a dict of labels by id; what has no pixel is left out."""
    label_map = np.zeros(object_map.shape, np.uint8 if num_names < 255 else np.int16)
    objects, kept, found = [], np.zeros(object_map.shape, np.int16), {}
    for i, (identity, label) in enumerate(kinds.items(), 1):
        mask = object_map == i
        if mask.any():
            kept[mask], label_map[mask] = len(objects) + 1, label + 1
            rows, columns = np.nonzero(mask)
            box = tuple(int(x) for x in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
            score, sound = rng.random(2).tolist()
            objects.append(FrameObject(mask.mean().item(), sound, score, identity, label, box, 1))
    for x in objects:
        found[x.label] = FrameClass((label_map == x.label + 1).mean().item(), x.sound, x.score)
    return LabelledFrame(time, label_map, found, objects if linked else [], kept if linked else None)


def export(kinds, frames, folder, names=NAMES, fps=1, name='clip', numbers=None, duration=None, rate=10.0):
    """Write exports of frames; ``numbers`` are those of the video's own frames. Gives paths, notes and the footer."""
    numbers = numbers or [round(frame.time * rate) for frame in frames]
    size = frames[0].label_map.shape
    pictures = (
        (frame.time, Picture(frame.time, frame.time, lambda k=k: np.full((*size, 3), 10 * k % 256, np.uint8), k))
        for frame, k in zip(frames, numbers, strict=True)
    )
    paths, timeline = export_paths(kinds, str(folder), name), ClassTimeline(names, fps)
    duration = duration or len(frames) / fps
    with Outputs() as outputs:
        hidden = {kind: outputs.add(path) for kind, path in paths.items()}
        exports = Exports(hidden, Origin(name, None, size, fps, rate), names, pictures, outputs.closing)
        for frame in frames:
            timeline.add(frame.time, frame.found, frame.objects)
            exports.write(frame)
        footer = dict(names=timeline.summary(duration), objects=timeline.objects(duration), duration=duration)
        notes = exports.finish(footer)
    return paths, notes, footer


def truth(frames, names=NAMES) -> list[dict]:
    """Of each frame names and masks by id."""
    return [{found.id: (names[found.label], mask) for found, mask in objects_of(frame)} for frame in frames]


def assert_same(got: list[dict], expected: list[dict], spelled=lambda name: name) -> None:
    """Whether frames have the same objects with the same names and, pixel by pixel, masks."""
    assert [set(frame) for frame in got] == [set(frame) for frame in expected]
    for frame, wanted in zip(got, expected, strict=True):
        for identity, (name, mask) in wanted.items():
            assert frame[identity][0] == spelled(name)
            assert np.array_equal(frame[identity][1], mask)
