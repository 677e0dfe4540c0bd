# SPDX-License-Identifier: Apache-2.0
"""Measure what each part of a model costs in training or testing, or how fast training clips are loaded.

Steps are repeated on the same clips with the same random draws. Of each range (the model's children, those of its
head and classifier): median time, distance of the quartiles (IQR), share of the step, operations (of matrix products
and convolutions, two a multiply-add) and their share of what this machine does in a plain matrix product. A range is
without the ranges that it calls, so they add up: 'model' is the segmentor's own work, 'other' what is outside of it.

The model gets the config's clips if its data_root is there and neither --size, --frames nor --names is given; else
made-up ones that go through its pipeline. Without --checkpoint weights are drawn, --sounding queries have a mask in
every frame and all pairs of query and name that may be are painted. Memory is the peak of tensors on a GPU, of the
whole process on a CPU.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from math import log
from pathlib import Path
from statistics import linear_regression, median, quantiles
from typing import Any

import mmengine
from mmengine.config import Config, DictAction

EXAMPLES = """examples:
  a clip from frames to label map, 20 queries of which sound, among 200 names
    python tools/analysis_tools/benchmark.py CONFIG --mode test --sounding 20 --names 200

  A and B in turn: float32 and bfloat16; an eager and a compiled backbone; two configs
    python tools/analysis_tools/benchmark.py CONFIG --mode train --compare-options amp=True
    python tools/analysis_tools/benchmark.py CONFIG --mode test --compare-options compile=backbone
    python tools/analysis_tools/benchmark.py CONFIG --mode train --compare OTHER_CONFIG

  how time and memory grow with the number of names (of the axis size: with the short side of frames of 16:9)
    python tools/analysis_tools/benchmark.py CONFIG --mode test --grow names 70 1000 10000

  how fast clips load: those of the config; with --size made-up ones
    python tools/analysis_tools/benchmark.py CONFIG --mode loader --workers 2
