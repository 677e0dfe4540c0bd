# SPDX-License-Identifier: Apache-2.0
"""The figures of a test do not depend on how its clips are divided among batches, workers and processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_model
import torch
from archive import Clip, write_archive
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

from ovavss_mm.engine import launch

ROOT = Path(__file__).parents[2]
PATIENCE = 180  # s
# Seven: neither two nor three processes, nor batches of two or four, have equal shares.
CLIPS = (
    Clip('violin_dog', 'violin_dog', 'test', 'v2'),
    Clip('silent', 'bird', 'test', 'v1s', sound=False),
    Clip('away', 'off-the-screen', 'test', 'v2', first_frame=1),
    Clip('cat', 'cat', 'test', 'v1s'),
    Clip('wide', 'guitar_cat', 'test', 'v1s', size=(24, 40)),
    Clip('horse', 'horse', 'test', 'v2'),
    Clip('dog', 'dog', 'test', 'v1s'),
)
PIPELINE = [
    dict(type='SampleClipFrames', num_frames=None),
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAudio'),
    dict(type='ResizeClip', short_side=32),
    dict(type='LoadClipLabels'),
    dict(type='PackAVSegInputs'),
]


@pytest.fixture(scope='module')
def files(tmp_path_factory) -> tuple[Path, Path]:
    """Config and checkpoint of a drawn model that finds something everywhere, with their archive."""
    folder = tmp_path_factory.mktemp('invariance')
    cfg = Config.fromfile(ROOT / 'configs/_base_/default_runtime.py')
    cfg.model = tiny_model.tiny_config(test_cfg=dict(score_thr=0.2))
    cfg.model.classifier.sound_thr = None
    cfg.test_dataloader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='AVSBenchOVDataset',
            data_root=str(write_archive(folder / 'archive', CLIPS)),
            split='test',
            base_names='base_names.txt',
            test_mode=True,
            pipeline=PIPELINE,
        ),
    )
    cfg.test_evaluator = dict(type='OVIoUMetric', eval_size=(20, 28))
    cfg.test_cfg = dict(type='TestLoop')
    cfg.default_hooks.pop('visualization')
    cfg.visualizer = dict(type='Visualizer', vis_backends=[])
    # a batch rounds in another way than its clips do, and how depends on the processor
    cfg.custom_imports.imports += ['double_precision']
    cfg.custom_hooks = [dict(type='DoublePrecisionHook')]
    cfg.dump(folder / 'invariance.py')
    torch.manual_seed(28)  # one that finds both base and novel names
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = tiny_model.draw_weights(MODELS.build(cfg.model))
    tiny_model.give_masks_edges(model.decode_head)
    torch.save(dict(state_dict=model.state_dict()), folder / 'drawn.pth')
    return folder / 'invariance.py', folder / 'drawn.pth'


def figures(files: tuple[Path, Path], work_dir: Path, **loader: int) -> dict[str, float]:
    """All figures of a test in this process."""
    cfg = Config.fromfile(files[0])
    cfg.merge_from_dict(dict(test_dataloader=loader, load_from=str(files[1])))
    cfg.work_dir, cfg.experiment_name = str(work_dir), f'invariance_{work_dir.name}'
    with DefaultScope.overwrite_default_scope('mmseg'):
        return launch.build_runner(cfg).test()


@pytest.fixture(scope='module')
def one_by_one(files, tmp_path_factory) -> dict[str, float]:
    """Figures of single clips in one process, which are not trivial."""
    found = figures(files, tmp_path_factory.mktemp('one'))
    for key in ('mIoU', 'J_frame', 'harmonic_mIoU', 'silent_pixel_fpr'):
        assert 0 < found[key] < 100, (key, found[key])
    return found


def check_same(found: dict[str, float], expected: dict[str, float]) -> None:
    """Equal to the last bit, and NaN where the other is."""
    assert found.keys() == expected.keys()
    differ = {k: (found[k], v) for k, v in expected.items() if not np.array_equal(found[k], v, True)}
    assert not differ


@pytest.mark.parametrize(('batch_size', 'num_workers'), [(2, 0), (4, 0), (1, 2), (2, 2), (4, 2)], ids=str)
def test_batches_and_workers_do_not_change_the_figures(files, one_by_one, tmp_path, batch_size, num_workers):
    loader = dict(batch_size=batch_size, num_workers=num_workers)
    if num_workers:
        loader['timeout'] = PATIENCE
    found = figures(files, tmp_path, **loader)
    check_same(found, one_by_one)


def test_processes_do_not_change_the_figures(files, one_by_one, tmp_path):
    """The sampler gives some clips twice, so that all processes have as many; each counts once."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    command += ['--nproc_per_node=3', 'tools/test.py', *map(str, files)]
    command += ['--launcher', 'pytorch', '--work-dir', str(tmp_path)]
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / 'tests')]), OMP_NUM_THREADS='1')
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(next(tmp_path.glob('*/[0-9]*.json')).read_text())
    check_same({k: v for k, v in found.items() if k not in ('data_time', 'time')}, one_by_one)
