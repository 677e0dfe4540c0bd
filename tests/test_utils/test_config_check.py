# SPDX-License-Identifier: Apache-2.0
"""Keys that nothing reads are refused at the start, and no others."""

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmseg
import published
import pytest
from mmengine.config import Config, DictAction
from mmengine.hooks import IterTimerHook
from mmengine.registry import DefaultScope

from ovavss_mm.engine import launch
from ovavss_mm.engine.runner import AVRunner
from ovavss_mm.utils.config_check import RUNNER_KEYS, ConfigError, check_config

ROOT = published.ROOT
MINI = ROOT / 'configs/mini/ovavss_mini.py'
CONFIGS = [path for path in sorted((ROOT / 'configs').rglob('*.py')) if '_base_' not in path.parts]
OPTIONS = {
    # top-level keys
    'modle.decode_head.num_queries=5': 'no part reads this key; nearest known: model',
    'load_form=a.pth': 'nearest known: load_from',
    'envcfg.cudnn_benchmark=1': 'nearest known: env_cfg',
    'num_queries=5': 'nearest known: model.decode_head.num_queries',
    # variables of the file, which made other keys
    'max_iters=2': "'max_iters' is a variable .*: train_cfg.max_iters, param_scheduler.1.end",
    'data_root=elsewhere': 'test_dataloader.dataset.data_root, train_dataloader.dataset.data_root',
    'optimizer.lr=1': 'optim_wrapper.optimizer.lr',
    'vis_backends.0.type=A': 'visualizer.vis_backends.0.type',
    'data_preprocessor.size_divisor=1': 'made of it: model.data_preprocessor.size_divisor$',
    # below the top
    'default_hooks.checkpoint.intervall=2': "AtomicCheckpointHook takes no 'intervall'; nearest known: interval",
    'default_hooks.chekpoint.interval=2': 'no such hook; nearest known: checkpoint',
    'default_hooks.chekpoint=None': 'no such hook; nearest known: checkpoint',
    'custom_hooks.0.alow_missing=1': "StrictCheckpointHook takes no 'alow_missing'; nearest known: allow_missing",
    'custom_hooks.9.allow_missing=1': 'no such place',
    'train_cfg.max_iter=3': 'nearest known: max_iters',
    'train_cfg.max_iters.a=3': 'no such place',
    'train_dataloader.batchsize=2': 'nearest known: batch_size',
    'val_dataloader.dataset.dataroot=a': "AVSBenchOVDataset takes no 'dataroot'; nearest known: data_root",
    'test_dataloader.dataset.pipeline.1.onshort=a': 'nearest known: on_short',
    'test_dataloader.dataset.pipeline.1.type=LoadClipAudi': 'nothing is registered .*; nearest known: LoadClipAudio ',
    'train_dataloader.sampler.shufle=True': 'nearest known: shuffle',
    'val_evaluator.eval_szie=3': "OVIoUMetric takes no 'eval_szie'; nearest known: eval_size",
    'optim_wrapper.optimizer.learning_rate=1': "AdamW takes no 'learning_rate'; known: .* lr,",
    'optim_wrapper.clip_grad.max_nrom=1': 'nearest known: max_norm',
    'param_scheduler.1.ennd=2': "CosineAnnealingLR takes no 'ennd'; nearest known: end",
    'param_scheduler.end=2': 'no such place',
    'visualizer.mn_width=3': 'nearest known: min_width',
    'visualizer.vis_backends.0.savedir=3': 'nearest known: save_dir',
    'randomness.sed=1': 'nearest known: seed',
    'auto_scale_lr.enabel=True': 'nearest known: enable',
    'linker.min_iou=0.5': 'no part reads this key',  # but the inferencer, from a config file
}


pytestmark = pytest.mark.filterwarnings('ignore:.*instance named of')  # several runs in a process


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder, which is the current one; the default scope is restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())
    return tmp_path


def load(*options: str, config: Path = MINI) -> Config:
    """Read a config with options as on the command line."""
    pairs = (option.split('=', 1) for option in options)
    return launch.load_config(str(config), 'out', cfg_options={k: DictAction._parse_iterable(v) for k, v in pairs})


# ------------------------------------------------------------------ refused
@pytest.mark.parametrize(('option', 'words'), OPTIONS.items())
def test_an_option_that_nothing_reads_is_refused_with_the_nearest(option, words):
    with pytest.raises(ConfigError, match=words) as error:
        load(option)
    assert '.'.join(option.split('=')[0].split('.')[:2]) in str(error.value) and '\n' not in str(error.value)


def dicts(node: Any, *path: Any) -> Iterator[tuple]:
    """The paths of all dicts in a config."""
    if isinstance(node, dict):
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield from dicts(value, *path, key)


