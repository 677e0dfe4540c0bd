# SPDX-License-Identifier: Apache-2.0
"""From the command line to the runner."""

import platform
import re
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from ovavss_mm.engine import launch

CONFIG = """
model = dict(type='LaunchToy')
train_dataloader = dict(batch_size=2, num_workers=0, dataset=[dict(x=1.0), dict(x=2.0)] * 4,
                        sampler=dict(type='DefaultSampler', shuffle=False),
                        collate_fn=dict(type='default_collate'))
train_cfg = dict(by_epoch=False, max_iters=3)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1),
                     clip_grad=dict(max_norm=1.0))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3))
test_dataloader = dict(dataset=dict(type='RepeatDataset', dataset=dict(data_root='data/mini')))
test_evaluator = dict(type='OVIoUMetric')
test_cfg = dict()
visualizer = dict(type='Visualizer', vis_backends=[])
"""


@MODELS.register_module(force=True)
class LaunchToy(BaseModel):
    """One linear layer."""

    def __init__(self, frozen=False):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.layer.bias.requires_grad_(not frozen)

    def forward(self, x, mode='tensor'):
        """Fit 1 to x."""
        y = self.layer(x.float()[:, None])
        return dict(loss=(y - 1).square().mean())


@pytest.fixture
def config_file(tmp_path, monkeypatch):
    """A config file in an empty folder, which is the current one; the default scope is restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())
    path = tmp_path / 'toy.py'
    path.write_text(CONFIG)
    return path


def load(path, work_dir=None, **options):
    """Load with options given as keywords, double underscores for dots."""
    options = {key.replace('__', '.'): value for key, value in options.items()}
    return launch.load_config(str(path), work_dir, 'none', options)


def test_work_dir_comes_from_command_line_then_config_then_name(config_file):
    """In this order."""
    assert load(config_file).work_dir == 'work_dirs/toy'
    assert load(config_file, work_dir='there').work_dir == 'there'
    config_file.write_text(CONFIG + "work_dir = 'own'\n")
    assert load(config_file).work_dir == 'own'
    assert load(config_file, work_dir='there').work_dir == 'there'


ROW = "_base_ = ['../bases/small.py']\nwords = f'{_base_.word} row'\n"


@pytest.fixture
def row_file(config_file):
    """A config that is a delta on another one, in a folder ``rows`` beside those of two bases."""
    for name in ('small', 'big'):
        path = config_file.parent / 'bases' / f'{name}.py'
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'word = {name!r}\nmodel = dict(frozen={name == "big"})\n')
    path = config_file.parent / 'rows/row.py'
    path.parent.mkdir()
    path.write_text(ROW)
    return path


def test_two_bases_never_share_a_work_dir(row_file):
    """Else the second run overwrites the first, and --resume loads the other model's checkpoint."""
    on = {base: launch.load_config(str(row_file), base=base) for base in ('small.py', 'big.py')}
    assert [cfg.work_dir for cfg in on.values()] == [*('work_dirs/row_on_small', 'work_dirs/row_on_big')]
    assert load(row_file).work_dir == 'work_dirs/row'
    assert launch.load_config(str(row_file), 'there', base='big.py').work_dir == 'there'


def test_another_base_takes_the_place_of_a_configs_own(row_file):
    own = load(row_file, work_dir='x')
    assert (own.words, own.model.get('frozen')) == ('small row', False)
    named = launch.load_config(str(row_file), 'x', base='bases/small.py')
    assert named.to_dict() == own.to_dict() and named.filename == own.filename == str(row_file)
    other = launch.load_config(str(row_file), base='big.py', cfg_options={'model.a': 1})
    assert other.words == 'big row'
    assert other.model == dict(frozen=True, a=1)


def test_parts_of_configs_stay_when_the_base_changes(row_file):
    part = row_file.parent.parent / '_base_/part.py'
    part.parent.mkdir()
    part.write_text('shared = 3\n')
    row_file.write_text("_base_ = ['../bases/small.py', '../_base_/part.py']\nx = _base_.shared\n")
    cfg = launch.load_config(str(row_file), base='big.py')
    assert (cfg.word, cfg.x) == ('big', 3)
    assert launch.base_of(str(row_file)) == '../bases/small.py'