"""
AXES = ('frames', 'names', 'queries', 'sounding', 'size', 'batch')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=text)
    add = parser.add_argument
    add('config', help="config file, or the name of one of the package's")
    add('--mode', choices=['train', 'test', 'loader'], default='train', help='default: %(default)s')
    add('--size', type=int, nargs=2, metavar=('H', 'W'), help='of made-up frames, in pixels')
    add('--frames', type=int, metavar='T', help='of made-up clips (default: 5)')
    add('--names', type=int, metavar='N', help='of a made-up vocabulary (default: 70)')
    add('--batch', type=int, default=1, metavar='B', help='clips a step (default: 1)')
    add('--queries', type=int, metavar='Q', help="decode_head.num_queries (default: the config's)")
    add('--sounding', type=int, default=5, metavar='N', help='queries with masks (default: 5)')
    add('--checkpoint', metavar='CKPT', help='weights; without, they are drawn')
    add('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    add('--amp', action='store_true', help='bfloat16 by autocast')
    add('--compile', nargs='+', default=[], metavar='PART', help='such as backbone or decode_head')
    add('--repeats', type=int, default=10, metavar='N', help='measured steps (default: 10)')
    add('--warmup', type=int, default=2, metavar='N', help='steps before (default: 2)')
    add('--compare', nargs='+', default=[], metavar='CONFIG', help='config of B, and of more (default: that of A)')
    add('--compare-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='changes of B')
    add('--grow', nargs='+', metavar='AXIS VALUE', help=f'axes: {", ".join(AXES)}')
    add('--workers', type=int, default=os.cpu_count(), help='of --mode loader (default: all cores)')
    add('--no-flops', action='store_true', help='do not count operations')
    add('--out', metavar='FILE.json', help='write the figures there')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='changes of all')
    args = parser.parse_args(argv)
    for name in ('frames', 'names', 'batch', 'queries', 'sounding', 'repeats', 'warmup', 'workers'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1, got {getattr(args, name)}')
    labels = [Path(path).stem for path in args.compare]
    if len({'A', *labels}) <= len(labels):
        parser.error(f'--compare takes configs of different names, none of them A, got {labels}')
    if args.grow and (args.grow[0] not in AXES or not all(v.isdecimal() for v in args.grow[1:])):
        parser.error(f'--grow takes an axis of {AXES} and numbers, got {args.grow}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        report(lambda: grow(argv, args.grow, folder) if args.grow else run(args, folder), args.out)


def report(measure: Callable[[], dict], out: str | None) -> None:
    """Set the process up, measure, write the result to the file ``out``; mistakes end the process with a line."""
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # waiting threads leave busy cores to others
    from ovavss_mm.compat import import_quietly

    # as train.py and test.py do
    import_quietly('ovavss_mm.engine.launch').keep_freed_memory()
    import_quietly('ovavss_mm.utils.products').choose_product_library()
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    MMLogger.get_current_instance().setLevel('ERROR')  # tables of all classes would bury ours
    try:
        with DefaultScope.overwrite_default_scope('mmseg'):
            result = measure()
        if out:
            mmengine.dump(result, out, indent=1)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')


def run(args: argparse.Namespace, folder: str) -> dict:
    """Measure A, or A and B in turn, and print tables; made-up clips go to ``folder``."""
    from bench_steps import build_dataset, load_batch, loader_bench, loading_rate, model_bench
    from bench_timer import count_flops, describe_machine, idle_share, matmul_ceiling, measure

    settings = read_settings(args)
    config = settings[0][0]
    dataset, made_up = build_dataset(config, args, folder)
    result = dict(settings=vars(args), machine=describe_machine(args.device), made_up_clips=made_up)
    if args.mode == 'loader':
        (steps,), result['peak memory, MiB'], _ = measure([loader_bench(dataset)], args)
        result['ranges'] = rows_of(steps)
        for workers in dict.fromkeys((0, args.workers)):
            result[f'clips a second, {workers} workers'] = loading_rate(config, dataset, workers, args.repeats)
    else:
        batch, result['clips'] = load_batch(dataset, args)
        benches = [model_bench(cfg, args, batch, **own) for cfg, own in settings]
        (steps, *others), result['peak memory, MiB'], added = measure(benches, args)
        bench, flops, ceiling = benches[0], {}, 1.0
        seconds = median(step['total'] for step in steps)
        if not args.no_flops:
            flops = count_flops(partial(bench.step, batch()), bench.ranges)
            ceiling = matmul_ceiling(args.device, args.amp)
            result['ceiling, GFLOP a second'] = ceiling / 1e9
        result['ranges'] = rows_of(steps, flops, ceiling)
        result['clips a second'] = args.batch / seconds
        if args.device.startswith('cuda'):
            result['idle share of the GPU'] = idle_share(partial(bench.step, batch()), seconds)
        result['notes'] = bench.notes
        labels = [Path(path).stem for path in args.compare] or ['B']
        if others:
            result['comparison'] = {label: compared(steps, rows) for label, rows in zip(labels, others, strict=True)}
            if args.device.startswith('cuda'):  # on a CPU freed memory stays with the process
                result['memory that a step adds, MiB'] = dict(zip(['A', *labels], map(round, added), strict=True))
    print(text_of(result))
    return result


def read_settings(args: argparse.Namespace) -> list[tuple[Config, dict]]:
    """Configs of A and of what it is compared with, each with its ``amp`` and ``compile``; sets ``args.device``."""
    from ovavss_mm.apis.loading import choose_device, find_config
    from ovavss_mm.models.skeleton import read_config

    args.device = choose_device(args.device)
    own = dict(amp=args.amp, compile=args.compile)
    settings = [(read_config(find_config(args.config), args.cfg_options), own)]
    if args.compare or args.compare_options:
        options = dict(args.compare_options or {})
        own = {key: options.pop(key, value) for key, value in own.items()}
        options = {**(args.cfg_options or {}), **options}
        others = args.compare or [args.config]
        settings += [(read_config(find_config(path), options), own) for path in others]
    return settings


def spread(values: list[float]) -> dict[str, Any]:
    """Median, quartiles and the values."""
    q1, _, q3 = quantiles(values * 2 if len(values) == 1 else values, n=4, method='inclusive')
    return dict(median=median(values), q1=q1, q3=q3, samples=values)


def rows_of(steps: list[dict], flops: dict | None = None, ceiling: float = 1.0) -> dict[str, dict]:
    """Figures of each range."""
    rows = {name: spread([step.get(name, 0.0) for step in steps]) for name in steps[0]}
    for name, row in rows.items():
        row['share'] = row['median'] / rows['total']['median']
        if flops and row['median']:
            row['flops'] = flops.get(name, 0)
            row['ceiling_share'] = row['flops'] / row['median'] / ceiling
    return rows


def compared(a: list[dict], b: list[dict]) -> dict[str, dict]:
    """Medians of A and B and the ratio B / A, step by step, of each range that both have."""
    rows = {}
    for name in a[0]:
        pairs = [(x.get(name, 0), y.get(name, 0)) for x, y in zip(a, b, strict=True)]
        if min(map(min, pairs)) > 0:
            of_a, of_b = map(median, zip(*pairs, strict=True))
            rows[name] = dict(a=of_a, b=of_b, **spread([y / x for x, y in pairs]))
    return rows


def text_of(result: dict) -> str:
    """Write the figures for people."""
    ms = lambda seconds: f'{1e3 * seconds:.2f}'  # noqa: E731
    rows = []
    for name, row in result['ranges'].items():
        cells = [name, ms(row['median']), ms(row['q3'] - row['q1']), f'{100 * row["share"]:.1f}']
        counted = [f'{row["flops"] / 1e9:.2f}', f'{100 * row["ceiling_share"]:.1f}'] if row.get('flops') else ['-', '-']
        rows.append(cells + counted)
    lines = [table_of(['range', 'median ms', 'IQR ms', 'share %', 'GFLOP', '% of ceiling'], rows)]
    for key, value in result.items():
        if key not in ('settings', 'ranges', 'comparison'):
            lines.append(f'{key}: {value:.4g}' if isinstance(value, float) else f'{key}: {value}')
    for label, comparison in result.get('comparison', {}).items():
        rows = []
        for name, row in comparison.items():
            rows.append([name, ms(row['a']), ms(row['b']), *(f'{row[key]:.3f}' for key in ('median', 'q1', 'q3'))])
        lines.append(table_of(['range', 'A ms', f'{label} ms', f'{label} / A', 'quartiles from', 'to'], rows))
    return '\n'.join(lines)


def table_of(header: list[str], rows: list[list[str]]) -> str:
    """A table with names at the left and numbers at the right."""
    from prettytable import PrettyTable

    table = PrettyTable(header, align='r')
    table.align[header[0]] = 'l'
    table.add_rows(rows)
    return table.get_string()


def grow(argv: list[str], wanted: list[str], folder: str) -> dict:
    """Measure each value of an axis in a process of its own, so that peaks of memory do not mix, and print a table."""
    axis, values = wanted[0], sorted({int(text) for text in wanted[1:]})
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # options that are not handed on
    own.add_argument('--grow', nargs='+')
    own.add_argument('--out')
    points = {}
    for value in values:
        print(f'{axis} {value}', file=sys.stderr, flush=True)
        out = f'{folder}/{value}.json'
        width = [str(max(32, round(value * 16 / 9 / 32) * 32))] if axis == 'size' else []
        command = [*own.parse_known_args(argv)[1], f'--{axis}', str(value), *width, '--out', out]
        done = subprocess.run([sys.executable, __file__, *command], capture_output=True, text=True)
        if done.returncode:
            words = (done.stderr.strip().splitlines() or ['no message'])[-1]
            points[value] = dict(error=f'exit status {done.returncode}: {words}')
            print(f'{axis} {value}: {points[value]["error"]}')
        else:
            points[value] = mmengine.load(out)
    print(growth_table(axis, {v: point for v, point in points.items() if 'error' not in point}))
    return points


def growth_table(axis: str, points: dict[int, dict]) -> str:
    """Milliseconds of each range, and MiB, at each value; and the slope of the logarithms at the last three."""
    xs = [log(value) * (2 if axis == 'size' else 1) for value in points][-3:]
    curves = {}
    for name in list(points.values())[-1]['ranges'] if points else ():
        curves[name] = [1e3 * point['ranges'].get(name, {}).get('median', 0) for point in points.values()]
    curves['peak memory, MiB'] = [point['peak memory, MiB'] for point in points.values()]
    rows = []
    for name, ys in curves.items():
        known = len(xs) > 1 and min(ys[-3:]) > 0
        slope = linear_regression(xs, [log(y) for y in ys[-3:]]).slope if known else float('nan')
        rows.append([name, *(f'{y:.1f}' for y in ys), f'{slope:.2f}'])
    return table_of([f'{axis}, ms', *map(str, points), 'exponent'], rows)


if __name__ == '__main__':
    main()
