# SPDX-License-Identifier: Apache-2.0
"""Label a video, correct its labels, train on them, label again: the model has learnt from the correction."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from label_files import cvat_mask
from mmengine.config import Config

from ovavss_mm.apis.inferencer import AVSegInferencer
from ovavss_mm.mini_world.drawing import iter_pictures
from ovavss_mm.mini_world.names import NAMES
from ovavss_mm.mini_world.video import video_scenes, write_video

ROOT = Path(__file__).parents[2]
CONFIG = 'configs/mini/ovavss_mini_hearing.py'
WEIGHTS = 'ovavss_mm://mini_world/ovavss_mini_hearing.safetensors'
ITERATIONS, FPS = 50, 5
# Of the video of this seed: what the mini model finds, what it labels and is not there, and what it misses.
SEED, FOUND, WRONG, MISSED = 59, 'green-disc', 'purple-square', 'purple-star'


def run(*command: object) -> None:
    """Run a tool of the project as a user does."""
    env = os.environ | dict(OMP_NUM_THREADS='1')
    command = [sys.executable, *map(str, command)]
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


def label(video: Path, weights: str, out: Path) -> dict[str, float]:
    """Seconds in which each name is seen."""
    model = AVSegInferencer('ovavss_mini_hearing', weights=weights, device='cpu', show_progress=False)
    found = model(str(video), classes=NAMES, out_dir=str(out), no_save_vis=True, export=['cvat'])
    return {name: what['seconds'] for name, what in found['predictions'][0]['names'].items()}


def draw(root: ElementTree.Element, name: str, maps: list[np.ndarray]) -> None:
    """Add the masks of a name in label maps, as CVAT has them of somebody who drew them."""
    for t, label_map in enumerate(maps):
        mask = label_map == NAMES.index(name) + 1
        if mask.any():
            track = ElementTree.SubElement(root, 'track', id=f'{1000 + t}', label=name, source='manual')
            track.extend(ElementTree.fromstring(cvat_mask(FPS * t + i, mask, outside=i)) for i in (0, 1))


def test_corrected_labels_are_learnt(tmp_path: Path) -> None:
    """What the model finds is kept, what is wrong is deleted, and what is missed is drawn."""
    video, data = tmp_path / 'clip.mp4', tmp_path / 'own'
    (scene,) = video_scenes(6, SEED)
    write_video(video, [scene], fps=FPS, scale=1)
    before = label(video, WEIGHTS, tmp_path / 'before')
    assert before.get(FOUND, 0) >= 3 and before.get(WRONG, 0) >= 1 and before.get(MISSED, 0) == 0

    exported = ElementTree.parse(tmp_path / 'before/export/cvat/clip.xml')
    for track in exported.findall('track'):
        if track.get('label') == WRONG:
            exported.getroot().remove(track)
    draw(exported.getroot(), MISSED, [truth for _, truth in iter_pictures(scene)])
    exported.write(corrected := tmp_path / 'corrected.xml', encoding='utf-8')
    tool = 'tools/dataset_converters/cvat_video.py'
    run(tool, '--train', corrected, '--videos', tmp_path, '--out', data)

    steps = [step['type'] for step in Config.fromfile(ROOT / CONFIG).train_dataloader.dataset.pipeline]
    mix = f'train_dataloader.dataset.pipeline.{steps.index("MixClipAudio")}'
    options = {
        f'{mix}.other': 0,  # there is no other clip
        f'{mix}.off_screen': 0,
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
    run('tools/train.py', CONFIG, '--work-dir', tmp_path / 'work', '--cfg-options', *options)

    after = label(video, str(tmp_path / 'work' / f'iter_{ITERATIONS}.pth'), tmp_path / 'after')
    assert after.get(MISSED, 0) >= 2 and after.get(FOUND, 0) >= 3 and after.get(WRONG, 0) == 0
