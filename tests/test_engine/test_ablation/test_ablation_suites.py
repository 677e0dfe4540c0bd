# SPDX-License-Identifier: Apache-2.0
"""The file of suites: what it says, and what is wrong with it."""

import os
from pathlib import Path

import pytest

from ovavss_mm.engine.ablation.plan import Plan
from ovavss_mm.engine.ablation.suites import Catalogue, Row
from ovavss_mm.engine.parameters import count_parameters
from ovavss_mm.models.skeleton import build_skeleton

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope='module')
def shipped() -> Catalogue:
    """The suites that ship."""
    return Catalogue(ROOT / 'configs/ablations/suites.yml', ROOT / 'configs')


def read(world) -> Catalogue:
    """The suites of a test."""
    return Catalogue(world.configs / 'ablations/suites.yml', world.configs)


# ------------------------------------------------------------------ what it says
def test_suites_rows_and_bases_are_read(world):
    catalogue = read(world)
    assert list(catalogue.bases) == ['mini', 'avsbench-ov']
    assert list(catalogue.suites) == ['fusion', 'sound_test']
    fusion = catalogue.suites['fusion']
    assert fusion.title == 'Fusion' and catalogue.suites['sound_test'].title == 'sound_test'
    assert fusion.rows[0] == Row('none', 'ablations/none', 'ablations/none', dict(base=60, novel=30))
    assert catalogue.suites['sound_test'].rows[1].train == 'base'


def test_configs_of_rows_follow_the_base(world):
    catalogue = read(world)
    mini, full = catalogue.base('mini'), catalogue.base('avsbench-ov')
    large = catalogue.suites['fusion'].rows[2].config
    assert catalogue.config_of('base', mini) == world.configs / 'small/small.py'
    assert catalogue.config_of(large, mini) == world.configs / 'small/large_mini.py'
    assert catalogue.config_of(large, full) == world.configs / 'big/large.py'
    assert catalogue.config_of('ablations/none', mini) == world.configs / 'ablations/none.py'


def test_a_config_of_the_users_can_be_the_base(world):
    path = world.root / 'own' / 'mine.py'
    path.parent.mkdir()
    path.write_text("model = dict(type='Mine')\ntrain_cfg = dict(max_iters=3)\n")
    catalogue = read(world)
    base = catalogue.base(str(path))
    assert (base.name, base.data, base.variable) == ('mine', 'mine', '../own/mine')
    suites = catalogue.choose(['fusion'])
    plan = Plan(catalogue, suites, base, [0], world.out)
    assert plan.resolved[world.configs / 'ablations/none.py'].model['type'] == 'Mine'
    assert plan.resolved[world.configs / 'ablations/none.py'].iterations == 3
    assert world.configs / 'big/large.py' in plan.resolved


def test_suites_are_chosen_once_and_all_means_all(world):
    catalogue = read(world)
    assert [s.name for s in catalogue.choose(['sound_test', 'sound_test'])] == ['sound_test']
    assert [s.name for s in catalogue.choose(['sound_test', 'all'])] == ['fusion', 'sound_test']


