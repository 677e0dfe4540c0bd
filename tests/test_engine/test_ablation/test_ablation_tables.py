# SPDX-License-Identifier: Apache-2.0
"""Tables and pictures of made-up results."""

import csv
import io
from pathlib import Path

import pytest

from ovavss_mm.engine.ablation import plot
from ovavss_mm.engine.ablation.plan import Entry
from ovavss_mm.engine.ablation.state import Status
from ovavss_mm.engine.ablation.suites import Row, Suite
from ovavss_mm.engine.ablation.tables import Measured, csv_text, markdown, published_of, spread_text, together

NAN = float('nan')
SIZES = dict(total_mib=7.04, trainable_mib=5.1)


def figures(base: float, novel: float, silent: float = NAN) -> dict[str, float]:
    """Figures of a test."""
    both = dict(base=base, novel=novel, harmonic=2 * base * novel / (base + novel), mIoU=1.0)
    rates = dict(silent_pixel_fpr=silent, silent_frame_fpr=2 * silent)
    return dict(both, **rates, train_seconds=100.0, test_seconds=20.0)


def row(name: str, done: dict, failures: dict | None = None, published: dict | None = None) -> Measured:
    """A row with two seeds."""
    entry = Entry(SUITE, Row(name, 'a', 'a', published or {}), Path('a.py'), Path('a.py'), {0: None, 1: None}, True)
    return Measured(entry, done, failures or {}, SIZES)


SUITE = Suite('table9', 'A table', ())
ROWS = [
    row('none', {0: figures(50, 20), 1: figures(54, 20)}),
    row('a|b', {0: figures(40, 10)}, published=dict(base=55.43, novel=29.14, total_mib=2331.4)),
    row('broken', {}, {0: Status('failed', reason='no memory', where=Path('out/x.log'))}),
    row('open', {}, published=dict(base=12.34)),
]


def cells(text: str) -> list[dict[str, str]]:
    """Rows of a Markdown table, by heading."""
    lines = [line for line in text.splitlines() if line.startswith('|')]
    split = [[cell.strip() for cell in line.replace('\\|', '/').strip('|').split('|')] for line in lines]
    return [dict(zip(split[0], line, strict=True)) for line in split[2:]]


def test_means_and_spreads_stand_in_the_table():
    table = cells(markdown(SUITE, ROWS, 'the mini world', [0, 1]))
    assert table[0]['base, ours on the mini world'] == '52.00 ± 2.83'  # n - 1
    assert table[0]['novel, ours on the mini world'] == '20.00 ± 0.00'
    assert table[1]['base, ours on the mini world'] == '40.00', 'one seed has no spread'
    assert [line['seeds done'] for line in table] == ['2/2', '1/2', '0/2', '0/2']
    assert table[0]['Param. MiB, ours'] == '7.0' and table[0]['trainable MiB, ours'] == '5.1'
    assert table[0]['train s'] == '100' and table[0]['test s'] == '20.0'


def test_published_numbers_are_never_in_our_columns():
    table = cells(markdown(SUITE, ROWS, 'the mini world', [0, 1]))
    ours = [{k: v for k, v in line.items() if 'published' not in k} for line in table]
    for number in ('55.43', '29.14', '38.20', '12.34', '2331.4'):
        assert all(number not in line.values() for line in ours)
    headings = list(table[0])
    assert all('AVSBench-OV' in name for name in headings if 'published' in name)
    assert not [name for name in headings if 'AVSBench-OV' in name and 'published' not in name]
    assert table[1]['base, published on AVSBench-OV'] == '55.43'
    assert table[1]['harmonic, published on AVSBench-OV'] == '38.20'
    assert table[1]['Param. MiB, published on AVSBench-OV'] == '2331.4'
    assert [line['base, published on AVSBench-OV'] for line in table] == ['-', '55.43', '-', '12.34']
    assert table[3]['harmonic, published on AVSBench-OV'] == '-'
    assert 'not to be compared' in markdown(SUITE, ROWS, 'the mini world', [0])
    assert 'not to be compared' not in markdown(SUITE, ROWS, 'AVSBench-OV', [0])


def test_rows_without_results_say_why():
    text = markdown(SUITE, ROWS, 'toys', [0, 1])
    table = cells(text)
    assert table[2]['base, ours on toys'] == 'failed: out/x.log'
    assert table[3]['base, ours on toys'] == 'not run'
    assert '- broken, seed 0: no memory (out/x.log)' in text


