# SPDX-License-Identifier: Apache-2.0
"""Jobs that run, with a command that stands for mim: kills, failures, state on disk, places."""

import json
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ovavss_mm.engine.ablation.launcher import Launcher
from ovavss_mm.engine.ablation.plan import Plan
from ovavss_mm.engine.ablation.progress import Reporter, duration
from ovavss_mm.engine.ablation.results import error_in, last_iteration, mend_pointer
from ovavss_mm.engine.ablation.run import Ablation, model_sizes
from ovavss_mm.engine.ablation.state import status_of
from ovavss_mm.engine.ablation.suites import Catalogue
from ovavss_mm.utils.files import FolderLock

FAKE = (sys.executable, str(Path(__file__).with_name('fake_mim.py')))


def make(world, *suites: str, out: Path | None = None, seeds=(0,), **kwargs) -> Ablation:
    """Suites of a test, to be filled by fake mim."""
    catalogue = Catalogue(world.configs / 'ablations/suites.yml', world.configs)
    chosen = catalogue.choose(suites or ['all'])
    plan = Plan(catalogue, chosen, catalogue.base('mini'), seeds, out or world.out)
    return Ablation(plan, Launcher(plan, FAKE, **kwargs), ['ablate.py'], 'a machine')


def run(ablation: Ablation) -> tuple[int, list[str]]:
    """Run it; the exit status and what was printed."""
    console = Console(file=open('/dev/null', 'w'), record=True, soft_wrap=True, highlight=False)  # noqa: SIM115
    code = ablation.run(Reporter(ablation.launcher.jobs, console))
    return code, console.export_text().splitlines()


def results(out: Path) -> dict[str, str]:
    """All tables of a folder, without the seconds of tests, which are those of a clock."""
    tables = {}
    for path in sorted([*out.glob('*.md'), *out.glob('*.csv')]):
        lines = []
        for line in path.read_text().replace(str(out), 'OUT').splitlines():
            cells = line.split('|') if line.startswith('|') else line.split(',')
            drop = -3 if line.startswith('|') else -1
            lines.append(cells[:drop] + cells[drop + 1 :] if len(cells) > 5 else cells)
        tables[path.name] = lines
    return tables


def iterations_of(folder: Path) -> list[int]:
    """Iterations that a training wrote down, as often as it did."""
    paths = sorted(folder.glob('*/vis_data/scalars.json'))
    return [json.loads(line)['iter'] for path in paths for line in path.read_text().splitlines()]


# ------------------------------------------------------------------ the whole way
def test_all_is_done_once_and_nothing_a_second_time(world):
    code, printed = run(make(world))
    assert code == 0
    assert len(world.jobs) == len(set(world.jobs)) == 7
    before = results(world.out)
    assert set(before) == {*('fusion.md', 'fusion.csv', 'sound_test.md', 'sound_test.csv', 'tables.md')}
    assert (world.out / 'fusion.png').stat().st_size > 1000
    assert printed[0].startswith('[0/7] 7 jobs, 1 side by side')
    assert '[7/7]' in printed[-1] and 'none left' in printed[-1]
    code, printed = run(make(world))
    assert code == 0 and len(world.jobs) == 7 and results(world.out) == before
    assert printed == ['[7/7] 7 jobs, 7 of them done before, 1 side by side']


def test_another_seed_adds_to_what_is_done(world):
    run(make(world, 'sound_test'))
    run(make(world, 'sound_test', seeds=[0, 4]))
    assert [seed for _, _, seed in world.jobs] == [0] * 3 + [4] * 3


def test_what_a_training_and_a_test_leave_is_written_down(world):
    ablation = make(world, 'sound_test', seeds=[2])
    run(ablation)
    train, test, _ = ablation.plan.jobs
    done = json.loads((train.folder / 'done.json').read_text())
    assert done == dict(checkpoint='iter_10.pth', iterations=10, seconds=40.0, seed=2, digest=train.digest)
    figures = status_of(test).results['figures']
    assert figures['base'] == 7 and figures['novel'] == 14 and figures['silent_pixel_fpr'] == 3.5
    assert [path.name for path in train.folder.glob('.*.tmp')] == []


def test_the_log_has_command_and_output(world):
    world.set('fail', 'none')
    ablation = make(world, 'fusion')
    run(ablation)
    log = ablation.plan.jobs[0].log.read_text()
    assert log.startswith('==> ') and 'ablations/none.py' in log and 'not finite' in log