# ------------------------------------------------------------------ what is wrong
@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        ('name: none,', 'nam: none,', ["suite 'fusion'", "unknown key 'nam'", 'published']),
        ('title: Fusion', 'titel: Fusion', ["suite 'fusion'", "unknown key 'titel'", 'title']),
        ('ablations/none,', 'ablations/gone,', ["suite 'fusion', row 'none'", 'there is no config', 'gone.py']),
        ('train: base', 'train: gone', ["suite 'sound_test', row 'silence', train", 'gone.py']),
        ('name: large', 'name: none', ["suite 'fusion'", "row 'none' occurs 2 times"]),
        ('base: 60', 'mean: 60', ["row 'none', published", "unknown key 'mean'", 'harmonic']),
        ('base: 60', 'base: many', ["row 'none'", "must be a number, got 'many'"]),
        ('mini: small/large_mini, ', '', ["row 'large', config", "'mini' is missing"]),
        ('data: toys', 'date: toys', ["base 'mini'", "unknown key 'date'"]),
        ('config: small/small', 'config: small/gone', ["base 'mini'", 'there is no config']),
        ('suites:', 'suits:', ['the file', "unknown key 'suits'", 'bases, suites']),
        ('config: base}', 'config: 7}', ['must be a text, got 7']),
        ('bases:', 'bases: [', ['is no YAML file']),
    ],
    ids=[
        *('row_key', 'suite_key', 'no_config', 'no_train_config', 'row_twice', 'published_key'),
        *('published_text', 'base_left_out', 'base_key', 'base_config', 'file_key', 'number', 'yaml'),
    ],
)
def test_what_is_wrong_is_said_with_its_place(world, old, new, words):
    path = world.configs / 'ablations/suites.yml'
    assert old in path.read_text()
    world.suites(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError) as caught:
        read(world)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_missing_file_is_named(world):
    (world.configs / 'ablations/suites.yml').unlink()
    with pytest.raises(FileNotFoundError, match='suites.yml'):
        read(world)


def test_unknown_names_list_the_known_ones(world):
    catalogue = read(world)
    with pytest.raises(ValueError, match="'table9'; there are fusion, sound_test, all"):
        catalogue.choose(['fusion', 'table9'])
    for name in ('medium', 'gone.py'):
        with pytest.raises(ValueError, match=f'{name}.*mini, avsbench-ov'):
            catalogue.base(name)


# ------------------------------------------------------------------ what ships
def test_the_suites_that_ship_have_the_tables_of_the_paper(shipped):
    assert list(shipped.suites) == ['table2', 'table3', 'table4', 'table5', 'more', 'sound']
    assert list(shipped.bases) == ['mini', 'avsbench-ov']
    for suite in shipped.suites.values():
        assert any('(ours)' in row.name for row in suite.rows)
    for name in ('table5', 'sound'):
        assert {row.train for row in shipped.suites[name].rows} == {'base'}


def test_nothing_is_published_but_what_is_known(shipped):
    rows = [row for suite in shipped.suites.values() for row in suite.rows if row.published]
    assert [(row.name, dict(row.published)) for row in rows] == [
        ('OV-AVSS, R50 (ours)', dict(total_mib=1029.6, trainable_mib=183.6)),
        ('OV-AVSS, Swin-B (ours)', dict(base=55.43, novel=29.14, total_mib=2331.4, trainable_mib=423.7)),
    ]


@pytest.mark.parametrize('name', ['mini', 'avsbench-ov'])
def test_each_config_that_ships_loads_under_its_base(shipped, name):
    """It is read with the base in it, tests what the base tests, and its model has parameters."""
    base = shipped.base(name)
    plan = Plan(shipped, shipped.choose(['all']), base, [0], Path('out'))
    own = plan.resolved[base.config]
    assert plan.iterations == (400 if name == 'mini' else 82000)
    models = {}
    for path, resolved in plan.resolved.items():
        assert not resolved.fault, path
        assert set(resolved.data_roots) == set(own.data_roots) != set(), path
        assert resolved.text != own.text or path == base.config, f'{path} changes nothing'
        models[resolved.text] = resolved.model
    assert not [job for job in plan.jobs if job.fault]
    assert plan.count('train') < plan.count('test')
    assert {job.iterations for job in plan.jobs if job.kind == 'train'} == {own.iterations}
    if name == 'mini':  # the large ones take seconds each
        for model in models.values():
            assert count_parameters(build_skeleton(model))['all'].trainable > 0


def test_reading_leaves_the_environment_as_it_was(world, monkeypatch):
    monkeypatch.setenv('OVAVSS_BASE', 'before')
    catalogue = read(world)
    Plan(catalogue, catalogue.choose(['all']), catalogue.base('mini'), [0], world.out)
    assert os.environ['OVAVSS_BASE'] == 'before'
