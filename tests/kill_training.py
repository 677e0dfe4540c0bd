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
from collections.abc import Callable
from pathlib import Path

import small_training

ITERATIONS = 24
PARTS = '.*.part*'


def kill_and_resume(
    config: Path, work_dir: Path, iterations: int, kills: int, rng: random.Random, slow: float = 0.5
) -> dict[str, int]:
    """Train to the end, killed ``kills`` times on the way; all is checked after each.

    A run without a checkpoint to resume from is left alone until it has written one, and then killed as the others: at
    a random moment up to some seconds after its first iteration, every second one while a checkpoint is half written.

    Returns:
        dict: how many runs were killed, how many of them while they wrote a file, and how many had been resumed from a
        checkpoint.
    """
    counts = dict(kills=0, in_write=0, resumed=0)
    while counts['kills'] < kills:
        start = small_training.check_folder(work_dir)
        in_write = counts['kills'] % 2 == 0
        process = small_training.Training(config, work_dir, '--resume', slow=slow)
        _wait_for(process, lambda: small_training.check_folder(work_dir) > 0)
        losses = work_dir / 'losses.txt'
        before = losses.stat().st_size if losses.exists() else 0
        if in_write:
            _wait_for(process, lambda: any(work_dir.glob(PARTS)))
        else:
            _wait_for(process, lambda: losses.exists() and losses.stat().st_size > before)  # noqa: B023
        time.sleep(rng.uniform(0, slow if in_write else 4 * slow))
        assert process.poll() is None, process.printed()[-3000:]
        process.send_signal(signal.SIGKILL)
        process.wait()
        counts['kills'] += 1
        counts['in_write'] += any(work_dir.glob(PARTS))
        counts['resumed'] += start > 0
        if small_training.check_folder(work_dir) >= iterations - 4:  # nearly done: begin again
            shutil.rmtree(work_dir)
    small_training.Training(config, work_dir, '--resume').finish()
    assert not list(work_dir.glob(PARTS))
    return counts


def _wait_for(process: small_training.Training, happened: Callable[[], bool]) -> None:
    """Wait until something has happened in a running training."""
    deadline = time.monotonic() + small_training.PATIENCE
    while not happened():
        assert process.poll() is None, process.printed()[-3000:]
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f'it stands still: {process.printed()[-3000:]}')
        time.sleep(0.01)


def main() -> None:
    """Do it, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=30)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--slow', type=float, default=0.5, help='seconds that a checkpoint takes')
    parser.add_argument('--out', type=Path, required=True, help='a folder that is not there yet')
    parser.add_argument('--world', choices=['tiny', 'mini'], default='tiny', help='a model of toy size, or the demo')
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    write = dict(tiny=small_training.write_config, mini=small_training.write_mini_config)
    config = write[args.world](args.out, ITERATIONS)
    small_training.Training(config, args.out / 'undisturbed').finish()
    counts = kill_and_resume(config, args.out / 'killed', ITERATIONS, args.kills, random.Random(args.seed), args.slow)
    last = f'iter_{ITERATIONS}.pth'
    equal = small_training.same(args.out / 'undisturbed' / last, args.out / 'killed' / last)
    losses = small_training.losses(args.out / 'undisturbed')
    odd = [i for i, v in small_training.losses(args.out / 'killed').items() if v != losses[i]]
    print(f'{counts}; final weights equal: {equal}; iterations with another loss: {odd}')
    few = counts['resumed'] < counts['kills'] / 2
    if few:
        print('error: fewer than half of the killed runs had been resumed: nothing is shown')
    sys.exit(not equal or bool(odd) or few)


if __name__ == '__main__':
    main()
