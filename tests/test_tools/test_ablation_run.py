# SPDX-License-Identifier: Apache-2.0
"""Ablations with a command that stands for mim: plans, failures, kills, what is kept and the tables."""

import csv
import json
import os
import signal
import sys
from pathlib import Path

import pytest

# For `import ablation_world` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parent))

from ablation_world import MIM, ROOT, SUITES, World  # noqa: E402

import ablate  # noqa: E402  isort: skip
from ablation.tables import Tables, student  # noqa: E402  isort: skip

sys.path.append(str(ROOT / 'tools/analysis_tools'))
import plot_sweep  # noqa: E402  isort: skip


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Configs, suites and fake mim; the environment leads there."""
    world = World(tmp_path)
    monkeypatch.setenv('FAKE_MIM', str(world.control))
    return world


def run(plan, gpus=(), jobs=1) -> int:
    """Run a plan and write its tables; the exit status."""
    tables = Tables(plan, 'a command')
    code = ablate.Runner(plan, MIM, gpus, jobs, tables.write).run()
    tables.write()
    return code


def names(plan) -> list[tuple]:
    """Kind, stem and seed of the jobs."""
    return [(job.kind, job.config.stem, job.seed) for job in plan.jobs]


def digests(plan) -> dict[tuple, str]:
    """Digests of the jobs."""
    return dict(zip(names(plan), (job.digest for job in plan.jobs), strict=True))


def iterations_of(folder: Path) -> list[int]:
    """Iterations that a training wrote down, as often as it did."""
    paths = sorted(folder.glob('*/vis_data/scalars.json'))
    return [json.loads(line)['iter'] for path in paths for line in path.read_text().splitlines()]


def cells(path: Path, table: int = 0) -> list[dict[str, str]]:
    """Rows of a Markdown table of a file by heading, without the seconds, which are those of a clock."""
    part = [part for part in path.read_text().split('\n\n') if part[:1] == '|'][table]
    lines = [line[2:-2].split(' | ') for line in part.splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    return [{key: value for key, value in row.items() if key[-2:] != ' s'} for row in rows]


# ------------------------------------------------------------------ the plan
def test_a_training_serves_all_rows_and_suites_and_its_tests_follow_it(world):
    plan = world.plan(seeds=[3])
    assert names(plan) == [
        ('train', 'none', 3),
        ('test', 'none', 3),
        ('train', 'small', 3),
        ('test', 'small', 3),
        ('test', 'silence', 3),
        ('train', 'large_mini', 3),
        ('test', 'large_mini', 3),
    ]
    folders = [job.folder.relative_to(world.out).as_posix() for job in plan.jobs]
    assert folders[3:5] == ['small/seed3/test_small', 'small/seed3/test_silence']
    assert len(world.plan('sound_test', seeds=[0, 7, 0]).jobs) == 6


def test_a_row_of_what_is_not_trained_is_tested_once_without_a_checkpoint(world):
    rows = '      - {name: frozen, config: {mini: small/large_mini}, train: none}\n'
    world.suites(SUITES.replace('  sound_test:', f'{rows}  sound_test:'))
    plan = world.plan('fusion', rows=['frozen'], seeds=[4, 5])
    assert names(plan) == [('test', 'large_mini', 4)]
    assert run(plan) == 0 and world.jobs == [('test', 'large_mini', 4)]
    assert world.calls[0]['argv'][world.calls[0]['argv'].index('--checkpoint') + 1] == 'none'
    (row,) = [row for row in cells(world.out / 'fusion.md') if row['row'] == 'frozen']
    assert row['seeds done'] == '1/1' and row['base, ours on toys'] == '14.00'
    assert run(world.plan('fusion', rows=['frozen'])) == 0 and len(world.jobs) == 2, 'of another first seed'
    assert run(plan) == 0 and len(world.jobs) == 2


def test_chosen_rows_alone_are_run_and_all_are_shown(world):
    plan = world.plan(rows=['silence'])
    assert names(plan) == [('train', 'small', 0), ('test', 'silence', 0)]
    assert [row.name for row in plan.rows] == [*('none', 'own', 'large', 'elsewhere', 'own', 'silence')]


def test_rows_are_put_on_the_base_and_complete_configs_stay(world):
    mine = world.root / 'mine.py'
    mine.write_text("model = dict(type='Mine')\ntest_dataloader = dict(dataset=dict(data_root='data/big'))\n")
    plan = world.plan('fusion', base=str(mine))
    read = {path.stem: config for path, config in plan.read.items()}
    assert read['none'].model == dict(type='Mine', channels=128)
    assert read['large'].name == 'big/large', 'that of the default base'
    assert {job.config.stem: job.base for job in plan.jobs} == {'none': mine, 'mine': None, 'large': None}


def test_digests_change_with_all_that_a_result_depends_on(world):
    before = digests(world.plan())
    assert len(set(before.values())) == len(before)
    world.config('rows/silence', "_base_ = ['../big/big.py']\nextra = 2\n")
    changed = digests(world.plan())
    assert {job for job in before if before[job] != changed[job]} == {('test', 'silence', 0)}
    options = digests(world.plan(options=['model.channels=32']))
    assert not set(options.values()) & set(before.values())
    text = (world.configs / 'small/small.py').read_text()
    world.config('small/small', f'{text}more = 1\n')
    longer = digests(world.plan())
    kept = {job for job in changed if changed[job] == longer[job]}
    assert kept == {('train', 'large_mini', 0), ('test', 'large_mini', 0)}
    world.configs = world.configs.rename(world.root / 'moved')
    assert digests(world.plan()) == longer, 'where the configs are does not matter'


def test_what_cannot_be_run_fails_its_row_alone(world):
    world.config('rows/none', "_base_ = ['../gone.py'")
    text = "test_dataloader = dict(dataset=dict(data_root='data/other'))\n"
    world.config('small/large_mini', text)
    faults = {job.config.stem: job.fault for job in world.plan('fusion').jobs if job.training}
    assert 'none.py cannot be read: SyntaxError' in faults['none'] and faults['small'] == ''
    assert faults['large_mini'] == "it is tested on {'data/other'}, but the base on {'data/small'}"


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(suites=['table9']), ["suite 'table9'", 'fusion, sound_test, all']),
        (dict(rows=['add']), ["row 'add'", 'none\n  own\n  large']),
        (dict(base='medium'), ["base 'medium'", 'mini, avsbench-ov']),
        (dict(options=['model.type.kind=1']), ['small.py cannot be read']),
        (('name: none', 'nam: none'), ["suite 'fusion'", "unknown key 'nam'", 'published']),
        (('base: 60', 'mean: 60'), ["row 'none'", "unknown key 'mean'", 'harmonic']),
        (('base: 60', 'base: many'), ["row 'none'", "'many'"]),
        (('name: large', 'name: none'), ["row 'none'", 'a name of its own']),
        (('rows/none', 'rows/gone'), ["row 'none'", 'no config', 'gone.py']),
        (('suites:', 'suits:'), ['suites.yml', 'bases and suites']),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_with_what_is_right(world, change, words):
    if isinstance(change, tuple):
        path = world.configs / 'ablations/suites.yml'
        world.suites(path.read_text().replace(*change, 1))
        change = {}
    with pytest.raises(ValueError) as caught:
        world.plan(*change.pop('suites', ['all']), **change)
    for word in words:
        assert word in str(caught.value)


def test_commands_are_those_of_mim(world):
    plan = world.plan('fusion', seeds=[5], options=['model.channels=1', 'randomness.seed=9'])
    train, test, *_ = plan.jobs
    config, base = (str(world.configs / name) for name in ('rows/none.py', 'small/small.py'))
    seed = ['--cfg-options', 'model.channels=1', 'randomness.seed=9', 'randomness.seed=5']
    common = ['ovavss_mm', config, '--base', base]
    runner = ablate.Runner(plan, ['mim'], ['0'], 1, None)
    assert runner.command(train) == [
        *('mim', 'train', *common, '--resume', '--gpus', '1'),
        *('--work-dir', str(train.folder), *seed),
    ]
    train.save(results=dict(checkpoint='x.pth'))
    assert runner.command(test) == [
        *('mim', 'test', *common, '--checkpoint', str(train.folder / 'x.pth')),
        *('--work-dir', str(test.folder), *seed),
    ]


# ------------------------------------------------------------------ runs
def test_all_is_done_once_and_nothing_a_second_time(world):
    assert run(world.plan()) == 0
    assert len(world.jobs) == len(set(world.jobs)) == 7
    files = {path.name: path.read_bytes() for path in world.out.glob('*.*')}
    suites = {f'{s}.{kind}' for s in ('fusion', 'sound_test') for kind in ('md', 'csv', 'png')}
    assert set(files) == {*suites, 'tables.md', '.lock'}
    assert run(world.plan()) == 0 and len(world.jobs) == 7
    for name in suites:
        assert (world.out / name).read_bytes() == files[name], name
    assert run(world.plan('sound_test', seeds=[0, 4])) == 0
    assert [seed for _, _, seed in world.jobs] == [0] * 7 + [4] * 3
    assert not [p for p in world.out.rglob('.*') if p.name not in ('.lock', '.running')]


def test_tables_have_means_spreads_and_the_papers_numbers_apart(world):
    assert run(world.plan(seeds=[0, 2], rows=['none', 'silence', 'own'])) == 0
    none, own, large, elsewhere = cells(world.out / 'fusion.md')
    assert none['base, ours on toys'] == '5.00 ± 1.41'  # n - 1
    assert none['novel, ours on toys'] == '12.00 ± 2.83' and none['seeds done'] == '2/2'
    assert none['base, published on AVSBench-OV'] == '60.00' and none['novel, published on AVSBench-OV'] == '30.00'
    assert none['Param. MiB, published on AVSBench-OV'] == '99.9'
    assert own['base, published on AVSBench-OV'] == '-' and float(own['Param. MiB, ours']) > 0.1
    assert (large['base, ours on toys'], large['seeds done']) == ('not run', '0/2')
    assert elsewhere['base, published on AVSBench-OV'] == '12.34'
    assert (elsewhere['base, ours on toys'], elsewhere['seeds done']) == ('-', 'no model here')
    for row in (none, own, large, elsewhere):
        ours = [value for key, value in row.items() if 'published' not in key]
        assert not {'60.00', '30.00', '99.9', '12.34'} & set(ours)
    assert 'frames' not in (world.out / 'fusion.md').read_text()
    assert 'not to be compared' in (world.out / 'fusion.md').read_text()

    lines = list(csv.DictReader(open(world.out / 'fusion.csv')))
    none = {line['seed']: line for line in lines if line['row'] == 'none'}
    assert list(none) == ['0', '2', 'mean', 'std', 'published']
    assert (none['mean']['base'], none['std']['base']) == ('5.0000', '1.4142')
    assert (none['published']['base'], none['published']['data']) == ('60', 'AVSBench-OV')
    assert none['mean']['train s'] == '30.0000', 'the seconds of an iteration times their number'


def test_pictures_have_bars_where_there_are_results(world):
    plan = world.plan(seeds=[0, 2], rows=['none', 'own'])
    run(plan)
    figure = Tables(plan, '').draw('fusion')
    (axes,) = figure.axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights[:6] == [5, 6, 0, 12, 12, 0], 'base and novel of three rows'
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['none', 'own', 'large']


# ------------------------------------------------------------------ failures
def test_a_row_that_fails_is_marked_and_goes_on_with_the_next_start(world, capsys):
    world.set('fail', 'none', 'silence')
    plan = world.plan()
    assert run(plan) == 1
    failed, waiting = plan.jobs[:2]
    reason = 'ValueError: the loss is not finite (exit status 1)'
    assert failed.status().reason == reason
    assert waiting.status().reason == f'its training failed: {reason}'
    assert ('test', 'none', 0) not in world.jobs and ('test', 'large_mini', 0) in world.jobs
    assert f'train none, seed 0: FAILED: {reason}; log: {failed.log}' in capsys.readouterr().out
    assert failed.log.read_text().startswith('==> ') and 'rows/none.py' in failed.log.read_text()
    none, own, *_ = cells(world.out / 'fusion.md')
    assert none['base, ours on toys'] == f'failed: {failed.log}' and own['seeds done'] == '1/1'
    assert f'failed: {failed.log}' in (world.out / 'fusion.csv').read_text()
    why = f'- none, seed 0: its training failed: {reason} ({failed.log})'
    assert why in (world.out / 'tables.md').read_text()

    before = len(world.jobs)
    world.set('fail')
    assert run(world.plan()) == 0
    again = [('train', 'none', 0), ('test', 'none', 0), ('test', 'silence', 0)]
    assert world.jobs[before:] == again
    assert iterations_of(world.out / 'none/seed0/train') == list(range(1, 11)), 'none twice'
    assert run(world.plan(out=world.root / 'other')) == 0
    for name in ('fusion.md', 'sound_test.md'):
        assert cells(world.out / name) == cells(world.root / 'other' / name)


def test_a_command_without_results_has_failed(world, capsys):
    plan = world.plan('sound_test')
    assert ablate.Runner(plan, ['true'], [], 1, lambda suites: None).run() == 1
    assert 'the training left no checkpoint in' in capsys.readouterr().out


def test_a_changed_config_is_refused_and_nothing_removed(world, capsys):
    run(world.plan())
    world.config('rows/silence', "_base_ = ['../big/big.py']\nextra = 2\n")
    before = len(world.jobs)
    assert run(world.plan()) == 1 and len(world.jobs) == before
    folder = world.out / 'small/seed0/test_silence'
    words = f'the config has changed since; to do it again, remove {folder}'
    assert words in capsys.readouterr().out and (folder / 'state.json').is_file()
    assert f'failed: {folder}' in (world.out / 'sound_test.md').read_text()


def test_a_checkpoint_that_is_gone_is_named(world, capsys):
    world.set('fail', 'silence')
    run(world.plan('sound_test'))
    world.set('fail')
    (world.out / 'small/seed0/train/iter_10.pth').unlink()
    assert run(world.plan('sound_test')) == 1
    assert 'iter_10.pth is gone; to train again, remove' in capsys.readouterr().out


# ------------------------------------------------------------------ kills
def test_after_a_kill_the_next_start_does_the_rest(world):
    """kill -9 of the runner in the middle of a training; what it started goes on and is waited for."""
    world.set('wait', 'small')
    process = world.start('all')
    world.wait_for('train', 'small', 0)
    process.kill()
    process.communicate()
    assert world.jobs == [('train', 'none', 0), ('test', 'none', 0), ('train', 'small', 0)]
    process = world.start('all')
    printed = ''
    while 'of an earlier start' not in printed:
        line = process.stdout.readline()
        assert line, printed
        printed += line
    assert 'train small, seed 0: waits for process' in printed
    world.set('wait')
    printed += process.communicate(timeout=120)[0]
    assert process.returncode == 0, printed
    assert world.jobs.count(('train', 'small', 0)) == 2, 'the second looks whether all is done'
    assert all(world.jobs.count(job) == 1 for job in world.jobs if job != ('train', 'small', 0))
    assert iterations_of(world.out / 'small/seed0/train') == list(range(1, 11)), 'none twice'
    run(world.plan(out=world.root / 'other'))
    for name in ('fusion.md', 'sound_test.md'):
        assert cells(world.out / name) == cells(world.root / 'other' / name)


def test_a_signal_stops_what_runs_and_says_how_to_go_on(world):
    world.set('wait', 'small')
    process = world.start('sound_test')
    world.wait_for('train', 'small', 0)
    process.terminate()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert 'the same command goes on from here' in printed and 'FAILED' not in printed
    folder = world.out / 'small/seed0/train'
    lock = ablate.FolderLock(folder / '.running')
    assert lock.take(), 'nothing holds it any more'
    lock.free()
    assert not (folder / 'state.json').exists()
    assert '| not run |' in (world.out / 'sound_test.md').read_text()


def test_two_starts_in_one_folder_are_refused(world):
    lock = ablate.FolderLock(world.out / '.lock')
    assert lock.take()
    with pytest.raises(BlockingIOError, match=r'process \d+ fills .*--out'):
        run(world.plan())
    assert world.jobs == []
    lock.free()


# ------------------------------------------------------------------ side by side
def test_jobs_run_side_by_side_on_a_gpu_each(world):
    world.set('wait', 'none', 'small')
    process = world.start('all')  # one place
    world.wait_for('train', 'none', 0)
    process.terminate()
    process.communicate(timeout=60)
    assert ('train', 'small', 0) not in world.jobs
    world.set('wait')
    assert run(world.plan(), gpus=['4', '6'], jobs=2) == 0
    assert {call['gpu'] for call in world.calls} - {None} == {'4', '6'}


def test_gpus_keep_their_names(monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3, GPU-abc')
    assert ablate.visible_gpus() == ['3', 'GPU-abc']
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    assert ablate.visible_gpus() == ['0', '1']
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    assert ablate.visible_gpus() == []


# ------------------------------------------------------------------ options and differences
SWEEP = """
bases: {mini: {config: small/small, data: toys}}
suites:
  sweep:
    title: Sweep
    rows:
      - {name: a = 0.0, config: base}
      - {name: a = 0.5, config: rows/none, train: base, options: {model.channels: 5}}
      - {name: 'a = 0.5, noise', config: rows/none, train: base, options: {model.channels: 7}, against: a = 0.5}
