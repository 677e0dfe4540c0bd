# SPDX-License-Identifier: Apache-2.0
"""What a clip of the mini world contains: objects, their ways and the seconds they sound in.

A scene is sampled once and holds plain numbers; ``drawing`` and ``sound`` render it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .names import split_name

FRAME_SIZE = (96, 128)  # height, width in pixels
RADIUS_RANGE = (13.0, 22.0)  # pixels
MAX_SPEED = 9.0  # pixels a second
TEXTURES = ('plain', 'stripes', 'dots', 'noise')
PLACEMENT_TRIES = 60
ON_PROBABILITY = 0.75
AMPLITUDE_RANGE = (0.1, 0.3)
PITCH_JITTER = 0.03


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene; (x, y) are in pixels, angles in radians."""

    name: str  # <colour>-<shape>
    radius: float  # mean, in pixels
    start: tuple[float, float]  # (x, y) of the centre at second 0
    velocity: tuple[float, float]  # (x, y) a second; the centre bounces off the border
    angle: float  # rotation at second 0
    spin: float  # rotation a second
    pulse: tuple[float, float, float]  # relative amplitude, phase and rate (Hz) of its change of size
    hue_shift: float  # added to the colour's hue, in degrees
    brightness: float  # factor on the colour's brightness
    texture: str  # one of TEXTURES
    texture_seed: int
    outline: bool  # whether it has a darker outline
    sounding: tuple[bool, ...]  # one flag a second; all False for a silent object
    amplitude: float  # of its sound, full scale is 1
    pitch: float  # factor on the colour's pitch

    def radius_at(self, time: float) -> float:
        """Radius in pixels at ``time`` in seconds."""
        relative, phase, rate = self.pulse
        return self.radius * (1 + relative * np.sin(2 * np.pi * rate * time + phase))

    def centre_at(self, time: float) -> tuple[float, float]:
        """Centre (x, y) in pixels at ``time`` in seconds."""
        margin, ways = 0.8 * self.radius, zip(self.start, self.velocity, FRAME_SIZE[::-1], strict=True)
        x, y = (_bounce(start + speed * time, margin, size - margin) for start, speed, size in ways)
        return x, y


@dataclass(frozen=True)
class Scene:
    """One clip before it is rendered."""

    objects: tuple[SceneObject, ...]  # the farthest first; later ones hide earlier ones
    num_seconds: int
    seed: int  # of the background and of the noise in the sound


def sample_scene(
    rng: np.random.Generator,
    sounding_names: tuple[str, ...],
    silent_names: tuple[str, ...] = (),
    num_seconds: int = 5,
    sound_at_start: bool = False,
) -> Scene:
    """Sample a scene in which the given names are seen and some of them are heard, in random depth order.

    Args:
        rng (Generator): source of all random numbers.
        sounding_names (tuple[str, ...]): names that sound, in at least 2 of each 5 seconds.
        silent_names (tuple[str, ...]): names that are only seen. Defaults to none.
        num_seconds (int): length of the clip. Defaults to 5.
        sound_at_start (bool): whether the first sounding name sounds in second 0. Defaults to False.

    Raises:
        ValueError: a name is unknown or given twice, or ``num_seconds`` is below 1.
    """
    names = (*sounding_names, *silent_names)
    if len(set(names)) != len(names):
        raise ValueError(f'a scene shows each name once, got {names}')
    if num_seconds < 1:
        raise ValueError(f'num_seconds must be at least 1, got {num_seconds}')
    patterns = [sample_sounding(rng, num_seconds) for _ in sounding_names]
    if sound_at_start and patterns:
        patterns[0] = (True, *patterns[0][1:])
    patterns += [(False,) * num_seconds for _ in silent_names]
    objects = place_objects(rng, names, patterns, num_seconds)
    order = rng.permutation(len(objects))
    return Scene(tuple(objects[i] for i in order), num_seconds, int(rng.integers(2**31)))


def sample_sounding(rng: np.random.Generator, num_seconds: int) -> tuple[bool, ...]:
    """Sample the seconds in which an object sounds: one flag each, at least 2 of 5 are True."""
    sounding = rng.random(num_seconds) < ON_PROBABILITY
    missing = -(-2 * num_seconds // 5) - int(sounding.sum())
    if missing > 0:
        sounding[rng.choice(np.flatnonzero(~sounding), missing, replace=False)] = True
    return tuple(bool(flag) for flag in sounding)


def sample_object(rng: np.random.Generator, name: str, sounding: tuple[bool, ...] = ()) -> SceneObject:
    """Sample one object anywhere in the frame, with a flag for each second in which it may sound.

    Raises:
        ValueError: the name is unknown.
    """
    split_name(name)
    height, width = FRAME_SIZE
    radius = rng.uniform(*RADIUS_RANGE)
    margin = 0.8 * radius
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1) * MAX_SPEED
    return SceneObject(
        name=name,
        radius=radius,
        start=(rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)),
        velocity=(speed * np.cos(heading), speed * np.sin(heading)),
        angle=rng.uniform(-np.pi, np.pi),
        spin=rng.uniform(-0.15, 0.15),
        pulse=(rng.uniform(0, 0.1), rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.2)),
        hue_shift=rng.uniform(-6, 6),
        brightness=rng.uniform(0.9, 1.08),
        texture=TEXTURES[rng.integers(len(TEXTURES))],
        texture_seed=int(rng.integers(2**31)),
        outline=bool(rng.random() < 0.5),
        sounding=sounding,
        amplitude=rng.uniform(*AMPLITUDE_RANGE),
        pitch=1 + rng.uniform(-PITCH_JITTER, PITCH_JITTER),
    )


def place_objects(
    rng: np.random.Generator, names: Sequence[str], patterns: Sequence[tuple[bool, ...]], num_seconds: int
) -> list[SceneObject]:
    """Sample objects, each with a flag a second, until they keep clear of each other; else the clearest attempt."""
    best, best_clearance = [], -np.inf
    for _ in range(PLACEMENT_TRIES):
        objects = [sample_object(rng, *pair) for pair in zip(names, patterns, strict=True)]
        clearance = _clearance(objects, num_seconds)
        if clearance > best_clearance:
            best, best_clearance = objects, clearance
        # 1 is touching circles; some overlap is wanted, hiding an object is not.
        if best_clearance > 0.7:
            break
    return best


def _clearance(objects: list[SceneObject], num_seconds: int) -> float:
    """Least distance of two centres over the sum of their radii, over all seconds."""
    if len(objects) < 2:
        return np.inf
    times = range(num_seconds)
    centres = np.array([[obj.centre_at(time) for time in times] for obj in objects])
    radii = np.array([obj.radius for obj in objects])
    first, second = np.triu_indices(len(objects), 1)
    distance = np.linalg.norm(centres[first] - centres[second], axis=-1)  # (pairs, seconds)
    return float((distance / (radii[first] + radii[second])[:, None]).min())


def _bounce(position: float, low: float, high: float) -> float:
    """Reflect a position at both ends of [low, high]."""
    offset = (position - low) % (2 * (high - low))
    return low + min(offset, 2 * (high - low) - offset)
