# SPDX-License-Identifier: Apache-2.0
"""Measure what each stage of a model costs, in training or in testing, and compare variants of a stage.

Steps are repeated on the same clips after some to warm up. Of each stage: the median time, the distance of
its quartiles (IQR), its share of the step, its operations, and the share of what this machine does in a plain
matrix product (measured at the start: float32; bfloat16 where the config computes in it). On a GPU times
are those of its own clock, and convolutions may pass the float32 ceiling where they use TF32.

A stage is without the stages that it calls: 'decoder' is the head without its pixel decoder, 'crops' the
classifier without CLIP, 'label_map' what comes after the classifier. 'other' is what is left of the step.
The pipeline ('data') is measured beside the step, in this process, as loaders do it beside training; the text
embeddings of a vocabulary are made once, and told as time a name.

Operations are those of matrix products and convolutions, two a multiply-add. Not counted: sampling (points,
deformable attention, crops), interpolation, norms, softmax, all that is element-wise, the assignment.

The model gets the config's own clips if its data_root is there and neither --size, --frames nor --names is
given; else made-up ones. Frozen modules whose files are not there get drawn weights: time does not depend on
them. Without --checkpoint, testing has --sounding queries with a mask in every frame, and all pairs are painted.

Memory: on a GPU the peak of torch's tensors; on a CPU the resident memory of the process, sampled every
5 ms, with all that was loaded before (which is told, too).
"""

import argparse
import os
import os.path as osp
import sys

ROOT = osp.join(osp.dirname(osp.abspath(__file__)), '..', '..')

try:
    import ovavss_mm  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != 'ovavss_mm':
        raise
    sys.path.insert(0, ROOT)  # run from a checkout in which the package is not installed