@pytest.mark.parametrize('text', ['x = 1\n', "_base_ = ['../_base_/part.py']\n"])
def test_a_complete_config_cannot_be_put_on_another_base(row_file, text):
    row_file.write_text(text)
    with pytest.raises(ValueError, match='row.py cannot be put on another base: its _base_'):
        launch.load_config(str(row_file), base='big.py')


@pytest.mark.parametrize('base', ['gone.py', 'bases/gone.py'])
def test_a_missing_base_is_named(row_file, base):
    with pytest.raises(FileNotFoundError, match=f"no config '{base}', the base for .*row.py"):
        launch.load_config(str(row_file), base=base)


def test_options_reach_nested_keys(config_file):
    """Dotted keys change one value and leave its neighbours."""
    cfg = load(config_file, train_cfg__max_iters=7)
    assert cfg.train_cfg == dict(by_epoch=False, max_iters=7)


def test_missing_config_points_to_mim(config_file):
    """A bare name is looked up by mim only."""
    with pytest.raises(FileNotFoundError, match='mim train ovavss_mm elsewhere.py'):
        load('elsewhere.py')


def test_resolved_config_has_another_name(config_file):
    """A file called like the config would make its bare name ambiguous in the checkout."""
    cfg = load(config_file)
    assert isinstance(launch.build_runner(cfg), Runner)
    names = sorted(p.name for p in (config_file.parent / 'work_dirs').rglob('*.py'))
    assert names == ['toy_resolved.py']
    resolved = Config.fromfile(config_file.parent / 'work_dirs/toy/toy_resolved.py')
    assert resolved.train_cfg == cfg.train_cfg


def test_log_leaves_out_what_does_not_concern_the_user(config_file):
    """A model with hundreds of frozen weights would open each log with hundreds of lines."""
    cfg = load(config_file)
    cfg.experiment_name = 'frozen'
    cfg.model.frozen = True
    cfg.optim_wrapper.paramwise_cfg = dict(bias_lr_mult=1.0)
    cfg.train_cfg.max_iters = 1
    runner = launch.build_runner(cfg)
    runner.train()
    runner.logger.warning('something else is skipped')
    (log,) = (config_file.parent / 'work_dirs' / 'toy').rglob('*.log')
    assert 'something else is skipped' in log.read_text()
    assert 'requires_grad=False' not in log.read_text()


def test_amp_runs_forward_passes_in_bfloat16(config_file):
    """In training and testing, of any model; weights and what is around stay in float32."""
    cfg = load(config_file)
    launch.enable_amp(cfg)
    runner = launch.build_runner(cfg)
    dtypes = []
    runner.model.layer.register_forward_hook(lambda *args: dtypes.append(args[-1].dtype))
    runner.train()
    runner.model(torch.ones(2), mode='predict')
    assert set(dtypes) == {torch.bfloat16} and len(dtypes) == 4
    assert runner.model.layer.weight.dtype == torch.float32
    assert not torch.is_autocast_enabled('cpu')


def test_amp_takes_the_hosts_wrapper_on_a_gpu(config_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = load(config_file)
    launch.enable_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper' and cfg.optim_wrapper.dtype == 'bfloat16'
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=1.0)


@pytest.mark.parametrize(
    ('speeds', 'words'), [((313.0, 165.0), '165 GFLOP/s, .* 313, 1.9 times'), ((165.0, 313.0), None)]
)
def test_amp_says_where_bfloat16_is_slower(config_file, monkeypatch, recwarn, speeds, words):
    """What was asked for is done all the same; only a CPU is asked."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    found = dict(zip((torch.float32, torch.bfloat16), speeds, strict=True))
    monkeypatch.setattr(launch, 'product_speed', lambda dtype: found[dtype])
    cfg = load(config_file)
    launch.enable_amp(cfg)
    assert cfg.amp and cfg.optim_wrapper.type == 'OptimWrapper'
    texts = [str(warning.message) for warning in recwarn if 'bfloat16' in str(warning.message)]
    assert [bool(re.search(words, text)) for text in texts] == [True] if words else not texts


def test_speeds_of_products_are_measured():
    """In both precisions: positive, and of the order of computers."""
    speeds = [launch.product_speed(dtype, 64) for dtype in (torch.float32, torch.bfloat16)]
    assert all(1e-4 < speed < 1e6 for speed in speeds)


def test_freed_memory_is_kept_in_the_process():
    """Blocks of 16 MB come from memory that is there: hardly any new page, after some that were freed."""
    code = """
