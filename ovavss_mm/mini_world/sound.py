# SPDX-License-Identifier: Apache-2.0
"""Sounds of the mini world: the colour of a name sets its pitch, the shape its timbre."""

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
    """Mix the sounds of a scene's objects over a quiet noise floor: float32 (seconds * 16000,) in -1..1, mono."""
    wave = noise_floor(np.random.default_rng((scene.seed, 1)), scene.num_seconds * SAMPLE_RATE)
    for obj in scene.objects:
        if any(obj.sounding):
            wave += object_sound(obj)
    return np.clip(wave, -1, 1).astype(np.float32)


def object_sound(obj: SceneObject) -> np.ndarray:
    """Sound of one object, float64 (seconds * 16000,); 0 in the seconds in which it is silent."""
    colour, shape = split_name(obj.name)
    time = np.arange(len(obj.sounding) * SAMPLE_RATE) / SAMPLE_RATE
    wave = timbre(shape, COLOUR_PITCH[colour] * obj.pitch, time)
    return obj.amplitude * wave * envelope(obj.sounding)


def timbre(shape: str, pitch: float, time: np.ndarray) -> np.ndarray:
    """Tone (n,) of a shape at some times (n,) in seconds, about as loud as a sine of amplitude 1; pitch is in Hz.

    Disc is a sine, square has odd partials, triangle is a siren, star pulses; ValueError for other shapes.
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
    """Loudness of an object that sounds in some whole seconds, given by a flag a second.

    Returns:
        np.ndarray: float64 (seconds * 16000,) in 0..1: 1 in sounding seconds, with short fades inside them where the
        sound begins and ends, 0 in silent ones.
    """
    curve = np.repeat(np.asarray(sounding, dtype=np.float64), SAMPLE_RATE)
    length = int(FADE_SECONDS * SAMPLE_RATE)
    rise = np.sin(np.linspace(0, np.pi / 2, length)) ** 2
    for second, (before, now) in enumerate(pairwise((False, *sounding, False))):
        border = second * SAMPLE_RATE
        if now and not before:
            curve[border : border + length] = rise
        if before and not now:
            curve[border - length : border] = rise[::-1]
    return curve


def noise_floor(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Quiet noise, float64 (num_samples,), whose power falls with the frequency."""
    spectrum = np.fft.rfft(rng.normal(size=num_samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    spectrum[0] = 0
    wave = np.fft.irfft(spectrum, num_samples)
    return wave * (NOISE_LEVEL / np.sqrt(np.mean(wave**2)))


def _partials(phase, orders, weights) -> np.ndarray:
    """Sum of sines of multiples of a phase."""
    return sum(w * np.sin(order * phase) for order, w in zip(orders, weights, strict=True))