def test_a_failed_seed_is_told_beside_the_mean_of_the_others():
    failures = {1: Status('failed', reason='no memory', where=Path('x.log'))}
    text = markdown(SUITE, [row('half', {0: figures(50, 20)}, failures)], 'toys', [0, 1])
    (line,) = cells(text)
    assert line['base, ours on toys'] == '50.00' and line['seeds done'] == '1/2'
    assert '- half, seed 1: no memory (x.log)' in text


def test_suites_of_sound_have_the_rates_of_silence():
    sound = SUITE._replace(name='sound')
    rows = [row('own', {0: figures(50, 20, 1.5), 1: figures(50, 20, 2.5)}), ROWS[0]]
    table = cells(markdown(sound, rows, 'toys', [0, 1]))
    assert table[0]['pixels labelled %, ours on toys'] == '2.00 ± 0.71'
    assert table[0]['frames labelled %, ours on toys'] == '4.00 ± 1.41'
    assert table[1]['pixels labelled %, ours on toys'] == '-', 'NaN: there was no silence'
    assert 'pixels' not in markdown(SUITE, rows, 'toys', [0, 1])


def test_csv_is_tidy():
    lines = list(csv.DictReader(io.StringIO(csv_text(SUITE, ROWS, 'toys'))))
    assert [line['seed'] for line in lines if line['row'] == 'none'] == ['0', '1', 'mean', 'std']
    mean, std = (line for line in lines if line['row'] == 'none' and not line['seed'].isdigit())
    assert (float(mean['base']), float(std['base'])) == pytest.approx((52, 8**0.5), abs=1e-4)
    assert mean['silent_pixel_fpr'] == '' and mean['total_mib'] == '7.0400'
    published, *ours = (line for line in lines if line['row'] == 'a|b')
    assert (published['seed'], published['data']) == ('published', 'AVSBench-OV')
    assert published['harmonic'] == '38.1987'
    assert [line['seed'] for line in ours] == ['0', '1', 'mean'] and {o['data'] for o in ours} == {'toys'}
    assert {line['status'] for line in lines if line['row'] == 'broken'} == {*('failed: out/x.log', 'not run')}


def test_harmonic_mean_of_published_numbers_is_theirs_where_they_give_it():
    assert published_of(row('x', {}, published=dict(base=4, novel=4)).entry)['harmonic'] == 4
    given = dict(base=4, novel=4, harmonic=3.9)
    assert published_of(row('x', {}, published=given).entry) == given
    assert published_of(row('x', {}, published=dict(base=0, novel=0)).entry)['harmonic'] == 0


def test_spread_of_nothing_is_a_dash():
    assert [spread_text(values) for values in ([], [1.0], [1.0, 3.0])] == ['-', '1.00', '2.00 ± 1.41']


def test_a_first_line_that_repeats_is_left_out():
    assert together(['a\n\nx\n', 'a\n\ny\n', 'b\n\nz\n']) == 'a\n\nx\n\ny\n\nb\n\nz\n'


def test_picture_has_bars_where_there_are_results():
    figure = plot.draw(SUITE, ROWS, 'toys')
    (axes,) = figure.axes
    heights = [[bar.get_height() for bar in group] for group in axes.containers if len(group) == 2]
    assert [52, 40] in heights and [20, 10] in heights
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ['none', 'a|b', 'broken\n(failed)', 'open\n(not run)']
    assert '55.4' not in [text.get_text() for text in axes.texts], 'nothing published'


def test_pictures_of_sound_have_a_second_panel():
    rows = [row('own', {0: figures(50, 20, 1.5), 1: figures(50, 20, 2.5)})]
    figure = plot.draw(SUITE._replace(name='sound'), rows, 'toys')
    assert [axes.get_ylabel() for axes in figure.axes] == [*('mIoU, percent', 'of what is silent, percent')]
    assert '2.0' in [text.get_text() for text in figure.axes[1].texts]


def test_a_picture_is_written(tmp_path):
    plot.save(plot.draw(SUITE, ROWS[2:], 'toys'), tmp_path / 'x.png')
    assert (tmp_path / 'x.png').read_bytes().startswith(b'\x89PNG')
    assert len(list(tmp_path.iterdir())) == 1