def test_a_misspelt_key_is_refused_in_each_dict_of_a_file():
    """Outside the model, which says so itself when it is built, and the optimizer's constructor."""
    cfg = Config.fromfile(MINI)
    sections = RUNNER_KEYS & set(cfg) - {'model', 'data_preprocessor'}
    paths = [path for name in sorted(sections) for path in dicts(cfg[name], name) if 'paramwise_cfg' not in path]
    assert len(paths) > 50
    for path in paths:
        changed = copy.deepcopy(cfg)
        node = changed._cfg_dict
        for key in path:
            node = node[key]
        node['misspelt'] = dict(a=1)
        with pytest.raises(ConfigError, match=re.escape('.'.join(map(str, path)))):
            check_config(changed)


@pytest.mark.parametrize(
    ('line', 'near'),
    [
        ('modle = dict(decode_head=dict(num_queries=5))', 'model'),
        ('train_datloader = dict(batch_size=3)', 'train_dataloader'),
        ('param_schedulers = []', 'param_scheduler'),
        ('load_form = "a.pth"', 'load_from'),
        ('find_unused_parameter = True', 'find_unused_parameters'),
    ],
)
def test_a_misspelt_key_at_the_top_of_a_file_is_refused(here, line, near):
    path = here / 'mine.py'
    path.write_text(f'_base_ = [{str(MINI)!r}]\n{line}\n')
    with pytest.raises(ConfigError, match=f'mine.py: no part reads the key .*; nearest known: {near}$'):
        load(config=path)


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        (
            'model.decode_head.num_querys=5',
            'model.decode_head.num_querys: AudioMaskDecHead .*nearest known: num_queries',
        ),
        (
            'model.decode_head.type=AudioMaskDecHed',
            'model.decode_head.type: nothing .*; nearest known: AudioMaskDecHead ',
        ),
        (
            'model.decode_head.transformer_decoder.layer_cfg.cross_attn_cfg.num_head=4',
            "cross_attn_cfg.num_head: MultiheadAttention takes no 'num_head'; nearest known: num_heads",
        ),
        ('model.decode_head.pixel_decoder.encoder.layer_cfg.ffn_cfg.embd_dims=4', 'FFN .*; nearest known: embed_dims'),
        ('model.backbone.norm_cfg.momentun=0.1', 'norm_cfg.momentun: .*; nearest known: momentum'),
        ('model.classifier.clip_model.vision_cfg.widht=4', 'nearest known: width'),
        ('model.classifier.init_cfg.chekpoint=a', 'init_cfg.chekpoint: .*; nearest known: checkpoint'),
        ('model.classifier.tokenizer.bpe_pth=a', 'tokenizer takes .*bpe_path.*, got bpe_pth'),
        ('model.classifier.preprocess.men=1', 'preprocess takes mean, std, got men'),
        ('model.data_preprocessor.size_divsor=1', 'nearest known: size_divisor'),
        ('model.test_cfg.windw=4', "model: test_cfg has the keys .*'window'"),
        ('model.train_cfg.sampler=1', 'nothing reads train_cfg and pretrained'),
        ('model.pretrained=a.pth', 'nothing reads train_cfg and pretrained'),
    ],
)
def test_an_argument_that_the_model_does_not_take_is_refused_when_it_is_built(here, option, words):
    with pytest.raises(ConfigError, match=words):
        launch.build_runner(load(option))


def test_other_errors_of_a_model_stay_as_they_are(here, monkeypatch):
    """A fault in somebody's part needs its traceback."""
    monkeypatch.setattr(AVRunner.__base__, 'build_model', lambda self, model: 1 + 'a')
    with pytest.raises(TypeError, match='unsupported operand'):
        launch.build_runner(load())


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_the_tools_say_it_in_a_line_before_they_begin(here, monkeypatch, tool):
    for name in ('GOMP_SPINCOUNT', 'LOCAL_RANK'):
        monkeypatch.setenv(name, '0')
    arguments = [str(MINI), *(['a.pth'] if tool == 'test.py' else []), '--cfg-options']
    for option in ('modle.a=1', 'default_hooks.checkpoint.intervall=2'):
        text = published.error_of(published.load_tool(tool).main, [*arguments, option])
        assert text.startswith('error: ') and option.split('=')[0] in text and 'nearest known' in text
    assert not list(here.iterdir()), 'not even a work dir'


# ------------------------------------------------------------------ not refused
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_no_config_of_the_project_is_refused(path):
    """Nor is what a run of it writes into the work dir, in which variables stand without what was made of them."""
    cfg = load(config=path)
    check_config(Config.fromstring(cfg.pretty_text, '.py'))


def test_configs_of_the_host_are_not_refused():
    """They are full of variables, and of parts that nobody here knows."""
    found = sorted((Path(mmseg.__file__).parent / '.mim/configs').rglob('*.py'))
    paths = [path for path in found if '_base_' not in path.parts][::40]
    if not paths:
        pytest.skip('mmseg was installed without its configs')
    for path in paths:
        check_config(Config.fromfile(path))