# ------------------------------------------------------------------ failures
def test_a_row_that_fails_is_marked_and_the_others_go_on(world):
    world.set('fail', 'none')
    ablation = make(world)
    code, printed = run(ablation)
    assert code == 1
    failed, waiting = ablation.plan.jobs[:2]
    assert ('test', 'none', 0) not in world.jobs and ('test', 'silence', 0) in world.jobs
    reason = 'ValueError: the loss is not finite (exit status 1)'
    assert status_of(failed).reason == reason
    assert status_of(waiting).reason == f'its training failed: {reason}'
    text = '\n'.join(printed)
    assert f'train none, seed 0: FAILED: {reason}\n  log: {failed.log}' in text
    table = (world.out / 'fusion.md').read_text()
    assert f'| failed: {failed.log} |' in table and table.count('| 1/1 |') == 2
    assert f'failed: {failed.log}' in (world.out / 'fusion.csv').read_text()


def test_what_failed_is_tried_again_and_goes_on(world):
    world.set('fail', 'none', 'silence')
    assert run(make(world))[0] == 1
    before = len(world.jobs)
    world.set('fail')
    assert run(make(world))[0] == 0
    assert world.jobs[before:] == [('train', 'none', 0), ('test', 'none', 0), ('test', 'silence', 0)]
    assert iterations_of(world.out / 'none/seed0/train') == list(range(1, 11)), 'none twice'
    undisturbed = make(world, out=world.root / 'other')
    run(undisturbed)
    assert results(world.out) == results(world.root / 'other')


def test_a_command_without_results_has_failed(world):
    ablation = make(world, 'sound_test')
    ablation.launcher.mim = ['true']
    code, printed = run(ablation)
    assert code == 1
    assert any('the training left no checkpoint in' in line for line in printed)


def test_a_changed_config_is_refused_and_nothing_removed(world):
    run(make(world))
    world.config('ablations/silence', "_base_ = ['../small/small.py']\nextra = 2\n")
    before = len(world.jobs)
    ablation = make(world)
    code, printed = run(ablation)
    assert code == 1 and len(world.jobs) == before
    folder = world.out / 'small/seed0/test_silence'
    assert f'the config has changed since this was done; to do it again, remove {folder}' in ('\n'.join(printed))
    assert (folder / 'done.json').is_file()
    assert f'failed: {folder}' in (world.out / 'sound_test.md').read_text()


def test_a_checkpoint_that_is_gone_is_named(world):
    world.set('fail', 'silence')
    run(make(world, 'sound_test'))
    world.set('fail')
    (world.out / 'small/seed0/train/iter_10.pth').unlink()
    code, printed = run(make(world, 'sound_test'))
    assert code == 1
    assert any('iter_10.pth is gone; to train again, remove' in line for line in printed)


# ------------------------------------------------------------------ kills
def test_after_a_kill_the_next_start_does_the_rest(world):
    """kill -9 of the runner in the middle of a training; what it started goes on and is waited for."""
    world.set('wait', 'small')
    args = ('--suite', 'all', '--base', 'mini', '--out', world.out)
    process = world.popen(*args)
    world.wait_for('train', 'small', 0)
    world.kill_leftovers(process)
    assert world.jobs == [('train', 'none', 0), ('test', 'none', 0), ('train', 'small', 0)]
    process = world.popen(*args)
    printed = ''
    while 'of an earlier start' not in printed:
        line = process.stdout.readline()
        assert line, printed
        printed += line
    world.set('wait')
    assert 'train small, seed 0: waits for process' in printed
    printed += process.communicate(timeout=120)[0]
    assert process.returncode == 0, printed
    assert world.jobs.count(('train', 'small', 0)) == 2, 'the second looks whether all is done'
    assert all(world.jobs.count(job) == 1 for job in world.jobs if job != ('train', 'small', 0))
    assert iterations_of(world.out / 'small/seed0/train') == list(range(1, 11)), 'none twice'
    disturbed = results(world.out)
    undisturbed = make(world, out=world.root / 'other')
    run(undisturbed)
    for name, lines in results(world.root / 'other').items():
        # the first line has the command
        assert disturbed[name][2:] == lines[2:], name


def test_a_signal_stops_what_runs_and_says_how_to_go_on(world):
    world.set('wait', 'small')
    process = world.popen('--suite', 'sound_test', '--base', 'mini', '--out', world.out)
    world.wait_for('train', 'small', 0)
    process.terminate()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert 'the same command goes on from here' in printed and 'FAILED' not in printed
    folder = world.out / 'small/seed0/train'
    lock = FolderLock(folder / '.running')
    assert lock.take(), 'nothing holds it any more'
    lock.free()
    assert not (folder / 'done.json').exists() and not (folder / 'failed.json').exists()
    assert '| not run |' in (world.out / 'sound_test.md').read_text()