EXAMPLES = """examples:
  a step of training, on one core
    OMP_NUM_THREADS=1 python tools/analysis_tools/benchmark.py CONFIG --mode train

  a clip of 10 frames from frames to label map, 20 queries of which sound, among 200 names
    python tools/analysis_tools/benchmark.py CONFIG --mode test --frames 10 --sounding 20 --names 200

  a trained model on its own data, the figures also in a file
    python tools/analysis_tools/benchmark.py CONFIG --mode test --checkpoint CKPT --out figures.json

  what bfloat16 gains in the decoder, and other deformable attention in the pixel decoder
    python tools/analysis_tools/benchmark.py CONFIG --compare decoder=bfloat16 pixel_decoder=mmcv

  CLIP on a crop at a time, by name and by key of the model's config
    python tools/analysis_tools/benchmark.py CONFIG --mode test --compare clip=frame
    python tools/analysis_tools/benchmark.py CONFIG --mode test --compare clip=classifier.chunk_size:1

variants: bfloat16 (any stage), compile (backbone, neck, pixel_decoder, decoder, clip), mmcv (pixel_decoder),
frame (clip). A comparison runs both models in turn, A B A B, with the same weights, clips and draws, and
tells the ratio of their times, pair by pair, and the largest difference between their outputs.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The arguments, by name.
    """
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config file')
    add('--mode', choices=['train', 'test'], default='train', help='default: %(default)s')
    add('--size', type=int, nargs=2, metavar=('H', 'W'), help='of made-up frames, in pixels')
    add('--frames', type=int, metavar='T', help='of made-up clips')
    add('--queries', type=int, metavar='Q', help="default: the config's")
    add('--names', type=int, metavar='N', help='of a made-up vocabulary (default: 70)')
    add('--batch', type=int, default=1, metavar='B', help='clips a step (default: 1)')
    add('--device', choices=['cpu', 'cuda'], help='default: a GPU if there is one')
    add('--checkpoint', metavar='CKPT', help='weights; without, they are drawn')
    add('--sounding', default='5', metavar='N', help="queries that sound, or 'all' (default: 5)")
    add('--repeats', type=int, default=10, metavar='N', help='measured steps (default: 10)')
    add('--warmup', type=int, default=2, metavar='N', help='steps before (default: 2)')
    add('--compare', nargs='+', default=[], metavar='STAGE=VARIANT', help='see below')
    add('--no-flops', action='store_true', help='neither count operations nor measure ceilings')
    add('--out', metavar='FILE.json', help='write the figures there')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='change the config')
    args = parser.parse_args(argv)
    if args.sounding != 'all' and not args.sounding.isdecimal():
        parser.error(f"--sounding must be a number or 'all', got {args.sounding!r}")
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure and print.

    Args:
        argv: the arguments; None: those of the process.
    """
    args = parse_args(argv)
    # Threads that spin long while they wait take busy cores from others; some spinning pays.
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.engine.launch').keep_freed_memory()  # as train.py and test.py do
    from mmengine.utils import ProgressBar

    from ovavss_mm.engine.benchmark.compare import parse_comparison
    from ovavss_mm.engine.benchmark.report import write_json
    from ovavss_mm.engine.benchmark.run import count_ticks, run
    from ovavss_mm.models.skeleton import read_config

    try:
        settings = settings_of(args)
        comparisons = [parse_comparison(text, settings.mode) for text in args.compare]
        config = read_config(args.config, args.cfg_options)
        flops = not args.no_flops
        bar = ProgressBar(count_ticks(settings, comparisons, flops), file=sys.stderr)
        result = run(config, settings, comparisons, flops, bar.update)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(file=sys.stderr)
    result = dict(config=args.config, cfg_options=args.cfg_options, **result)
    print(text_of(result))
    if args.out:
        write_json(result, args.out)


def settings_of(args: argparse.Namespace) -> object:
    """What the command line asks to measure.

    Args:
        args: the command line.

    Returns:
        The settings.

    Raises:
        ValueError: a value out of range.
        FileNotFoundError: there is no such checkpoint.
    """
    import torch

    from ovavss_mm.engine.benchmark.bench import Settings

    if args.checkpoint and not osp.isfile(args.checkpoint):
        raise FileNotFoundError(f'there is no checkpoint {args.checkpoint}')
    names = ('mode', 'frames', 'queries', 'names', 'batch', 'checkpoint', 'repeats', 'warmup')
    return Settings(
        **{name: getattr(args, name) for name in names},
        size=args.size and tuple(args.size),
        device=args.device or ('cuda' if torch.cuda.is_available() else 'cpu'),
        sounding='all' if args.sounding == 'all' else int(args.sounding),
    )


def text_of(result: dict) -> str:
    """Write the figures for people.

    Args:
        result: of the benchmark.

    Returns:
        Lines of text.
    """
    from ovavss_mm.engine.benchmark.report import comparison_table, stage_table

    hardware, shape, data = result['hardware'], result['shape'], result['data']
    memory = result['memory']
    machine = hardware['gpu'] or f'{hardware["cpu"]}, {hardware["threads"]} threads'
    lines = [
        f'{result["config"]}, {result["settings"]["mode"]}, {machine}, torch {hardware["torch"]}',
        f'{shape["batch"]} clips of {shape["frames"]} frames, {shape["height"]} x {shape["width"]} '
        f'pixels, {shape["names"]} names',
        *(f'note: {note}' for note in result['notes']),
        *(f'ceiling, {dtype}: {rate / 1e9:.0f} GFLOP a second' for dtype, rate in result['ceilings'].items()),
        stage_table(result['stages']),
        'data, beside the step: '
        + (f'{1e3 * data["median"]:.1f} ms, IQR {1e3 * data["iqr"]:.1f} ms' if data else 'no data'),
        f'{result["clips_per_second"]:.3g} clips a second',
        f'peak memory {memory["peak"]:.0f} MiB, of which {memory["before"]:.0f} MiB before the steps '
        f'({memory["kind"]})',
    ]
    if result['idle_share'] is not None:
        lines.append(f'the GPU is idle {100 * result["idle_share"]:.0f} % of the step')
    if result['crops'] is not None:
        lines.append(f'{result["crops"]} crops go through CLIP')
    if result['text_seconds_per_name'] is not None:
        lines.append(f'text embeddings, once a vocabulary: {1e3 * result["text_seconds_per_name"]:.1f} ms a name')
    if result['comparisons']:
        lines.append(comparison_table(result['comparisons']))
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