import resource, numpy
from ovavss_mm.engine import launch
launch.keep_freed_memory()
def pages(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
numpy.ones(2**21)
before = pages()
for _ in range(20):
    numpy.ones(2**21)
print(pages() - before)
"""
    if platform.libc_ver()[0] != 'glibc':
        pytest.skip('another C library than glibc')
    faults = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert int(faults.split()[-1]) < 20 * 2**24 // 4096 // 10  # a tenth of all


def test_missing_data_are_found_inside_wrappers(config_file):
    """The message has the whole path and the command; data that are there pass."""
    cfg = load(config_file)
    launch.check_files(cfg, ('train_dataloader', 'val_dataloader'))  # nothing with a data root
    with pytest.raises(FileNotFoundError, match='mim run ovavss_mm mini_world --out data/mini') as e:
        launch.check_files(cfg, ('test_dataloader',))
    assert str(config_file.parent / 'data/mini') in str(e.value)
    (config_file.parent / 'data/mini').mkdir(parents=True)
    launch.check_files(cfg, ('test_dataloader',))


def test_missing_real_data_point_to_the_guide(config_file):
    """The real data cannot be made by a command."""
    cfg = load(config_file)
    cfg.test_dataloader = dict(dataset=dict(data_root='data/AVSBench-semantic'))
    with pytest.raises(FileNotFoundError, match='data/README.md') as error:
        launch.check_files(cfg, ('test_dataloader',))
    assert 'test_dataloader.dataset.data_root=' in str(error.value)
    cfg.test_dataloader.dataset.data_root = 's3://bucket/AVSBench-semantic'
    launch.check_files(cfg, ('test_dataloader',))


def test_missing_checkpoint_is_named(config_file):
    """Local files are checked, addresses are not."""
    cfg = load(config_file)
    cfg.load_from = 'gone.pth'
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        launch.check_files(cfg, ())
    cfg.load_from = 'https://example.org/model.pth'
    launch.check_files(cfg, ())


def test_pictures_and_predictions_are_switched_on(config_file):
    """Show options go to hook and visualizer, the output folder to every metric."""
    cfg = load(config_file)
    with pytest.raises(ValueError, match='default_hooks.visualization'):
        launch.enable_pictures(cfg, show=True, wait_time=1.0, save_dir=None)
    cfg.default_hooks.visualization = dict(type='AVSegVisualizationHook')
    launch.enable_pictures(cfg, show=False, wait_time=1.0, save_dir='pictures')
    expected = dict(type='AVSegVisualizationHook', draw=True, interval=1)
    assert cfg.default_hooks.visualization == expected
    assert cfg.visualizer.save_dir == 'pictures'
    launch.enable_pictures(cfg, show=True, wait_time=1.5, save_dir=None)
    assert cfg.default_hooks.visualization.show and cfg.default_hooks.visualization.wait_time == 1.5

    launch.save_predictions(cfg, 'labels')
    assert cfg.test_evaluator.output_dir == 'labels'
    cfg.test_evaluator = [dict(type='A'), dict(type='B')]
    launch.save_predictions(cfg, 'labels')
    assert [metric.output_dir for metric in cfg.test_evaluator] == ['labels', 'labels']


def test_resume_prefers_the_work_dir_to_load_from(tmp_path):
    """A config's `load_from` is what a training starts from, not what it goes on from."""
    cfg = Config(dict(work_dir=str(tmp_path), load_from='coco.pth', resume=False))
    launch.choose_start(cfg, resume=True)
    assert (cfg.resume, cfg.load_from) == (False, 'coco.pth')  # nothing to go on from yet
    checkpoint = tmp_path / 'iter_7.pth'
    checkpoint.touch()
    (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
    launch.choose_start(cfg, resume=False)
    assert (cfg.resume, cfg.load_from) == (False, 'coco.pth')
    launch.choose_start(cfg, resume=True)
    assert (cfg.resume, cfg.load_from) == (True, str(checkpoint))
    (tmp_path / 'last_checkpoint').write_text('')  # cut short by a crash
    torch.save(dict(state_dict={}), tmp_path / 'iter_9.pth')
    launch.choose_start(cfg, resume=True)
    assert (cfg.resume, cfg.load_from) == (True, str(tmp_path / 'iter_9.pth'))
