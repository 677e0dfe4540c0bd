# SPDX-License-Identifier: Apache-2.0
"""The card of a model in a folder, ``README.md``, for people and for the hub."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import yaml

from ..datasets.files import is_plain, read_json
from ..utils.known_weights import known_weights
from ..utils.text import one_line

UNKNOWN = 'unknown'  # the hub's word for a licence that nobody has stated
TIMES = ('time', 'data_time')  # what mmengine adds to the result of a test

TEXT = """# {name}

{what}

## Use

```python
import ovavss_mm
inferencer = ovavss_mm.from_pretrained('FOLDER')  # this folder, or its id on the hub
result = inferencer('clip.mp4', {classes}out_dir='out')
```

or `python tools/infer.py clip.mp4 --model FOLDER {names}--out-dir out`. Reading the folder runs nothing that is in it.
`preprocessing.json` says what the model sees and hears, `vocabulary.json` which names it knows, `config.json` the rest.

## Names

{vocabulary}

## Licence

{licence}

## Measured

{figures}
"""


class ModelCard(NamedTuple):
    """What the writer of a card has to be told.

    Attributes:
        name (str): of the model; None: that of its config.
        licence (str): of its weights, as the hub calls it ('mit', 'apache-2.0'). Defaults to 'unknown'.
        figures (Mapping[str, float]): measured figures by name. Defaults to none.
        measured_on (str): on what they were measured. Defaults to None.
    """

    name: str | None = None
    licence: str = UNKNOWN
    figures: Mapping[str, float] = {}
    measured_on: str | None = None


def read_figures(path: str) -> dict[str, float]:
    """Figures in a JSON file: a table of numbers, such as the result of a test, whose times are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no table of numbers.
    """
    told = read_json(path)
    try:
        return checked_figures({k: v for k, v in told.items() if k not in TIMES} if isinstance(told, dict) else told)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def checked_figures(told: Any) -> dict[str, float]:
    """Finite numbers by name, at least one, else ValueError."""
    if not isinstance(told, Mapping) or not told:
        raise ValueError(f'figures are a table of names and numbers, got {one_line(repr(told))}')
    for name, value in told.items():
        number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not isinstance(name, str) or not is_plain(name):
            raise ValueError(f'figures are finite numbers, got {one_line(repr(name))}: {one_line(repr(value))}')
    return dict(told)


def write_card(card: ModelCard, kind: str, vocabulary: Mapping[str, Any], sources: Sequence[Mapping[str, str]]) -> str:
    """Text of a card.

    Args:
        card (ModelCard): with a name.
        kind (str): type of the model.
        vocabulary (Mapping): as in ``vocabulary.json``.
        sources (Sequence[Mapping]): where weights come from: ``file``, ``title``, ``licence``.

    Raises:
        ValueError: a text of the card is no line, or a figure no number.
    """
    for key in ('name', 'licence', 'measured_on'):
        text = getattr(card, key)
        if not (key == 'measured_on' and text is None) and not (isinstance(text, str) and text and is_plain(text)):
            raise ValueError(f'{key} of a card must be a line of text, got {one_line(repr(text))}')
    is_open, names = vocabulary['open'], vocabulary['names']
    openness = 'open-vocabulary' if is_open else 'closed-vocabulary'
    head: dict[str, Any] = dict(license=card.licence, library_name='ovavss_mm')
    head['tags'] = ['audio-visual-segmentation', 'semantic-segmentation', openness, 'mmsegmentation']
    if card.figures:
        head['metrics'] = list(checked_figures(card.figures))
    named = 'names that you give with the call' if is_open else 'the names below'
    classes, option = ("classes=['violin', 'dog'], ", '--classes violin dog ') if is_open else ('', '')
    text = TEXT.format(
        name=card.name,
        what=f'`{kind}` of the library `ovavss_mm` labels the pixels of what sounds in a video, second by second, with '
        f'{named}.',
        classes=classes,
        names=option,
        vocabulary=_vocabulary_text(is_open, names, vocabulary['base']),
        licence=_licence_text(card.licence, sources),
        figures=_figures_text(card),
    )
    return f'---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n{text}'


def _vocabulary_text(is_open: bool, names: Sequence[str] | None, base: Sequence[str] | None) -> str:
    """What names the model knows."""
    kind = 'It takes any names.' if is_open else 'It knows these names only.'
    if names is None:
        return f'{kind} Which it was trained with is not noted.' if is_open else 'Which names it knows is not noted.'
    if base:
        rest = [name for name in names if name not in base]
        novel = f' Not seen in training: {", ".join(rest)}.' if rest else ''
        return f'{kind} Seen in training: {", ".join(base)}.{novel}'
    return f'{kind} Noted of training: {", ".join(names)}.'


def _licence_text(licence: str, sources: Sequence[Mapping[str, str]]) -> str:
    """The licence of the weights, and those of what they are made of."""
    own = f'Weights: {licence}.' if licence != UNKNOWN else 'Nobody has stated a licence of the weights as a whole.'
    if not sources:
        return own
    rows = [f'- {row["title"]} (`{row["file"]}`): {row["licence"]}' for row in sources]
    return '\n'.join([f'{own} In them, or where their training started, are weights of others:', '', *rows])


def _figures_text(card: ModelCard) -> str:
    """A table of the figures."""
    if not card.figures:
        return 'Nothing is noted.'
    on = f' on {card.measured_on}' if card.measured_on else ''
    rows = [f'| {name.replace("|", "/")} | {value:g} |' for name, value in card.figures.items()]
    return '\n'.join(
        [f'As stated by those who published the model{on}:', '', '| metric | value |', '| --- | --- |', *rows]
    )


def source_of(checkpoint: str) -> dict[str, str]:
    """Title and licence of weights, by the last part of their path or id, as far as they are known."""
    file = checkpoint.rstrip('/').rpartition('/')[2]
    known = known_weights().get(file)
    title, licence = (known.title, known.licence) if known else ('weights', 'not known here')
    return dict(file=file, title=title, licence=licence)
