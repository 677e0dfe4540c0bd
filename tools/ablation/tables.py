# SPDX-License-Identifier: Apache-2.0
"""Tables of suites as Markdown, CSV and pictures: the paper's numbers, and those measured here."""

import csv
import io
import math
import textwrap
from collections.abc import Iterable, Mapping
from contextlib import suppress
from statistics import mean, stdev
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import sem, t

from ovavss_mm.engine.parameters import count_parameters, mebibytes
from ovavss_mm.models.skeleton import build_skeleton
from ovavss_mm.utils.files import atomic_path, write_atomic

from .plan import Plan, Row

PAPER_DATA = 'AVSBench-OV'  # on which the paper measured
SCORES = dict(base='base_mIoU', novel='novel_mIoU', harmonic='harmonic_mIoU', mIoU='mIoU')
BOUNDARY = {'boundary F %': 'boundary_f'}
SOUNDS = {
    'silence': 'silence',
    'noise': 'noise',
    "another clip's": 'other',
    'off-screen': 'off_screen_0dB',
    'off-screen -6 dB': 'off_screen_6dB',
    'off-screen -12 dB': 'off_screen_12dB',
}
# Of tests with several sounds: frames labelled in which nothing visible sounds, and what is kept where it still does.
FRAMES = {'frames, own sound': 'silent_frame_fpr'}
FRAMES |= {f'frames, {name}': f'{key}/silent_frame_fpr' for name, key in SOUNDS.items()}
KEPT = {f'kept, {k}': f'{v}/kept' for k, v in SOUNDS.items() if v.startswith('off')}
FPR = {f'FPR, {k}': f'{v}/FPR' for k, v in SOUNDS.items() if not v.startswith('off')}
MEASURED = BOUNDARY | FRAMES | KEPT | FPR  # columns that are there if a test of the suite has them
PIXELS = {'pixels, own sound': 'silent_pixel_fpr'}
PIXELS |= {f'pixels, {name}': f'{key}/silent_pixel_fpr' for name, key in SOUNDS.items()}
HEARD = {f'{name}, {sound}': f'{k}/{v}' for sound, k in SOUNDS.items() for name, v in SCORES.items() if name != 'mIoU'}
ALL = SCORES | MEASURED | PIXELS | HEARD  # of CSV files
UNPAIRED = 'mIoU'  # of all others, differences to another row are shown
SIZES = dict(total_mib='Param. MiB', trainable_mib='trainable MiB')
COLORS = ('#2b6cb0', '#dd6b20', '#2f855a', '#718096', '#805ad5', '#d53f8c')