def documented_options() -> list[str]:
    """All ``--cfg-options`` of commands in documents and help texts, without those with placeholders."""
    files = [ROOT / 'README.md', ROOT / 'data/README.md', *(ROOT / 'docs').glob('*.md'), *(ROOT / 'tools').glob('*.py')]
    found = []
    for file in files:
        for line in re.sub(r'\\\n', ' ', file.read_text()).splitlines():
            _, _, rest = line.partition('--cfg-options ')
            words = re.match(r'(?:[\w.]+=[^\s`)]+\s*)*', rest)
            found += shlex.split(words[0]) if words else []
    return sorted(set(found))


def test_documented_options_are_not_refused():
    options = documented_options()
    assert len(options) > 10 and 'train_cfg.max_iters=500' in options
    for option in options:
        load(option)


def test_keys_of_the_hosts_are_not_refused():
    cfg = load(
        *(
            'amp=True',
            'compile=True',
            'resume=True',
            'load_from=None',
            'work_dir=a',
            'log_level=ERROR',
            'launcher=none',
        ),
        *('experiment_name=a', 'find_unused_parameters=True', 'model_wrapper_cfg.type=MMDistributedDataParallel'),
        *(
            'runner_type=AVRunner',
            'auto_scale_lr.enable=True',
            'auto_scale_lr.base_batch_size=4',
            'default_scope=mmseg',
        ),
        *('env_cfg.dist_cfg.backend=gloo', 'env_cfg.dist_cfg.timeout=9', 'env_cfg.cudnn_benchmark=True'),
        *('randomness.deterministic=True', 'log_processor.window_size=3', 'default_hooks.visualization=None'),
        *('default_hooks.runtime_info=None', 'default_hooks.logger.priority=LOW', 'optim_wrapper.type=AmpOptimWrapper'),
        *('optim_wrapper.loss_scale=dynamic', 'train_dataloader.drop_last=True', 'tta_model.type=SegTTAModel'),
        *('param_scheduler.1.convert_to_iter_based=False', 'visualizer.save_dir=a', 'test_evaluator.prefix=a'),
        *('default_hooks.checkpoint.save_optimizer=False', 'default_hooks.checkpoint.out_dir=a'),
    )
    assert cfg.amp and cfg.default_hooks.visualization is None and cfg.param_scheduler[1].convert_to_iter_based is False


def test_variables_of_a_file_may_look_like_known_keys(here):
    """If the file uses them, or their value is somewhere; the file may also bring parts of its own."""
    path = here / 'mine.py'
    path.write_text(
        f'_base_ = [{str(MINI)!r}]\nmodels = dict(num_queries=5)\nenc_cfg = dict(num_layers=4)\nlr, notes = 2, "mine"\n'
        'model = dict(decode_head=dict(**models, transformer_decoder=dict(enc_cfg)))\n'
    )
    cfg = load(config=path)
    assert (cfg.model.decode_head.num_queries, cfg.models) == (5, dict(num_queries=5))
    steps = [dict(type='LoadClipFrames'), dict(type='Albu', transforms=[dict(type='SomeTransform', p=0.5)])]
    cfg.train_dataloader.dataset.pipeline = steps
    check_config(cfg)


def test_modules_named_on_the_command_line_are_imported(here, monkeypatch):
    """After the file was read nobody else would."""
    (here / 'my_own_part.py').write_text('from pathlib import Path\nPath("was_imported").touch()\n')
    monkeypatch.syspath_prepend(str(here))
    load('custom_imports.imports=[ovavss_mm,my_own_part]')
    assert (here / 'was_imported').exists()


def test_configs_in_plain_python_are_checked_alike(here):
    """Their names are imported, their types are classes."""
    (here / 'base.py').write_text(
        'from mmengine.hooks import CheckpointHook\nfrom mmengine.optim import OptimWrapper\n'
        'from torch.optim import AdamW\n'
        'default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=3))\n'
        'optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1))\n'
    )
    path = here / 'mine.py'
    path.write_text('from mmengine.config import read_base\n\nwith read_base():\n    from .base import *\n')
    assert load('optim_wrapper.optimizer.lr=2', config=path).optim_wrapper.optimizer.lr == 2
    for option, near in (('default_hooks.checkpoint.intervall=2', 'interval'), ('optim_wrapper.optimizer.lrr=2', 'lr')):
        with pytest.raises(ConfigError, match=f'nearest known: {near}$'):
            load(option, config=path)


def test_parts_that_only_their_owners_know_are_left_alone():
    """Several optimizers, hooks that are there already, and the parts of another library."""
    cfg = Config(
        dict(
            optim_wrapper=dict(
                generator=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1)), constructor='Mine'
            ),
            default_hooks=dict(timer=IterTimerHook()),
        )
    )
    check_config(cfg)
    check_config(Config(dict(default_scope='mmdet', train_dataloader=dict(dataset=dict(type='CocoDataset', a=1)))))
