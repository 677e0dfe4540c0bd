# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from ovavss_mm.engine.benchmark import report


def test_spread_is_of_quartiles():
    assert report.spread([4.0]) == dict(median=4, q1=4, q3=4, iqr=0)
    assert report.spread([5, 1, 2, 3, 4]) == dict(median=3, q1=2, q3=4, iqr=2)


def test_rows_have_shares_and_rates():
    steps = [dict(a=1.0, other=1.0), dict(a=3.0, b=0.0, other=1.0), dict(a=2.0, other=1.0)]
    rows = report.stage_rows(steps, dict(a=10, other=0), ['b', 'a'], ceiling=20)
    assert list(rows) == ['b', 'a', 'other', 'total']
    assert rows['a']['median'] == 2 and rows['total']['samples'] == [2, 4, 3]
    assert rows['a']['share'] == pytest.approx(2 / 3) and rows['total']['share'] == 1
    assert rows['a']['ceiling_share'] == pytest.approx(10 / 2 / 20)
    assert rows['total']['flops'] == 10 and rows['b']['ceiling_share'] is None
    unknown = report.stage_rows(steps, {}, ['a'], None)
    assert unknown['a']['flops'] is None and unknown['a']['ceiling_share'] is None


def test_tables_have_a_line_a_stage():
    rows = report.stage_rows([dict(a=0.25, other=0.75)], dict(a=5e9), ['a'], 1e11)
    lines = [line.split() for line in report.stage_table(rows).splitlines()]
    assert ['|', 'a', '|', '250.00', '|', '0.00', '|', '25.0', '|', '5.00', '|', '20.0', '|'] in lines
    row = dict(stage='a', variant='x', base=report.spread([0.5]), changed=report.spread([0.25]))
    row.update(ratio=report.spread([0.5]), difference=None, scale=None)
    assert '0.500..0.500' in report.comparison_table([row])
    assert report.comparison_table([dict(row, ratio=None)]).count(' - |') == 4


def test_files_are_whole_or_not_there(tmp_path):
    path = tmp_path / 'new' / 'figures.json'
    report.write_json(dict(a=[1]), str(path))
    assert json.loads(path.read_text()) == dict(a=[1])
    with pytest.raises(TypeError):
        report.write_json(dict(a=object()), str(path))
    assert json.loads(path.read_text()) == dict(a=[1])


def test_hardware_is_plain_values():
    found = report.hardware('cpu')
    assert json.loads(json.dumps(found)) == found
    assert found['threads'] >= 1 and found['cpu'] and found['gpu'] is None