class Tables:
    """Writes the tables of a plan; ``first`` stands above them and says how they were made."""

    def __init__(self, plan: Plan, first: str) -> None:
        self.plan, self.first = plan, first
        self._sizes: dict[str, Mapping[str, float]] = {}

    def write(self, suites: Iterable[str] | None = None) -> None:
        """Write Markdown, CSV and picture of some suites (None: all), and all tables in one file."""
        out = self.plan.out
        for suite in self.plan.titles if suites is None else suites:
            write_atomic(out / f'{suite}.md', self.markdown(suite))
            write_atomic(out / f'{suite}.csv', self.csv(suite))
            with atomic_path(out / f'{suite}.png') as path:
                self.draw(suite).savefig(path)
        files = [path for suite in self.plan.titles if (path := out / f'{suite}.md').is_file()]
        texts = [path.read_text('utf-8') for path in files]
        write_atomic(out / 'tables.md', '\n'.join([self.first, *texts]))

    def markdown(self, suite: str) -> str:
        """The table of a suite; numbers of the paper and ours stand in columns of their own."""
        rows = [row for row in self.plan.rows if row.suite == suite]
        data, published = self.plan.data, [*SCORES, *SIZES]
        published = [key for key in published if any(key in row.published for row in rows)]
        ours = self.columns(suite)
        compared = [key for key in ours if key != UNPAIRED]
        paired = [key for key in compared if any(len(self.differences(row, ours[key])) > 1 for row in rows)]
        lines, failed = [], []
        for row in rows:
            figures, failures = measured(row)
            cells = [row.name.replace('|', '\\|')]
            cells += [number(row.published.get(key), 1 + (key in SCORES)) for key in published]
            cells += [spread(values_of(figures, key)) for key in ours.values()]
            cells += [number(self.sizes(row).get(key), 1) for key in SIZES]
            cells += [spread(values_of(figures, f'{kind} s'), 0) for kind in ('train', 'test')]
            cells += [f'{len(figures)}/{len(row.tests)}' if row.tests else 'no model here']
            if row.tests and not figures:  # in the first column of ours
                where = next(iter(failures.values())).where if failures else None
                cells[1 + len(published)] = f'failed: {where}' if failures else 'not run'
            why = [f'seed {n}: {f.reason} ({f.where})' for n, f in failures.items()]
            failed += [f'- {row.name}, {line}' for line in why]
            lines.append(cells)
        words = [f'{SIZES.get(key, key)}, published on {PAPER_DATA}' for key in published]
        heads = ['row', *words, *(f'{key}, ours on {data}' for key in ours)]
        heads += [*(f'{key}, ours' for key in SIZES.values()), 'train s', 'test s', 'seeds done']
        note = f'In percent. Published: in the paper, on {PAPER_DATA}; ours: measured on {data}'
        note += '.' if data == PAPER_DATA else ', so the two are not to be compared.'
        parts = [f'## {self.plan.titles[suite]}', note, as_table(heads, lines)]
        if paired:
            differences = [[x.name, *(interval(self.differences(x, ours[key])) for key in paired)] for x in rows]
            parts.append('Difference to the first row or the one that is named, seed by seed; mean and 95 % interval:')
            parts.append(as_table(['row', *(f'{key}, difference' for key in paired)], differences))
        return '\n\n'.join([*parts, *(['Failed:', '\n'.join(failed)] if failed else [])]) + '\n'

    def csv(self, suite: str) -> str:
        """A line for the paper's numbers of a row, for each seed, for mean and standard deviation."""
        names = {**ALL, 'train s': 'train s', 'test s': 'test s'}
        lines = []
        for row in [row for row in self.plan.rows if row.suite == suite]:
            figures, failures = measured(row)
            ours = {n: found | dict(status='done') for n, found in figures.items()}
            ours |= {n: dict(status=f'failed: {f.where}') for n, f in failures.items()}
            values = {key: values_of(figures, key) for key in names.values()}
            for word, function, least in (('mean', mean, 1), ('std', stdev, 2)):
                ours[word] = {k: function(v) for k, v in values.items() if len(v) >= least}
            pairs = {key: student(self.differences(row, names[key])) for key in ALL if key != UNPAIRED}
            for place, word in enumerate(('difference', 'difference from', 'difference to')):
                ours[word] = {names[key]: found[place] for key, found in pairs.items() if found}
            fixed = dict(row=row.name, data=self.plan.data, **self.sizes(row))
            for seed, found in [(seed, found) for seed, found in ours.items() if found]:
                cells = {name: number(found.get(key), 4, '') for name, key in names.items()}
                lines.append(dict(fixed, seed=seed, status=found.get('status'), **cells))
            if row.published:
                lines.append(dict(row.published, row=row.name, seed='published', data=PAPER_DATA))
        text = io.StringIO()
        columns = ['row', 'seed', 'data', *names, *SIZES, 'status']
        writer = csv.DictWriter(text, columns, lineterminator='\n')
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    def draw(self, suite: str) -> Figure:
        """Bars of what was measured here, with their spread; of several sounds, what is wrong over what is right."""
        rows = [row for row in self.plan.rows if row.suite == suite and row.tests]
        names = self.columns(suite)
        with_sounds = any(name in names for name in list(FRAMES)[2:])
        size = (13, 5) if with_sounds else (1.5 + 1.5 * max(3, len(rows)), 4)
        figure = Figure(figsize=size, layout='constrained', dpi=110)
        FigureCanvasAgg(figure)
        figure.suptitle(f'{self.plan.titles[suite]}: on {self.plan.data}', fontweight='bold')
        (draw_sounds if with_sounds else draw_bars)(figure, rows, names)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc='outside right center', frameon=False)
        return figure

    def columns(self, suite: str) -> dict[str, str]:
        """Headings and keys of what is shown: the scores, and what else its tests measured."""
        found = [figures for row in self.plan.rows if row.suite == suite for figures in measured(row)[0].values()]
        seen = {key for figures in found for key in figures}
        if not any(key.endswith('/silent_frame_fpr') for key in seen):  # every test has that of the own sound
            seen.discard('silent_frame_fpr')
        return SCORES | {name: key for name, key in MEASURED.items() if key in seen}

    def differences(self, row: Row, key: str) -> list[float]:
        """A figure less that of the row which this one is compared with, of the seeds that both have done."""
        rows = [other for other in self.plan.rows if other.suite == row.suite]
        other = next((x for x in rows if x.name == row.against), rows[0])
        both = measured(row)[0], measured(other)[0]
        values = [[figures[seed].get(key) for figures in both] for seed in both[0] if seed in both[1]]
        if other is row or any(value is None or math.isnan(value) for pair in values for value in pair):
            return []
        return [ours - theirs for ours, theirs in values]

    def sizes(self, row: Row) -> Mapping[str, float]:
        """Sizes of a row's model in MiB; empty for one that cannot be built: its job says why."""
        model = getattr(self.plan.read.get(row.config), 'model', None)
        if repr(model) not in self._sizes:
            self._sizes[repr(model)] = {}
            with suppress(Exception):  # whatever is wrong with one model, others have their tables
                count = count_parameters(build_skeleton(model))['all']
                both = (mebibytes(count.total), mebibytes(count.trainable))
                self._sizes[repr(model)] = dict(zip(SIZES, both, strict=True))
        return self._sizes[repr(model)]


