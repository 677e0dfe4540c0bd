# SPDX-License-Identifier: Apache-2.0
"""Label a video, correct its labels, train on them, label again: the model has learnt from the correction."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from label_files import cvat_mask, write_cvat
from PIL import Image

from ovavss_mm.apis.inferencer import AVSegInferencer
from ovavss_mm.mini_world.drawing import iter_pictures
from ovavss_mm.mini_world.names import NAMES
from ovavss_mm.mini_world.video import video_scenes, write_video

ROOT = Path(__file__).parents[2]
WEIGHTS = 'ovavss_mm://mini_world/ovavss_mini.safetensors'
ITERATIONS, FPS = 50, 5
# Of the video of this seed: what the mini model finds, what it labels though it is silent, and what it misses.
SEED, FOUND, SILENT, MISSED = 3, 'red-triangle', 'yellow-triangle', 'purple-star'


def run(*command: object) -> None:
    """Run a tool of the project as a user does."""
    env = os.environ | dict(OMP_NUM_THREADS='1')
    command = [sys.executable, *map(str, command)]
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


def label(video: Path, weights: str, out: Path) -> tuple[dict[str, float], list[np.ndarray]]:
    """Seconds in which each name is seen, and the label maps."""
    model = AVSegInferencer('ovavss_mini', weights=weights, device='cpu', show_progress=False)
    found = model(str(video), classes=NAMES, out_dir=str(out), no_save_vis=True)['predictions'][0]['names']
    maps = [np.array(Image.open(path)) for path in sorted((out / 'pred' / video.stem).glob('*.png'))]
    return {name: what['seconds'] for name, what in found.items()}, maps


def track(name: str, maps: list[np.ndarray]) -> tuple[str, list[str]]:
    """A name in label maps as a track of CVAT."""
    masks = [label_map == NAMES.index(name) + 1 for label_map in maps]
    return name, [cvat_mask(FPS * t, mask, outside=int(not mask.any())) for t, mask in enumerate(masks)]


def test_corrected_labels_are_learnt(tmp_path: Path) -> None:
    """One track of the model is kept, one deleted, and one drawn."""
    video, data = tmp_path / 'clip.mp4', tmp_path / 'own'
    (scene,) = video_scenes(6, SEED)
    write_video(video, [scene], fps=FPS, scale=1)
    before, maps = label(video, WEIGHTS, tmp_path / 'before')
    assert before.get(FOUND, 0) >= 3 and before.get(SILENT, 0) >= 3 and before.get(MISSED, 0) == 0

    tracks = [track(FOUND, maps), track(MISSED, [truth for _, truth in iter_pictures(scene)])]
    corrected = write_cvat(tmp_path / 'corrected.xml', tracks, video.name, maps[0].shape, names=NAMES)
    tool = 'tools/dataset_converters/cvat_video.py'
    run(tool, '--train', corrected, '--videos', tmp_path, '--out', data)

    options = {
        'load_from': WEIGHTS,
        'train_dataloader.dataset.data_root': data,
        'train_dataloader.dataset.base_names': 'all',
        'train_dataloader.batch_size': 1,
        'train_cfg.max_iters': ITERATIONS,
        'param_scheduler.0.end': 10,
        'param_scheduler.1.begin': 10,
        'param_scheduler.1.end': ITERATIONS,
        'randomness.seed': 0,
        **dict.fromkeys(('val_dataloader', 'val_cfg', 'val_evaluator')),
    }
    options = [f'{key}={value}' for key, value in options.items()]
    run('tools/train.py', 'configs/mini/ovavss_mini.py', '--work-dir', tmp_path / 'work', '--cfg-options', *options)

    after, _ = label(video, str(tmp_path / 'work' / f'iter_{ITERATIONS}.pth'), tmp_path / 'after')
    assert after.get(MISSED, 0) >= 2 and after.get(FOUND, 0) >= 3 and after.get(SILENT, 0) <= 1
