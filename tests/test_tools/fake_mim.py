# SPDX-License-Identifier: Apache-2.0
"""Stands for mim: leaves the files that a training or a test leaves, without doing either.

Files in the folder ``FAKE_MIM`` of the environment steer it: ``fail`` has stems of configs that fail, ``wait`` of
those whose training waits as long as they stand there. Each call is written to ``calls``.
"""

import json
import os
import sys
import time
from pathlib import Path

CONTROL = Path(os.environ['FAKE_MIM'])


def listed(name: str, stem: str) -> bool:
    """Whether a file of the control folder has the stem."""
    path = CONTROL / name
    return path.is_file() and stem in path.read_text().split()


def note(kind: str, stem: str, seed: int) -> None:
    """Write down the call and what it found around itself."""
    gpu = os.environ.get('CUDA_VISIBLE_DEVICES')
    call = dict(kind=kind, stem=stem, seed=seed, argv=sys.argv[1:], gpu=gpu)
    with open(CONTROL / 'calls', 'a') as file:
        file.write(json.dumps(call) + '\n')


def train(folder: Path, stem: str, seed: int) -> None:
    """Ten iterations; goes on where it was."""
    pointer = folder / 'last_checkpoint'
    done = int(pointer.read_text().rsplit('_', 1)[1][:-4]) if pointer.is_file() else 0
    time_folder = folder / f'2026_{time.time_ns()}' / 'vis_data'
    time_folder.mkdir(parents=True)
    for iteration in range(done + 1, 11):
        while iteration == 6 and listed('wait', stem):
            time.sleep(0.05)
        with open(time_folder / 'scalars.json', 'a') as file:
            file.write(json.dumps(dict(iter=iteration, time=seed + 2.0, loss=1)) + '\n')
        checkpoint = folder / f'iter_{iteration}.pth'
        checkpoint.write_text('weights')
        pointer.with_suffix('.new').write_text(str(checkpoint))  # a kill leaves the old or the new one
        pointer.with_suffix('.new').replace(pointer)
        if listed('fail', stem) and iteration == 5:
            print('ValueError: the loss is not finite')
            print('subprocess.CalledProcessError: Command returned non-zero exit status 1.')
            sys.exit(1)


def test(folder: Path, stem: str, seed: int) -> None:
    """Figures that follow from the config's name and the seed."""
    if listed('fail', stem):
        sys.exit('error: no test today')
    figures = dict(base_mIoU=len(stem) + seed, novel_mIoU=10.0 + 2 * seed, mIoU=7.0)
    base, novel = figures['base_mIoU'], figures['novel_mIoU']
    figures['harmonic_mIoU'] = 2 * base * novel / (base + novel)
    sounds = {}
    if any(text.startswith('test_dataloader.dataset.sounds=') for text in sys.argv):
        sounds['silent_frame_fpr'] = float('nan')
        for sound in ('silence', 'noise', 'other', 'off_screen_0dB', 'off_screen_6dB', 'off_screen_12dB'):
            sounds[f'{sound}/silent_frame_fpr'] = 1.5 + seed
            sounds[f'{sound}/{"kept" if "off" in sound else "FPR"}'] = 90.0 - seed
    name = f'2026_{time.time_ns()}'
    (folder / name).mkdir(parents=True)
    (folder / name / f'{name}.json').write_text(json.dumps({**figures, **sounds}))


def main() -> None:
    """Train or test."""
    kind, package, config = sys.argv[1:4]
    assert package == 'ovavss_mm'
    folder = Path(sys.argv[sys.argv.index('--work-dir') + 1])
    (seed,) = [int(text.partition('=')[2]) for text in sys.argv if text.startswith('randomness')]
    stem = Path(config).stem
    note(kind, stem, seed)
    if kind == 'train':
        train(folder, stem, seed)
    else:
        checkpoint = sys.argv[sys.argv.index('--checkpoint') + 1]
        assert checkpoint == 'none' or Path(checkpoint).is_file()
        test(folder, stem, seed)


if __name__ == '__main__':
    main()
