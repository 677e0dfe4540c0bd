# SPDX-License-Identifier: Apache-2.0
"""Generate the mini world: a small data set in the layout of AVSBench-semantic.

Examples: ``python tools/dataset_converters/mini_world.py --out data/mini``;
``python tools/dataset_converters/mini_world.py --video mini.mp4 --seconds 30`` writes one video instead.
"""

import argparse
import os
import sys
import time

from ovavss_mm.mini_world.video import video_scenes, write_video
from ovavss_mm.mini_world.world import WorldParams, build_world, plan_world


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    defaults = WorldParams()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument('--out', help='folder of the world, for example data/mini')
    where.add_argument('--video', metavar='FILE', help='write one clip instead, an mp4 with sound')
    add, cores = parser.add_argument, min(4, os.cpu_count() or 1)
    add('--seed', type=int, default=defaults.seed, help='seed of all chance')
    rest = 'training clips; a few that the AVSBench-OV rule leaves out are added'
    add('--train', type=int, default=defaults.train, help=rest)
    add('--val', type=int, default=defaults.val, help='validation clips')
    add('--test', type=int, default=defaults.test, help='test clips')
    add('--force', action='store_true', help='replace a mini world at --out')
    add('--workers', type=int, default=cores, help='processes; the result does not depend on it')
    add = parser.add_argument_group('of --video').add_argument
    add('--seconds', type=int, default=10, help='its length; another scene each 20 s (default: 10)')
    add('--video-fps', type=int, default=25, help='frames a second (default: 25)')
    add('--sounding', nargs='+', default=[], metavar='NAME', help='sounds in some of the seconds')
    add('--silent', nargs='+', default=[], metavar='NAME', help='only seen (default: one name)')
    return parser.parse_args(argv)


def make_video(args: argparse.Namespace) -> None:
    """Write the video that the command line asks for, and print what sounds when."""
    scenes = list(video_scenes(args.seconds, args.seed, args.sounding, args.silent))
    write_video(args.video, scenes, args.video_fps)
    print(f'{args.video}: {args.seconds} s')
    start = 0
    for scene in scenes:
        for obj in sorted(scene.objects, key=lambda obj: obj.name):
            seconds = [start + i for i, sounds in enumerate(obj.sounding) if sounds]
            print(f'  {obj.name} sounds in the seconds {seconds}' if seconds else f'  {obj.name}')
        start += scene.num_seconds


def main(argv: list[str] | None = None) -> None:
    """Build the world that the command line asks for, unless it is there already."""
    args = parse_args(argv)
    start = time.perf_counter()
    try:
        if args.video:
            return make_video(args)
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
