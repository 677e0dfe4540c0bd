# SPDX-License-Identifier: Apache-2.0
"""The tables of suites, as Markdown and CSV: what the paper published, and what was measured here."""

import csv
import io
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from ...utils.files import atomic_path
from .plan import Entry, Plan
from .state import Status, status_of
from .suites import Suite

PAPER_DATA = 'AVSBench-OV'  # on which the paper measured
SCORES = ('base', 'novel', 'harmonic')
SILENT = dict(silent_pixel_fpr='pixels labelled %', silent_frame_fpr='frames labelled %')
FIGURES = (*SCORES, 'mIoU', *SILENT)
SIZES = dict(total_mib='Param. MiB', trainable_mib='trainable MiB')
COLUMNS = (
    *('suite', 'row', 'config', 'train_config', 'seed', 'data', 'status'),
    *(*FIGURES, *SIZES, 'train_seconds', 'test_seconds'),
)


class Measured(NamedTuple):
    """What is known of a row.

    Attributes:
        entry: the row.
        figures: seed to figures, in percent, and ``train_seconds`` and ``test_seconds``; of seeds that are done.
        failures: seed to what went wrong.
        sizes: ``total_mib`` and ``trainable_mib`` of the model; empty: unknown.
    """

    entry: Entry
    figures: dict[int, dict[str, float]]
    failures: dict[int, Status]
    sizes: Mapping[str, float]

    def values(self, name: str) -> list[float]:
        """A figure over the seeds that are done, where it is a number."""
        values = (figures.get(name) for figures in self.figures.values())
        return [value for value in values if value is not None and not math.isnan(value)]

    @property
    def status(self) -> str:
        """How it stands, in words: empty if any seed is done."""
        if self.figures:
            return ''
        if self.failures:
            return f'failed: {next(iter(self.failures.values())).where}'
        return 'not run'


def measure(plan: Plan, suite: Suite, sizes: Mapping[Path, Mapping[str, float]]) -> list[Measured]:
    """What is known of each row of a suite.

    Args:
        plan: that has the suite.
        suite: the suite.
        sizes: of the model of each config, where known.
    """
    rows = []
    for entry in plan.entries:
        if entry.suite.name == suite.name:
            figures, failures = {}, {}
            for seed, test in entry.tests.items():
                status = status_of(test)
                if status.state == 'done':
                    training = status_of(test.training).results.get('seconds')
                    figures[seed] = dict(
                        status.results['figures'], train_seconds=training, test_seconds=status.results['seconds']
                    )
                elif status.state == 'failed':
                    failures[seed] = status
            rows.append(Measured(entry, figures, failures, sizes.get(entry.config, {})))
    return rows


def published_of(entry: Entry) -> dict[str, float]:
    """The paper's numbers for a row; the harmonic mean follows from the two others."""
    numbers = dict(entry.row.published)
    if 'harmonic' not in numbers and {'base', 'novel'} <= numbers.keys():
        base, novel = numbers['base'], numbers['novel']
        numbers['harmonic'] = 2 * base * novel / (base + novel) if base + novel else 0.0
    return numbers


# ------------------------------------------------------------------ Markdown
def markdown(suite: Suite, rows: Sequence[Measured], data: str, seeds: Sequence[int]) -> str:
    """The table of a suite.

    Args:
        suite: the suite.
        rows: what is known of its rows.
        data: what ours was measured on.
        seeds: that each row should have.

    Returns:
        Lines of Markdown with a heading.
    """
    columns = _columns(suite, rows, data, len(seeds))
    lines = [
        '| ' + ' | '.join(columns) + ' |',
        '| --- |' + ' ---: |' * (len(columns) - 1),
        *('| ' + ' | '.join(cell(row) for cell in columns.values()) + ' |' for row in rows),
    ]
    failed = [
        f'- {row.entry.row.name}, seed {seed}: {status.reason} ({status.where})'
        for row in rows
        for seed, status in row.failures.items()
    ]
    failed = ['', 'Failed:', '', *failed] if failed else []
    return '\n'.join([f'## {suite.title}', '', _note(data), '', *lines, *failed]) + '\n'


