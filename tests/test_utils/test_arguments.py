# SPDX-License-Identifier: Apache-2.0
"""What arguments a function or class takes."""

import pytest

from ovavss_mm.utils.arguments import arguments_of


class Base:
    """Takes one argument."""

    def __init__(self, size=1):
        self.size = size


class Swallows:
    """Keeps whatever comes."""

    def __init__(self, interval=1, **kwargs):
        self.rest = kwargs


class HandsOn(Base):
    """Gives the rest to its base."""

    def __init__(self, name, **kwargs):
        super().__init__(**kwargs)


class LooksUp(HandsOn):
    """Takes some out, adds a default, and gives the rest to its base."""

    def __init__(self, *args, **kwargs):
        kwargs = dict(size=3) | kwargs
        self.colour = kwargs.pop('colour', 'red')
        if 'shape' in kwargs:
            self.shape = kwargs['shape']
        super().__init__(*args, **kwargs)


class GivesElsewhere(Base):
    """Has a part that takes the rest."""

    def __init__(self, name, **kwargs):
        super().__init__()
        self.part = dict(**kwargs)


class Keeps(Swallows):
    """Keeps what its base swallows."""

    def __init__(self, *args, out=None, **kwargs):
        super().__init__(*args, **kwargs)


class Without(Base):
    """Has no constructor of its own."""


class Empty:
    """Takes nothing."""


def save(path, *, quality=9):
    """A function."""


@pytest.mark.parametrize(
    ('part', 'names'),
    [
        (Base, {'size'}),
        (Without, {'size'}),
        (HandsOn, {'name', 'size'}),
        (LooksUp, {'name', 'size', 'colour', 'shape'}),
        (Empty, set()),
        (save, {'path', 'quality'}),
        (Swallows, None),
        (Keeps, None),
        (GivesElsewhere, None),
        (dict, None),
        (lambda **kwargs: None, None),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_bases_get_what_is_handed_on(part, names):
    assert arguments_of(part) == names


def test_what_is_kept_for_a_function_is_known_by_the_function():
    assert arguments_of(Keeps, {Swallows: save}) == {'out', 'interval', 'path', 'quality'}
