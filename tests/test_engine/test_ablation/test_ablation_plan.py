# SPDX-License-Identifier: Apache-2.0
"""Which trainings and tests some suites need, in which order, and with which commands."""

import pytest

from ovavss_mm.engine.ablation.launcher import Launcher, visible_gpus
from ovavss_mm.engine.ablation.plan import Plan, parse_options
from ovavss_mm.engine.ablation.suites import Catalogue


def make(world, *suites: str, base: str = 'mini', seeds=(0,), **kwargs) -> Plan:
    """Plan suites of a test."""
    catalogue = Catalogue(world.configs / 'ablations/suites.yml', world.configs)
    chosen = catalogue.choose(suites or ['all'])
    return Plan(catalogue, chosen, catalogue.base(base), seeds, world.out, **kwargs)


def names(plan: Plan) -> list[tuple]:
    """Kind, stem and seed of the jobs."""
    return [(job.kind, job.config.stem, job.seed) for job in plan.jobs]


def digests(plan: Plan) -> dict[tuple, str]:
    """Digests of the jobs."""
    return dict(zip(names(plan), (job.digest for job in plan.jobs), strict=True))


# ------------------------------------------------------------------ jobs
def test_a_training_serves_all_rows_and_suites_and_its_tests_follow_it(world):
    assert names(make(world)) == [
        ('train', 'none', 0),
        ('test', 'none', 0),
        ('train', 'small', 0),
        ('test', 'small', 0),
        ('test', 'silence', 0),
        ('train', 'large_mini', 0),
        ('test', 'large_mini', 0),
    ]


def test_all_seeds_of_a_row_come_before_the_next_row(world):
    plan = make(world, 'sound_test', seeds=[0, 7, 0])
    assert plan.seeds == [0, 7]
    assert names(plan) == [
        (kind, stem, seed)
        for seed in (0, 7)
        for kind, stem in (('train', 'small'), ('test', 'small'), ('test', 'silence'))
    ]


def test_chosen_rows_alone_are_run_and_all_are_shown(world):
    plan = make(world, rows=['silence'])
    assert names(plan) == [('train', 'small', 0), ('test', 'silence', 0)]
    assert [entry.row.name for entry in plan.entries] == ['none', 'own', 'large', 'own', 'silence']


def test_unknown_rows_list_the_known_ones(world):
    with pytest.raises(ValueError, match=r"unknown row 'add'.*fusion(.|\n)*none\n  own\n  large"):
        make(world, 'fusion', rows=['none', 'add'])


def test_folders_are_named_after_config_and_seed(world):
    plan = make(world, 'sound_test', seeds=[3])
    assert [job.folder.relative_to(world.out).as_posix() for job in plan.jobs] == [
        'small/seed3/train',
        'small/seed3/test_small',
        'small/seed3/test_silence',
    ]


def test_two_configs_of_one_name_are_refused(world):
    path = world.root / 'none.py'
    path.write_text('model = dict()\n')
    with pytest.raises(ValueError, match='two configs have one name.*none.py'):
        make(world, 'fusion', base=str(path))


def test_a_broken_config_fails_its_row_alone(world):
    world.config('ablations/none', "_base_ = ['../gone.py']\n")
    plan = make(world, 'fusion')
    faults = {job.config.stem: job.fault for job in plan.jobs if job.kind == 'train'}
    assert 'ablations/none.py cannot be read' in faults.pop('none')
    assert faults == dict(small='', large_mini='')


def test_a_row_on_other_data_than_the_base_is_not_run(world):
    text = "test_dataloader = dict(dataset=dict(data_root='data/other'))\n"
    world.config('small/large_mini', f"_base_ = ['small.py']\n{text}")
    plan = make(world)
    faults = dict(zip(names(plan), (job.fault for job in plan.jobs), strict=True))
    assert faults['test', 'large_mini', 0] == 'it is tested on data/other, but the base on data/small'
    assert faults['test', 'silence', 0] == ''