def test_two_starts_in_one_folder_are_refused(world):
    lock = FolderLock(world.out / '.lock')
    assert lock.take()
    with pytest.raises(BlockingIOError, match=r'process \d+ fills the tables in .*--out'):
        run(make(world))
    assert world.jobs == []
    lock.free()
    assert run(make(world, 'sound_test'))[0] == 0


# ------------------------------------------------------------------ side by side
def test_each_gpu_has_one_job_at_a_time(world):
    code, _ = run(make(world, gpus=['4', '6']))
    assert code == 0
    used = {call['environ']['CUDA_VISIBLE_DEVICES'] for call in world.calls}
    assert used == {'4', '6'}
    assert {call['environ']['OVAVSS_BASE'] for call in world.calls} == {'small/small'}


def test_no_more_run_side_by_side_than_there_are_places(world):
    ablation = make(world, jobs=3)
    console = Console(file=open('/dev/null', 'w'))  # noqa: SIM115
    most = []

    class Watch(Reporter):
        def tick(self, running):
            most.append(len(running))
            assert all(test.training is None or status_of(test.training).state == 'done' for test in running)

    assert ablation.run(Watch(3, console)) == 0
    assert max(most) == 3


# ------------------------------------------------------------------ what runs leave
def test_a_pointer_to_nothing_is_mended(tmp_path):
    pointer = tmp_path / 'last_checkpoint'
    mend_pointer(tmp_path)
    assert not pointer.exists()
    pointer.write_text('/gone/iter_9.pth')
    mend_pointer(tmp_path)
    assert not pointer.exists(), 'the training starts again'
    import torch

    torch.save(dict(a=1), tmp_path / 'iter_5.pth')
    (tmp_path / 'iter_6.pth').write_bytes((tmp_path / 'iter_5.pth').read_bytes()[:-50])
    pointer.write_text('')
    mend_pointer(tmp_path)
    assert pointer.read_text() == str(tmp_path / 'iter_5.pth'), 'the other one is cut off'
    (tmp_path / 'iter_6.pth').write_text('whole, as it is named')
    pointer.write_text(str(tmp_path / 'iter_6.pth'))
    mend_pointer(tmp_path)
    assert pointer.read_text() == str(tmp_path / 'iter_6.pth')


def test_the_last_iteration_is_found_behind_a_torn_line(tmp_path):
    assert last_iteration(tmp_path) is None
    for name, iterations in (('1', (20, 40)), ('2', (60, 80))):
        path = tmp_path / name / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        lines = [json.dumps(dict(iter=i, time=i / 10, pad='x' * 9000)) for i in iterations]
        path.write_text('\n'.join([*lines, json.dumps(dict(mIoU=1)), '{"iter": 99, "ti']))
    assert last_iteration(tmp_path) == (80, 8.0)


def test_the_line_that_says_why_is_found(tmp_path):
    log = tmp_path / 'x.log'
    old = 'KeyError: of another attempt\n'
    log.write_text(f'{old}Traceback\n  File\nerror: no data\nsubprocess.CalledProcessError: x\n')
    assert error_in(log, len(old)) == 'error: no data'
    log.write_text('one\ntorch.OutOfMemoryError: CUDA\nsubprocess.CalledProcessError: x\n')
    assert error_in(log) == 'torch.OutOfMemoryError: CUDA'
    log.write_text('one\ntwo\n\n')
    assert error_in(log) == 'two'
    log.write_text('')
    assert error_in(log) == ''


def test_sizes_are_measured():
    sizes = model_sizes(dict(type='FCNHead', in_channels=256, channels=256, num_classes=3, concat_input=False))
    weights = 2 * 256 * 256 * 9 + 2 * 256 + 3 * 256 + 3  # two convs of 3x3, one of 1x1
    assert sizes['total_mib'] == sizes['trainable_mib']
    assert sizes['total_mib'] == pytest.approx(weights * 4 / 2**20, rel=0.01)
    assert model_sizes(dict(type='NoSuchModel')) == {}


def test_time_spans_are_short():
    assert [duration(s) for s in (5.4, 99, 100, 5940, 19200)] == [*('5 s', '99 s', '2 min', '99 min', '5 h 20 min')]
