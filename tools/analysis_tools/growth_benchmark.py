# SPDX-License-Identifier: Apache-2.0
"""Measure how time and memory of a model grow with frames, queries, names and the size of frames.

One axis at a time, the others held. Each point is a run of benchmark.py in a process of its own, with made-up
clips, so that peaks of memory do not mix. Writes growth.json and growth.png to --out-dir, and prints a table an
axis, with the exponent p of 'proportional to x ** p' through the last three points. Sizes are counted in pixels
of a frame; the dashed lines of the picture have slope 1.

Points that growth.json has, of the same config, settings and machine, are not measured again: a run that was
stopped goes on. Points that fail, for want of memory say, are told and tried again the next time. Clips longer
than the test window go through the network window by window: there, memory hardly grows.
"""

import argparse
import functools
import json
import os.path as osp
import subprocess
import sys
import tempfile

HERE = osp.dirname(osp.abspath(__file__))

try:
    import ovavss_mm  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != 'ovavss_mm':
        raise
    sys.path.insert(0, osp.join(HERE, '..', '..'))  # run from a checkout, not installed

EXAMPLES = """examples:
  all four axes of testing, on one core
    OMP_NUM_THREADS=1 python tools/analysis_tools/growth_benchmark.py CONFIG --out-dir work_dirs/growth

  frames and size in training
    python tools/analysis_tools/growth_benchmark.py CONFIG --mode train --axes frames size

  other values, and others held
    python tools/analysis_tools/growth_benchmark.py CONFIG --axes frames --values frames=1,5,25,100 --size 128
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The arguments, by name.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config file')
    add('--axes', nargs='+', help='of frames, queries, names, size (default: all that matter)')
    add('--out-dir', default='work_dirs/growth', metavar='DIR', help='default: %(default)s')
    add('--mode', choices=['train', 'test'], default='test', help='default: %(default)s')
    add(
        '--values',
        nargs='+',
        default=[],
        metavar='AXIS=1,2,5',
        help='of axes (default: frames=1,2,5,10,20 queries=25,50,100,200 names=70,300,1000,3000,10000 '
        'size=128,192,256,384,512)',
    )
    add('--frames', type=int, default=5, metavar='T', help='held elsewhere (default: 5)')
    add('--queries', type=int, metavar='Q', help="held elsewhere (default: the config's)")
    add('--names', type=int, default=70, metavar='N', help='held elsewhere (default: 70)')
    add('--size', type=int, default=256, help='short side, held elsewhere (default: 256 pixels)')
    add('--sounding', default='5', metavar='N', help="queries that sound, or 'all' (default: 5)")
    add('--device', choices=['cpu', 'cuda'], help='default: a GPU if there is one')
    add('--repeats', type=int, default=5, help='measured steps a point (default: 5)')
    add('--warmup', type=int, default=1, help='steps before (default: 1)')
    add('--timeout', type=float, default=3600, help='seconds that a point may take (default: 3600)')
    add('--cfg-options', nargs='+', metavar='KEY=VALUE', help='change the config')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measure, print and draw.

    Args:
        argv: the arguments; None: those of the process.
    """
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly

    growth = import_quietly('ovavss_mm.engine.benchmark.growth')
    from ovavss_mm.models.skeleton import read_config

    try:
        values = growth.parse_values(args.values)
        held = growth.Point(args.frames, args.queries, args.names, args.size)
        axes = args.axes or [axis for axis in values if args.mode == 'test' or axis != 'names']
        if args.mode == 'train' and 'names' in axes:
            raise ValueError('training knows no names: --axes names needs --mode test')
        plan = {axis: growth.points_of(axis, values.get(axis), held) for axis in axes}
        results = growth.Results(osp.join(args.out_dir, 'growth.json'))
        settings = settings_of(args, growth.digest(read_config(args.config)))
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    measured = run_plan(args, plan, results, settings)
    for axis, rows in measured.items():
        print(f'\n{axis}\n{growth.growth_table(axis, rows)}')
    picture = osp.join(args.out_dir, 'growth.png')
    growth.plot(measured, picture, f'{osp.basename(args.config)}, {args.mode}')
    print(f'\n{results.path}\n{picture}')


def settings_of(args: argparse.Namespace, digest: str) -> dict:
    """All that the figures of a point depend on, beside the point.

    Args:
        args: the command line.
        digest: of the config.

    Returns:
        Plain values by name.
    """
    import torch

    from ovavss_mm.engine.benchmark.report import cpu_name
    from ovavss_mm.version import __version__

    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    names = ('config', 'cfg_options', 'mode', 'sounding', 'repeats', 'warmup')
    return dict(
        {name: getattr(args, name) for name in names},
        digest=digest,
        device=device,
        machine=torch.cuda.get_device_name() if device == 'cuda' else cpu_name(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        ovavss_mm=__version__,
    )


def run_plan(args: argparse.Namespace, plan: dict, results: object, settings: dict) -> dict:
    """Measure what is not there yet, with a line a point.

    Args:
        args: the command line.
        plan: axis to points.
        results: those that are there.
        settings: of all points.

    Returns:
        Axis to points and their figures.
    """
    count, total = 0, sum(map(len, plan.values()))
    measured = {axis: [] for axis in plan}
    for axis, points in plan.items():
        for point in points:
            count += 1
            print(f'{count}/{total} {axis}: {describe(point)}', file=sys.stderr, flush=True)
            work = functools.partial(measure_point, args, point, settings['device'])
            measured[axis].append((point, results.get(point, settings, work)))
    return measured


def describe(point: object) -> str:
    """Write a point on a line.

    Args:
        point: where.

    Returns:
        Names and values.
    """
    return ', '.join(f'{name} {value}' for name, value in point._asdict().items() if value)


def measure_point(args: argparse.Namespace, point: object, device: str) -> dict:
    """Run the benchmark in a process of its own.

    Args:
        args: the command line.
        point: where.
        device: 'cpu' or 'cuda'.

    Returns:
        Its figures, or ``error``, a line that says why there are none.
    """
    from ovavss_mm.engine.benchmark.growth import figures_of

    with tempfile.TemporaryDirectory() as folder:
        out = osp.join(folder, 'point.json')
        options = dict(
            mode=args.mode,
            frames=point.frames,
            queries=point.queries,
            names=point.names,
            sounding=args.sounding,
            device=device,
            repeats=args.repeats,
            warmup=args.warmup,
            out=out,
        )
        command = [sys.executable, osp.join(HERE, 'benchmark.py'), args.config, '--no-flops']
        command += [f'--{name}={value}' for name, value in options.items() if value is not None]
        command += ['--size', *map(str, point.frame_size)]
        command += ['--cfg-options', *args.cfg_options] if args.cfg_options else []
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=args.timeout)
        except subprocess.TimeoutExpired:
            return dict(error=f'not done in {args.timeout:g} s')
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            killed = f'exit status {done.returncode}, for want of memory perhaps'
            return dict(error=lines[-1] if lines and done.returncode > 0 else killed)
        with open(out, encoding='utf-8') as file:
            return figures_of(json.load(file))


if __name__ == '__main__':
    main()