def _columns(suite: Suite, rows: Sequence[Measured], data: str, seeds: int) -> dict[str, Callable[[Measured], str]]:
    """Headings, and what makes the cell of a row below each."""
    published = {name: name for name in SCORES}
    known = {key for row in rows for key in row.entry.row.published}
    published.update({key: words for key, words in SIZES.items() if key in known})
    ours = {name: name for name in SCORES} | (SILENT if suite.name.startswith('sound') else {})
    first = next(iter(ours))
    columns: dict[str, Callable[[Measured], str]] = {'row': lambda row: row.entry.row.name.replace('|', '\\|')}
    for key, words in published.items():
        columns[f'{words}, published on {PAPER_DATA}'] = lambda row, key=key: _number(
            published_of(row.entry).get(key), 2 if key in SCORES else 1
        )
    for key, words in ours.items():
        columns[f'{words}, ours on {data}'] = lambda row, key=key: (
            (row.status if key == first else '') or spread_text(row.values(key))
        )
    for key, words in SIZES.items():
        columns[f'{words}, ours'] = lambda row, key=key: _number(row.sizes.get(key), 1)
    for kind in ('train', 'test'):
        columns[f'{kind} s'] = lambda row, key=f'{kind}_seconds': _mean_text(row.values(key))
    columns['seeds done'] = lambda row: f'{len(row.figures)}/{seeds}'
    return columns


def _note(data: str) -> str:
    """What must not be compared."""
    note = f'mIoU in percent. Published: in the paper, on {PAPER_DATA}. Ours: measured here, on {data}'
    differs = '' if data == PAPER_DATA else ', so the two are not to be compared'
    return f'{note}{differs}. "(ours)" in a row is the paper\'s word for its own model.'


def spread_text(values: Sequence[float]) -> str:
    """Mean and standard deviation (n - 1) of figures, as far as there are any."""
    if not values:
        return '-'
    spread = f' ± {stdev(values):.2f}' if len(values) > 1 else ''
    return f'{mean(values):.2f}{spread}'


def _mean_text(values: Sequence[float]) -> str:
    """Mean of seconds."""
    return _number(mean(values), 0 if mean(values) >= 100 else 1) if values else '-'


def _number(value: float | None, digits: int) -> str:
    """A number; '-' where it is not known."""
    return '-' if value is None or math.isnan(value) else f'{value:.{digits}f}'


# ------------------------------------------------------------------ CSV
def csv_text(suite: Suite, rows: Sequence[Measured], data: str) -> str:
    """The table of a suite as CSV, a line a row and seed, with ``mean``, ``std`` and ``published`` as seeds.

    Published numbers are on lines of their own, with the data that they were measured on.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
    writer.writeheader()
    for row in rows:
        entry = row.entry
        names = dict(suite=suite.name, row=entry.row.name)
        configs = dict(config=entry.config.stem, train_config=entry.train.stem)
        if published := published_of(entry):
            line = dict(names, seed='published', data=PAPER_DATA, status='published', **published)
            writer.writerow(_rounded(line))
        for seed, values in _csv_lines(row):
            writer.writerow(_rounded(dict(names, **configs, seed=seed, data=data, **values)))
    return text.getvalue()


def _csv_lines(row: Measured) -> list[tuple[int | str, dict]]:
    """Seed and values of the lines of a row."""
    lines: list[tuple[int | str, dict]] = []
    for seed in row.entry.tests:
        if seed in row.figures:
            lines.append((seed, dict(row.figures[seed], **row.sizes, status='done')))
        elif seed in row.failures:
            lines.append((seed, dict(status=f'failed: {row.failures[seed].where}')))
        else:
            lines.append((seed, dict(status='not run')))
    for word, least, function in (('mean', 1, mean), ('std', 2, stdev)):
        values = {key: row.values(key) for key in (*FIGURES, 'train_seconds', 'test_seconds')}
        values = {key: function(found) for key, found in values.items() if len(found) >= least}
        if values:
            sizes = row.sizes if word == 'mean' else {}
            status = f'{len(row.figures)} of {len(row.entry.tests)} seeds'
            lines.append((word, dict(values, **sizes, status=status)))
    return lines


def _rounded(line: dict) -> dict:
    """Numbers to four digits, nothing where there is none."""
    return {
        key: ('' if math.isnan(value) else f'{value:.4f}') if isinstance(value, float) else value
        for key, value in line.items()
        if value is not None
    }


# ------------------------------------------------------------------ all suites
def first_line(plan: Plan, command: Sequence[str], machine: str) -> str:
    """What all tables were made with."""
    seeds = ', '.join(map(str, plan.seeds))
    parts = [
        f'`{shlex.join(command)}`',
        machine,
        f'base {plan.base.name} ({plan.base.config.stem})',
        f'data: {plan.base.data}',
        f'{plan.iterations or "unknown"} iterations',
        f'seeds {seeds}',
    ]
    return '; '.join(parts) + '.\n'


def together(texts: Sequence[str]) -> str:
    """One text of those of several suites; a first line that is like the one before is left out."""
    parts, before = [], None
    for text in texts:
        first, _, rest = text.partition('\n')
        parts.append(rest.lstrip('\n') if first == before else text)
        before = first
    return '\n'.join(parts)


def write(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_path(path) as beside:
        beside.write_text(text, encoding='utf-8')
