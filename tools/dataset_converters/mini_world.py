# SPDX-License-Identifier: Apache-2.0
"""Generate the mini world: a small data set in the layout of AVSBench-semantic.

Example: ``python tools/dataset_converters/mini_world.py --out data/mini``
"""

import argparse
import os
import sys
import time

try:
    from ovavss_mm.datasets.mini_world.world import WorldParams, build_world, plan_world
except ModuleNotFoundError as error:
    if (error.name or '').split('.')[0] != 'ovavss_mm':
        raise
    # Run from a checkout in which the package is not installed.
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..'))
    from ovavss_mm.datasets.mini_world.world import WorldParams, build_world, plan_world


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    defaults = WorldParams()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', required=True, help='folder of the world, for example data/mini')
    parser.add_argument('--seed', type=int, default=defaults.seed, help='seed of all chance')
    parser.add_argument(
        '--train',
        type=int,
        default=defaults.train,
        help='training clips; a few that the AVSBench-OV rule leaves out are added',
    )
    parser.add_argument('--val', type=int, default=defaults.val, help='validation clips')
    parser.add_argument('--test', type=int, default=defaults.test, help='test clips')
    parser.add_argument('--force', action='store_true', help='replace a mini world at --out')
    parser.add_argument(
        '--workers',
        type=int,
        default=min(4, os.cpu_count() or 1),
        help='processes; the result does not depend on it',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Build the world that the command line asks for, unless it is there already."""
    args = parse_args(argv)
    start = time.perf_counter()
    try:
        params = WorldParams(seed=args.seed, train=args.train, val=args.val, test=args.test)
        built = build_world(args.out, params, force=args.force, workers=args.workers)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    if built:
        count, seconds = len(plan_world(params)), time.perf_counter() - start
        print(f'{args.out}: {count} clips written in {seconds:.0f} s')
    else:
        print(f'{args.out}: complete already, nothing to do')


if __name__ == '__main__':
    main()
