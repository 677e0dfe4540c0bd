# SPDX-License-Identifier: Apache-2.0
"""The command line of the ablations, on the suites that ship."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

tool = published.load_tool('ablate.py')
NO_MIM = ('false',)  # nothing here may start anything


def run(*args: object, out: Path, code: object = None) -> None:
    """Run the tool."""
    try:
        tool.main([*map(str, args), '--out', str(out)], mim=NO_MIM, gpus=['0', '1'])
        assert code is None
    except SystemExit as exit:
        assert exit.code == code


def test_dry_run_prints_the_plan_and_starts_nothing(tmp_path, capsys):
    suites = ('table2', 'table3', 'table4', 'table5', 'sound')
    run('--suite', *suites, '--base', 'mini', '--seeds', 0, 1, '--dry-run', out=tmp_path / 'out')
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == (
        '20 trainings of 400 iterations (those of the base) and 34 tests, 2 side by side, on the mini world; '
        f'results go to {tmp_path / "out"}'
    )
    assert len(lines) == 54 and all(line.startswith('  to run') for line in lines)
    assert '  to run  train fusion_none, seed 1: for table3/none' in lines
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--suite', 'table9', '--base', 'mini'], ["'table9'", 'table2, table3', 'sound, all']),
        (['--suite', 'table3', '--base', 'midi'], ["'midi'", 'mini, avsbench-ov']),
        (
            ['--suite', 'table3', '--base', 'mini', '--rows', 'nothing'],
            ["'nothing'", 'none', 'bi-attention, multi-level (ours)'],
        ),
        (['--suite', 'table3', '--base', 'mini', '--jobs', '0'], ['--jobs', 'got 0']),
        (['--suite', 'table3', '--base', 'mini', '--cfg-options', 'x'], ['--cfg-options', "got 'x'"]),
    ],
    ids=['suite', 'base', 'row', 'jobs', 'options'],
)
def test_bad_input_is_answered_with_what_is_known(args, words, tmp_path):
    with pytest.raises(SystemExit) as caught:
        tool.main([*args, '--out', str(tmp_path / 'out')], mim=NO_MIM, gpus=[])
    assert str(caught.value.code).startswith('error: ')
    for word in words:
        assert word in str(caught.value.code)
    assert not (tmp_path / 'out').exists()


def test_negative_seeds_are_refused(capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(['--suite', 'all', '--base', 'mini', '--seeds', '-1'])
    assert '--seeds must be at least 0, got -1' in capsys.readouterr().err


def test_tables_of_nothing_say_that_nothing_was_run(tmp_path, capsys):
    run('--suite', 'table2', '--base', 'mini', '--tables-only', out=tmp_path)
    text = (tmp_path / 'tables.md').read_text()
    assert text.startswith('`ablate.py --suite table2 --base mini --tables-only --out ')
    assert 'torch' in text.splitlines()[0] and '400 iterations; seeds 0.' in text.splitlines()[0]
    assert text.count('| not run |') == 4 and '55.43' in text
    assert f'tables: {tmp_path / "tables.md"}' in capsys.readouterr().out
    assert {path.suffix for path in tmp_path.glob('table2.*')} == {'.md', '.csv', '.png'}


def test_what_fails_makes_the_exit_status_1(tmp_path, capsys):
    args = ('--suite', 'table3', '--rows', 'none', '--base', 'mini')
    run(*args, out=tmp_path, code=1)
    assert f'failed: {tmp_path}/fusion_none/seed0/train/train.log' in ((tmp_path / 'table3.md').read_text())
    assert 'tries them again' in capsys.readouterr().out


def test_help_teaches_without_loading_torch(repo_root):
    code = f"""
import runpy, sys
sys.argv = ['ablate.py', '--help']
try:
    runpy.run_path({str(repo_root / 'tools/ablate.py')!r}, run_name='__main__')
finally:
    print('torch was imported' if 'torch' in sys.modules else 'light')
"""
    printed = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout
    assert 'examples:' in printed and '--dry-run' in printed and printed.endswith('light\n')
    assert 'what failed is tried again' in ' '.join(printed.split())