# ------------------------------------------------------------------ digests
def test_digests_change_with_all_that_a_result_depends_on(world):
    before = digests(make(world))
    assert before == digests(make(world, 'all'))
    assert len(set(before.values())) == len(before)
    world.config('ablations/silence', "_base_ = ['../small/small.py']\nextra = 2\n")
    changed = digests(make(world))
    assert {job for job in before if before[job] != changed[job]} == {('test', 'silence', 0)}
    options = digests(make(world, options=['model.channels=32']))
    assert not set(options.values()) & set(before.values())
    text = (world.configs / 'small/small.py').read_text()
    world.config('small/small', text.replace('max_iters=10', 'max_iters=11'))
    longer = digests(make(world))
    kept = {job for job in changed if changed[job] == longer[job]}
    assert kept == {('train', 'large_mini', 0), ('test', 'large_mini', 0)}


def test_digests_do_not_tell_where_the_configs_are(world, tmp_path):
    line = "weights = '{{ fileDirname }}/weights.pth'\n"
    world.config('small/small', (world.configs / 'small/small.py').read_text() + line)
    before = digests(make(world))
    (tmp_path / 'moved').mkdir()
    world.configs = world.configs.rename(tmp_path / 'moved' / 'configs')
    plan = make(world)
    assert 'configs/small/weights.pth' in plan.resolved[plan.base.config].text
    assert digests(plan) == before


# ------------------------------------------------------------------ options and commands
def test_options_are_read_as_training_reads_them():
    assert parse_options(['a.b=1', 'c=[x,2]', 'd=e']) == {'a.b': 1, 'c': ['x', 2], 'd': 'e'}
    assert parse_options([]) == {}
    for wrong in ('a', '=1'):
        with pytest.raises(ValueError, match='KEY=VALUE'):
            parse_options([wrong])


def test_options_that_do_not_fit_are_refused(world):
    with pytest.raises(ValueError, match='--cfg-options do not fit .*small.py'):
        make(world, options=['model.type.kind=1'])


def test_commands_are_those_of_mim(world):
    plan = make(world, 'sound_test', seeds=[5], options=['a=1', 'randomness.seed=9'])
    train, _, silence = plan.jobs
    folder, seed = str(train.folder), ['--cfg-options', *plan.options, 'randomness.seed=5']
    launcher = Launcher(plan, ['mim'])
    start = ['mim', 'train', 'ovavss_mm', str(world.configs / 'small/small.py')]
    assert launcher.command(train) == [*start, '--work-dir', folder, '--resume', *seed]
    gpu = Launcher(plan, ['mim'], gpus=['0'])
    assert gpu.command(train) == [*start, '--gpus', '1', '--work-dir', folder, '--resume', *seed]
    assert launcher.command(silence, world.out / 'x.pth') == [
        *('mim', 'test', 'ovavss_mm', str(world.configs / 'ablations/silence.py')),
        *('--checkpoint', str(world.out / 'x.pth'), '--work-dir', str(silence.folder), *seed),
    ]


def test_each_place_has_a_gpu_of_its_own(world):
    plan = make(world)
    launcher = Launcher(plan, gpus=['2', '5'], environ={})
    assert launcher.jobs == 2
    environs = [launcher.environment(slot) for slot in range(2)]
    assert [environ['CUDA_VISIBLE_DEVICES'] for environ in environs] == ['2', '5']
    assert all(environ['OVAVSS_BASE'] == 'small/small' for environ in environs)
    assert all('OMP_NUM_THREADS' not in environ for environ in environs)


def test_cores_are_shared_without_gpus(world, monkeypatch):
    monkeypatch.setattr('ovavss_mm.engine.ablation.launcher.cores', lambda: 7)
    plan = make(world)
    threads = [Launcher(plan, jobs=jobs, environ={}).environment(0)['OMP_NUM_THREADS'] for jobs in (None, 2, 9)]
    assert threads == ['7', '3', '1']
    chosen = Launcher(plan, jobs=2, environ=dict(OMP_NUM_THREADS='4')).environment(0)
    assert chosen['OMP_NUM_THREADS'] == '4', 'what the user has set holds'
    with pytest.raises(ValueError, match='at least 1, got 0'):
        Launcher(plan, jobs=0)


def test_gpus_that_are_hidden_stay_hidden(monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3, GPU-abc')
    assert visible_gpus() == ['3', 'GPU-abc']
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    assert visible_gpus() == ['0', '1']
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    assert visible_gpus() == []