"""


def test_a_row_may_have_options_of_its_own(world):
    world.suites(SWEEP)
    plan = world.plan(options=['model.channels=3'])
    jobs = {str(job): job for job in plan.jobs}
    assert list(jobs) == [
        *('train small, seed 0', 'test small, seed 0'),
        *('test none channels=5, seed 0', 'test none channels=7, seed 0'),
    ]
    assert [job.folder.name for job in plan.jobs[2:]] == ['test_none_channels=5', 'test_none_channels=7']
    assert len({job.digest for job in plan.jobs}) == 4
    plan.jobs[0].save(results=dict(checkpoint='x.pth'))
    command = ablate.Runner(plan, ['mim'], [], 1, None).command(plan.jobs[2])
    assert command[-3:] == ['model.channels=3', 'model.channels=5', 'randomness.seed=0']
    assert plan.read[plan.rows[1].config].model.channels == 3, 'the options are those of the test alone'


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        ((', against: a = 0.5', ', against: b'), "against must be a row of the suite, got 'b'"),
        (('model.channels: 5', 'modle.channels: 5'), 'nothing'),
    ],
    ids=['against', 'key'],
)
def test_wrong_options_are_named(world, wrong, words):
    world.suites(SWEEP.replace(*wrong, 1))
    if words != 'nothing':
        with pytest.raises(ValueError, match=words):
            world.plan()
        return
    (_, _, bad, good) = world.plan().jobs
    assert 'modle' in bad.fault and not good.fault


def test_differences_are_taken_seed_by_seed(world):
    """Figures of fake mim rise with the seed: the difference of two rows does not, and has no spread."""
    world.suites(SWEEP)
    assert run(world.plan(seeds=[0, 4, 5])) == 0
    first, second, third = cells(world.out / 'sweep.md', table=1)
    assert first['base, difference'] == '-'
    assert second['base, difference'] == '-1.00 [-1.00, -1.00]', 'of `none` to `small`'
    assert third['base, difference'] == '+0.00 [+0.00, +0.00]', 'of `none` to itself'
    lines = [line for line in csv.DictReader(open(world.out / 'sweep.csv')) if line['row'] == 'a = 0.5']
    found = {line['seed']: line['novel'] for line in lines}
    assert [found[key] for key in ('difference', 'difference from', 'difference to')] == ['0.0000'] * 3
    assert student([1.0, 2, 3]) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138)) and student([1.0]) is None

    key, panels = plot_sweep.read(world.out / 'sweep.csv')
    assert key == 'a' and list(panels) == ['', 'noise'] and list(panels['']) == [0, 0.5]
    figure = plot_sweep.draw(key, panels)
    base = figure.axes[0].lines[0]
    assert list(base.get_xdata()) == [0, 0.5] and list(base.get_ydata()) == [8, 7]
    base = plot_sweep.draw(key, panels, difference=True).axes[0].lines[0]
    assert list(base.get_ydata()) == [0, -1]
    lines = plot_sweep.draw(key, panels, figures=('novel', 'mIoU')).axes[1].lines
    assert [line.get_label() for line in lines] == ['novel', 'mIoU'] and list(lines[1].get_ydata()) == [7]
    with pytest.raises(ValueError, match="no column 'noise'; it has row, seed"):
        plot_sweep.draw(key, panels, figures=('noise',))
    plot_sweep.main([str(world.out / 'sweep.csv')])
    assert (world.out / 'sweep_sweep.png').stat().st_size > 1000
    run(world.plan(seeds=[0], out=world.root / 'one'))
    assert 'difference' not in (world.root / 'one/sweep.md').read_text()
    (world.out / 'sweep.csv').write_text('row,status\nown,done\n')
    with pytest.raises(SystemExit, match='no row that was measured and is named'):
        plot_sweep.main([str(world.out / 'sweep.csv')])


# ------------------------------------------------------------------ several sounds, and a model that is given
SOUNDS = """
bases: {mini: {config: small/small, data: toys}}
suites:
  sound:
    title: Sound
    options: {test_dataloader.dataset.sounds: 'own,noise', model.channels: 8}
    rows:
      - {name: own, config: base}
      - {name: none, config: rows/none, options: {model.channels: 16}}
      - {name: large, config: small/large_mini}
