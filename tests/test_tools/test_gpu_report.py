# SPDX-License-Identifier: Apache-2.0
"""The report of a GPU, on a CPU: what fails or takes too long is reported, and the rest goes on."""

import argparse
import json
import sys
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / 'tools/analysis_tools'), str(ROOT / 'tests')]

import gpu_report as tool  # noqa: E402

SLOW = """
import json, sys, time
arguments = sys.argv[1:]
json.dump({arguments[arguments.index('--section') + 1]: {}}, open(arguments[-1], 'w'))
time.sleep('attention' in arguments and 60)
sys.exit('naming' in arguments)
"""


def fail():
    raise ValueError('too hot')


def test_sections_are_processes_and_those_that_fail_are_reported(tmp_path, capfd):
    out = tmp_path / 'report.json'
    command = ['--device', 'cpu', '--quick', '--out', str(out), '--fixtures', str(tmp_path / 'none')]
    with pytest.raises(SystemExit, match='failed: parity: parity'):
        tool.main([*command, '--only', 'parity', 'attention'])
    report = json.loads(out.read_text())
    assert list(report) == ['settings', 'sections'] and list(report['sections']) == ['parity', 'attention']
    parity, attention = (report['sections'][name]['items'] for name in ('parity', 'attention'))
    assert 'has no files' in parity['parity']['error'] and 'traceback' in parity['parity']
    for name, bound in (('float32', 1e-4), ('bfloat16', 5e-2)):
        item = attention[f'mini, 2 frames of 32 x 64, {name}']
        assert item['kernel'].startswith('skipped: ')
        for path in ('ours', "mmcv's"):
            assert item[path]['ms'] > 0 and item[path]['value'] < bound
    printed = capfd.readouterr().out
    assert '== parity' in printed and 'bfloat16: kernel skipped' in printed


def test_a_measurement_that_fails_does_not_end_its_section(tmp_path, monkeypatch):
    items = dict(bad=fail, left_out=lambda: tool.skip('no fan'), good=lambda: dict(ms=1.5))
    monkeypatch.setitem(tool.SECTIONS, 'loader', tool.Section(1, lambda args: items))
    tool.run_section(argparse.Namespace(section='loader', into=str(tmp_path / 'items.json')))
    found = json.loads((tmp_path / 'items.json').read_text())
    assert found['bad']['error'] == 'ValueError: too hot' and found['good']['ms'] == 1.5
    assert found['left_out']['skipped'] == 'no fan'
    assert [tool.line_of(item) for item in found.values()][:2] == ['error: ValueError: too hot', 'skipped: no fan']


def test_a_section_has_its_time(tmp_path, monkeypatch):
    """What it had measured is kept; without time it is not started."""
    script = tmp_path / 'slow.py'
    script.write_text(SLOW)
    monkeypatch.setattr(tool, '__file__', str(script))
    found = tool.start_section('attention', [], 4)
    assert found['error'] == 'stopped after 4 s' and found['items'] == dict(attention={})
    assert tool.start_section('naming', [], 60)['error'] == 'exit status 1'
    assert 'error' not in tool.start_section('loader', [], 60)
    assert tool.start_section('loader', [], 0) == dict(items={}, skipped='no time left')


def test_figures_of_a_step():
    """Of the benchmark, in milliseconds; a command that it does not take is an error with its words."""
    args = tool.parse_args(['--device', 'cpu', '--quick'])
    size = ['--size', '32', '64', '--frames', '2', '--names', '4']
    with DefaultScope.overwrite_default_scope('mmseg'):
        item = tool.attempt(tool.bench(args, 'ovavss_mini.py', 'test', *size))
    assert item['stages']['total']['ms'] > item['stages']['backbone']['ms'] > 0
    assert 0 < item['stages']['total']['of ceiling'] and item['peak memory, MiB'] > 0
    assert ' ms, peak ' in tool.line_of(item) and '% of ceiling' in tool.line_of(item)
    wrong = tool.attempt(tool.bench(args, 'ovavss_mini.py', 'test', '--frames', '0'))
    assert '--frames must be at least 1' in wrong['error']


def test_all_sections_name_configs_that_there_are():
    args = tool.parse_args([])
    for name in (tool.R50, tool.SWIN, *tool.NAMING, *tool.SYSTEMS, *tool.MINI_SYSTEMS, 'ovavss_mini_swin.py'):
        assert Path(tool.config_path(name)).is_file()
    listed = {name: section.items(args) for name, section in tool.SECTIONS.items()}
    assert all(listed.values()) and 'two steps, AmpOptimWrapper' in listed['swin']
    with pytest.raises(tool.Skipped, match='names no folder'):
        listed['parity']['fixtures']()
