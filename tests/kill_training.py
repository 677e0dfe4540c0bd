# SPDX-License-Identifier: Apache-2.0
"""Kill a training at random moments, resume it each time, and compare the end with an undisturbed run's.

python tests/kill_training.py --world mini --kills 30 --seed 0 --out /tmp/kills
"""

import argparse
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import small_training

ITERATIONS = 24


def kill_and_resume(
    config: Path,
    work_dir: Path,
    iterations: int,
    kills: int,
    rng: random.Random,
    slow: float = 0.5,
) -> dict[str, int]:
    """Train to the end, killed ``kills`` times on the way; all is checked after each.

    A kill comes at a random moment up to some seconds after the first file of the run; every second one
    waits until a checkpoint is half written.

    Returns:
        How many kills there were, how many met a half-written file, and how many iterations were resumed from.
    """
    counts = dict(kills=0, in_write=0, resumed=0)
    while counts['kills'] < kills:
        losses = work_dir / 'losses.txt'
        before = losses.stat().st_size if losses.exists() else 0
        process = small_training.Training(config, work_dir, '--resume', slow=slow)
        deadline = time.monotonic() + small_training.PATIENCE
        in_write = counts['kills'] % 2 == 0
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f'it stands still: {process.printed()[-3000:]}')
            if in_write and list(work_dir.glob('.*.part')):
                time.sleep(rng.uniform(0, slow))
                break
            if not in_write and losses.exists() and losses.stat().st_size > before:
                time.sleep(rng.uniform(0, 4 * slow))
                break
            time.sleep(0.01)
        assert process.poll() is None, process.printed()[-3000:]
        process.send_signal(signal.SIGKILL)
        process.wait()
        counts['kills'] += 1
        counts['in_write'] += bool(list(work_dir.glob('.*.part')))
        counts['resumed'] += small_training.check_folder(work_dir) > 0
        if small_training.check_folder(work_dir) >= iterations - 4:  # nearly done: begin again
            shutil.rmtree(work_dir)
    small_training.Training(config, work_dir, '--resume').finish()
    assert not list(work_dir.glob('.*.part'))
    return counts


def main() -> None:
    """Do it, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=30)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--slow', type=float, default=0.5, help='seconds that a checkpoint takes')
    parser.add_argument('--out', type=Path, required=True, help='a folder that is not there yet')
    parser.add_argument(
        '--world', choices=['tiny', 'mini'], default='tiny', help='a model of toy size, or the demo'
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    write = dict(tiny=small_training.write_config, mini=small_training.write_mini_config)
    config = write[args.world](args.out, ITERATIONS)
    small_training.Training(config, args.out / 'undisturbed').finish()
    counts = kill_and_resume(
        config,
        args.out / 'killed',
        ITERATIONS,
        args.kills,
        random.Random(args.seed),
        args.slow,
    )
    last = f'iter_{ITERATIONS}.pth'
    equal = small_training.same(args.out / 'undisturbed' / last, args.out / 'killed' / last)
    losses = small_training.losses(args.out / 'undisturbed')
    odd = [i for i, v in small_training.losses(args.out / 'killed').items() if v != losses[i]]
    print(f'{counts}; final weights equal: {equal}; iterations with another loss: {odd}')
    sys.exit(not equal or bool(odd))


if __name__ == '__main__':
    main()