def draw_bars(figure: Figure, rows: list[Row], names: Mapping[str, str]) -> None:
    """A group of bars for each row, mean and standard deviation."""
    axes, width = figure.subplots(), 0.8 / len(names)
    for place, ((name, key), color) in enumerate(zip(names.items(), COLORS, strict=False)):
        values = [values_of(measured(row)[0], key) for row in rows]
        x = [index + (place + 0.5) * width - 0.4 for index in range(len(rows))]
        error = [stdev(found) if len(found) > 1 else 0 for found in values]
        height = [mean(found) if found else 0 for found in values]
        bars = axes.bar(x, height, 0.94 * width, yerr=error, color=color, label=name, capsize=2)
        axes.bar_label(bars, [f'{mean(found):.1f}' if found else '' for found in values])
    axes.set_xticks(range(len(rows)), [textwrap.fill(row.name, 16) for row in rows])
    axes.set_ylabel('percent')


def draw_sounds(figure: Figure, rows: list[Row], names: Mapping[str, str]) -> None:
    """A point a row with 95 % intervals: frames labelled in which nothing visible sounds, over the harmonic mIoU."""
    shown = [name for name in ('noise', "another clip's", 'off-screen') if f'frames, {name}' in names]
    for axes, sound in zip(figure.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True):
        for index, row in enumerate(rows):
            found = measured(row)[0]
            pair = [values_of(found, key) for key in (SCORES['harmonic'], FRAMES[f'frames, {sound}'])]
            if not all(pair):
                continue
            ends = [student(values) or (values[0],) * 3 for values in pair]
            (x, y), errors = (end[0] for end in ends), [[[m - low], [high - m]] for m, low, high in ends]
            marker, color = 'osD^vP'[index // len(COLORS) % 6], COLORS[index % len(COLORS)]
            axes.errorbar(x, y, errors[1], errors[0], fmt=marker, color=color, label=row.name, capsize=2)
        axes.set(title=sound, xlabel='harmonic mIoU, own sound', ylim=(-2, 102))
    figure.axes[0].set_ylabel('frames labelled in which nothing visible sounds, %')


def as_table(heads: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ['---', *['---:'] * (len(heads) - 1)], *lines]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def measured(row: Row) -> tuple[dict[int, dict], dict[int, Any]]:
    """Figures of the seeds that are done, and what went wrong with others, by seed."""
    done, failed = {}, {}
    for seed, test in row.tests.items():
        status = test.status()
        if status.state == 'done':
            seconds = test.training.status().results.get('seconds') if test.training else None
            times = {'train s': seconds, 'test s': status.results['seconds']}
            done[seed] = status.results['figures'] | times
        elif status.state == 'failed':
            failed[seed] = status
    return done, failed


def values_of(figures: Mapping[int, Mapping[str, Any]], key: str) -> list[float]:
    """A figure over the seeds that are done, where it is a number."""
    values = [found.get(key) for found in figures.values()]
    return [value for value in values if value is not None and not math.isnan(value)]


def number(value: float | None, digits: int, without: str = '-') -> str:
    """A number as text, or what stands for none."""
    return without if value is None else f'{value:.{digits}f}'


def spread(values: list[float], digits: int = 2) -> str:
    """Mean and standard deviation (n - 1), as far as there are any."""
    if len(values) > 1 and digits:
        return f'{mean(values):.{digits}f} ± {stdev(values):.{digits}f}'
    return number(mean(values), digits) if values else '-'


def student(values: list[float]) -> tuple[float, float, float] | None:
    """Mean of n values and its 95 % interval, of Student's t; None of fewer than two."""
    if len(values) < 2:
        return None
    half = float(t.ppf(0.975, len(values) - 1) * sem(values))
    return mean(values), mean(values) - half, mean(values) + half


def interval(values: list[float]) -> str:
    """Mean and 95 % interval as text."""
    found = student(values)
    return '{:+.2f} [{:+.2f}, {:+.2f}]'.format(*found) if found else '-'