"""


def test_options_of_a_suite_are_those_of_all_its_rows(world):
    world.suites(SOUNDS)
    tests = {job.config.stem: job for job in world.plan().jobs if job.kind == 'test'}
    shared = 'test_dataloader.dataset.sounds=own,noise'
    assert tests['small'].options == (shared, 'model.channels=8') == tests['large_mini'].options
    assert tests['none'].options == (shared, 'model.channels=16')
    assert all(not job.training.options for job in tests.values())


def test_figures_of_several_sounds_have_columns_of_their_own(world):
    world.suites(SOUNDS)
    plan = world.plan(seeds=[0, 2])
    assert run(plan) == 0
    own, none, _ = cells(world.out / 'sound.md')
    assert own['frames, noise, ours on toys'] == '2.50 ± 1.41' and own['FPR, silence, ours on toys'] == '89.00 ± 1.41'
    assert own['frames, own sound, ours on toys'] == '-', 'NaN: no frame was silent'
    assert none['kept, off-screen -6 dB, ours on toys'] == '89.00 ± 1.41'
    _, none, _ = cells(world.out / 'sound.md', table=1)
    assert none['frames, noise, difference'] == '+0.00 [+0.00, +0.00]'
    lines = [line for line in csv.DictReader(open(world.out / 'sound.csv')) if line['row'] == 'none']
    assert [line['frames, noise'] for line in lines][:3] == ['1.5000', '3.5000', '2.5000']
    panels = Tables(plan, '').draw('sound').axes
    assert [axes.get_title() for axes in panels] == ['noise', "another clip's", 'off-screen']
    assert all(len(axes.containers) == 3 for axes in panels), 'a point a row'


def test_a_model_that_is_given_is_tested_and_nothing_is_trained(world):
    world.suites(SOUNDS)
    checkpoint = world.root / 'mine.pth'
    with pytest.raises(FileNotFoundError, match='there is no checkpoint .*mine.pth'):
        world.plan(checkpoint=checkpoint)
    checkpoint.write_text('weights')
    plan = world.plan(checkpoint=checkpoint, seeds=[3, 4])
    assert [str(job) for job in plan.jobs] == ['test small sounds=own,noise channels=8, seed 3']
    command = ablate.Runner(plan, ['mim'], [], 1, None).command(plan.jobs[0])
    assert command[command.index('--checkpoint') + 1] == str(checkpoint.resolve())
    assert run(plan) == 0
    own, none, _ = cells(world.out / 'sound.md')
    assert own['seeds done'] == '1/1' and none['seeds done'] == 'no model here'
    assert (own['row'], none['row']) == ('small', 'none'), 'the row of the base has its name'
    other = world.root / 'other.pth'
    other.write_text('weights')
    assert world.plan(checkpoint=other, seeds=[3]).jobs[0].digest != plan.jobs[0].digest
    os.utime(checkpoint, (1, 1))
    assert world.plan(checkpoint=checkpoint, seeds=[3]).jobs[0].status().state == 'failed', 'it was written again'
    world.suites(SOUNDS.replace('config: small/large_mini', 'config: small/large_mini, train: none'))
    assert len(world.plan(checkpoint=other).jobs) == 1, 'nor is what needs no training tested'
