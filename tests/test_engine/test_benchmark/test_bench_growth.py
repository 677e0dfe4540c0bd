# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from ovavss_mm.engine.benchmark import growth
from ovavss_mm.engine.benchmark.report import stage_rows
from ovavss_mm.engine.benchmark.stages import STAGES

HELD = growth.Point(frames=5, queries=None, names=70, size=256)


def figures(total=1.0, memory=64.0):
    """What a point gives."""
    return dict(seconds=dict(decoder=total / 2, total=total), peak=1000 + memory, memory=memory)


def test_points_change_one_value():
    points = growth.points_of('queries', [50, 25, 50], HELD)
    assert points == [HELD._replace(queries=25), HELD._replace(queries=50)]
    assert HELD.frame_size == (256, 448) and HELD.value('size') == 256 * 448
    assert HELD._replace(size=100).value('size') == 128 * 192  # of the padded frame
    assert HELD.value('names') == 70
    with pytest.raises(ValueError, match='no axis .depth'):
        growth.points_of('depth', [1], HELD)
    with pytest.raises(ValueError, match='size must be at least 32, got'):
        growth.points_of('size', [16], HELD)


def test_values_of_some_axes():
    assert growth.parse_values(['size=64,96'])['size'] == (64, 96)
    assert growth.parse_values([]) == growth.AXES
    for wrong in ('size', 'size=', 'size=a', 'depth=1', 'size=1,,2'):
        with pytest.raises(ValueError, match='AXIS=1,2,5'):
            growth.parse_values([wrong])


def test_exponents_are_of_the_last_points():
    xs = [1, 2, 4, 8]
    assert growth.exponent(xs, [3 * x**1.5 for x in xs]) == pytest.approx(1.5)
    assert growth.exponent(xs, [1000, 4, 16, 64]) == pytest.approx(2)
    assert growth.exponent([5], [1]) is None and growth.exponent([], []) is None
    assert growth.exponent([1, 2], [0, 1]) is None


def test_every_stage_belongs_to_one_group():
    grouped = [stage for members in growth.GROUPS.values() for stage in members]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {*STAGES['train'], *STAGES['test'], 'other'}


def test_groups_sum_up_to_the_total():
    steps = [dict.fromkeys([*STAGES['test'], 'other'], 0.5)]
    result = dict(stages=stage_rows(steps, {}, STAGES['test'], None), crops=25)
    out = growth.figures_of(dict(result, memory=dict(peak=30.0, before=10.0)))
    total = out['seconds'].pop('total')
    assert math.isclose(sum(out['seconds'].values()), total) and 'backward' not in out['seconds']
    assert out['memory'] == 20 and out['peak'] == 30 and out['crops'] == 25


def test_points_that_are_there_are_not_measured_again(tmp_path):
    path, calls = str(tmp_path / 'growth.json'), []

    def measure():
        calls.append(1)
        return figures(len(calls))

    first = growth.Results(path).get(HELD, dict(repeats=1), measure)
    again = growth.Results(path)
    assert again.get(HELD, dict(repeats=1), measure) == first and len(calls) == 1
    again.get(HELD._replace(frames=6), dict(repeats=1), measure)
    again.get(HELD, dict(repeats=2), measure)
    assert len(calls) == 3 and len(growth.Results(path).rows) == 3


def test_points_that_failed_are_tried_again(tmp_path):
    path = str(tmp_path / 'growth.json')
    assert 'error' in growth.Results(path).get(HELD, {}, lambda: dict(error='no memory'))
    assert growth.Results(path).get(HELD, {}, figures) == figures()
    assert len(growth.Results(path).rows) == 1


@pytest.mark.parametrize('text', ['', '[]', '{"points"', '{}'], ids=['empty', 'list', 'cut', 'other'])
def test_another_file_is_not_overwritten(tmp_path, text):
    path = tmp_path / 'growth.json'
    path.write_text(text)
    with pytest.raises(ValueError, match='not a file of this benchmark'):
        growth.Results(str(path))
    assert path.read_text() == text


def test_table_and_picture(tmp_path):
    points = growth.points_of('frames', [1, 2, 4], HELD)
    rows = [(point, figures(total=point.frames**2)) for point in points]
    rows.append((HELD._replace(frames=8), dict(error='not done in 5 s')))
    table = growth.growth_table('frames', rows)
    (total,) = [line.split('|') for line in table.splitlines() if 'total, ms' in line]
    assert [cell.strip() for cell in total[2:-1]] == ['1000.0', '4000.0', '16000.0', '2.00']
    assert 'frames 8: not done in 5 s' in table
    path = tmp_path / 'growth.png'
    growth.plot(dict(frames=rows, size=[(HELD, dict(error='no'))]), str(path), 'title')
    assert path.read_bytes().startswith(b'\x89PNG') and list(tmp_path.iterdir()) == [path]
    assert 'frames' in growth.growth_table('frames', [])
