# SPDX-License-Identifier: Apache-2.0
"""Sounds of the mini world: the colour of a name sets its pitch, the shape its timbre."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .names import split_name
from .scene import Scene, SceneObject

SAMPLE_RATE = 16000  # Hz
COLOUR_PITCH = {'red': 220.0, 'yellow': 392.0, 'green': 698.0, 'blue': 1245.0, 'purple': 2217.0}
HIGHEST_PARTIAL = 7000.0  # Hz
FADE_SECONDS = 0.01
NOISE_LEVEL = 10 ** (-50 / 20)  # root mean square, full scale is 1
SIREN_RATE, SIREN_DEPTH = 5.0, 0.12  # Hz, part of the pitch
PULSE_RATE = 9.0  # Hz


def render_sound(scene: Scene) -> np.ndarray:
    """Mix the sounds of a scene's objects over a quiet noise floor.

    Args:
        scene: what sounds when.

    Returns:
        float32 (seconds * 16000,) in -1..1, 16 kHz mono.
    """
    wave = noise_floor(np.random.default_rng((scene.seed, 1)), scene.num_seconds * SAMPLE_RATE)
    for obj in scene.objects:
        if any(obj.sounding):
            wave += object_sound(obj)
    return np.clip(wave, -1, 1).astype(np.float32)


def object_sound(obj: SceneObject) -> np.ndarray:
    """Make the sound of one object, silent in the seconds in which it does not sound.

    Args:
        obj: the object; its ``sounding`` has one flag a second.

    Returns:
        float64 (seconds * 16000,).
    """
    colour, shape = split_name(obj.name)
    time = np.arange(len(obj.sounding) * SAMPLE_RATE) / SAMPLE_RATE
    wave = timbre(shape, COLOUR_PITCH[colour] * obj.pitch, time)
    return obj.amplitude * wave * envelope(obj.sounding)


def timbre(shape: str, pitch: float, time: np.ndarray) -> np.ndarray:
    """Make the tone of a shape.

    Args:
        shape: disc (sine), square (odd partials), triangle (siren) or star (pulses).
        pitch: in Hz.
        time: (n,) in seconds.

    Returns:
        (n,) wave of a loudness near that of a sine of amplitude 1.

    Raises:
        ValueError: if the shape is unknown.
    """
    phase = 2 * np.pi * pitch * time
    if shape == 'disc':
        return np.sin(phase)
    if shape == 'square':
        orders = np.arange(1, HIGHEST_PARTIAL / pitch, 2)
        return 0.9 * _partials(phase, orders, 1 / orders)
    if shape == 'triangle':
        # The integral of a pitch that swings about its mean.
        phase -= pitch * SIREN_DEPTH / SIREN_RATE * np.cos(2 * np.pi * SIREN_RATE * time)
        return 0.9 * _partials(phase, (1, 2), (1, 0.5))
    if shape == 'star':
        gate = np.clip(0.5 + 2 * np.sin(2 * np.pi * PULSE_RATE * time), 0, 1)
        return gate * _partials(phase, (1, 2, 3), (1, 0.6, 0.4))
    raise ValueError(f'unknown shape {shape!r}; the shapes are disc, square, triangle, star')


def envelope(sounding: tuple[bool, ...]) -> np.ndarray:
    """Make the loudness curve of an object that sounds in some whole seconds.

    Args:
        sounding: one flag a second.

    Returns:
        float64 (seconds * 16000,) in 0..1: 1 in sounding seconds, with short fades inside them
        where the sound begins and ends, 0 in silent seconds.
    """
    curve = np.repeat(np.asarray(sounding, dtype=np.float64), SAMPLE_RATE)
    length = int(FADE_SECONDS * SAMPLE_RATE)
    rise = np.sin(np.linspace(0, np.pi / 2, length)) ** 2
    padded = (False, *sounding, False)
    for second, (before, now) in enumerate(pairwise(padded)):
        border = second * SAMPLE_RATE
        if now and not before:
            curve[border : border + length] = rise
        if before and not now:
            curve[border - length : border] = rise[::-1]
    return curve


def noise_floor(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Make quiet noise whose power falls with the frequency, about -50 dB of full scale.

    Args:
        rng: source of chance.
        num_samples: length.

    Returns:
        float64 (num_samples,).
    """
    spectrum = np.fft.rfft(rng.normal(size=num_samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    spectrum[0] = 0
    wave = np.fft.irfft(spectrum, num_samples)
    return wave * (NOISE_LEVEL / np.sqrt(np.mean(wave**2)))


def _partials(phase, orders, weights) -> np.ndarray:
    """Add up sines of multiples of a phase."""
    return sum(
        weight * np.sin(order * phase) for order, weight in zip(orders, weights, strict=True)
    )
