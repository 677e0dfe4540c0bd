# SPDX-License-Identifier: Apache-2.0
"""Measure this project on a GPU in one go: what is right there, what it costs, and what it learns.

Each section is a process of its own with a time limit, so that one that fails, hangs or runs out of memory is reported
and the rest goes on; so is each measurement of a section. Neither data nor weights are needed. Everything is printed
as it is measured, and written as JSON after each section. What a GPU is not needed for is tried with
``--quick --device cpu``, on tiny sizes.
"""

import argparse
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import mmengine

TOOLS = Path(__file__).resolve().parents[1]
R50 = 'ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py'
SWIN = 'ovavss_swin-b_clip-vit-l14-336_1xb1-82k_avsbench-ov.py'
NAMING = ['naming_best-frame.py', 'naming_instance-tokens.py', 'naming_mask-pooling.py']
SYSTEMS = [
    'ovavss_r50_hearing_clip-vit-b16_1xb1-82k_avsbench-ov.py',
    'ov2seg_r50_1xb1-82k_avsbench-ov.py',
    'openvis_r50_clip-vit-b32_1xb1-82k_avsbench-ov.py',
    'clip-vis_rn50_1xb1-82k_avsbench-ov.py',
    'tpavi_pvt-v2-b5_1xb4-60e_avsbench-ov.py',
    'catr_pvt-v2-b5_1xb2-100e_avsbench-ov.py',
    'gavs_sam-vit-b_1xb1-60e_s4.py',
    'sam4avs_sam-vit-h_avsbench-ov.py',
]
MINI_SYSTEMS = [f'{name}_mini.py' for name in ('ov2seg', 'openvis', 'clip-vis', 'tpavi', 'catr', 'gavs', 'sam4avs')]
FOUNDATION = [
    f'model.{part}.tokenizer=ovavss_mm://mini_world/{name}_mini'
    for part, name in (('namer', 'clap'), ('proposer', 'grounding_dino'))
]
SAM = ['--frames', '1', '--names', '2', '--cfg-options', 'model.num_names=1', 'model.test_cfg.max_pairs=5']
AMP_WRAPPER = ['--cfg-options', 'optim_wrapper.type=AmpOptimWrapper', 'optim_wrapper.dtype=bfloat16']
Items = dict[str, Callable[[], dict]]


class Skipped(Exception):
    """A measurement that cannot be here; the text says why."""


class Section(NamedTuple):
    """A part of the report: seconds that it may take, and its measurements by name."""

    seconds: int
    items: Callable[[argparse.Namespace], Items]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--device', default='cuda', help='cuda or cpu (default: %(default)s)')
    add('--quick', action='store_true', help='tiny sizes and the mini configs, to try the report itself')
    add('--out', metavar='FILE.json', help='write the figures there')
    add('--fixtures', metavar='DIR', help='published outputs to compare with, as of check_parity.py')
    add('--only', nargs='+', choices=list(SECTIONS), metavar='SECTION', help=f'of {", ".join(SECTIONS)}')
    add('--limit', type=int, default=480, metavar='S', help='seconds of the whole report (default: %(default)s)')
    add('--section', help=argparse.SUPPRESS)  # of a process of this one, and the file that it leaves
    add('--into', help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the sections one after the other; fails if a measurement did."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    if args.section:
        return run_section(args)
    report: dict[str, Any] = dict(settings=vars(args), sections={})
    end = time.monotonic() + args.limit
    for name in args.only or SECTIONS:
        seconds = min(SECTIONS[name].seconds, end - time.monotonic())
        print(f'== {name} (at most {max(0, seconds):.0f} s)', flush=True)
        report['sections'][name] = start_section(name, argv, seconds)
        if args.out:
            mmengine.dump(report, args.out, indent=1)
    items = {f'{n}: {k}': v for n, section in report['sections'].items() for k, v in section['items'].items()}
    failed = [name for name, item in items.items() if 'error' in item]
    failed += [name for name, section in report['sections'].items() if 'error' in section]
    print(f'{len(items)} measurements, {sum("skipped" in item for item in items.values())} skipped')
    if failed:
        sys.exit('failed: ' + '; '.join(failed))


def start_section(name: str, argv: list[str], seconds: float) -> dict:
    """Run a section in a process of its own; what it had measured when it ended, by itself or not."""
    if seconds <= 0:
        return dict(items={}, skipped='no time left')
    begin, error = time.monotonic(), None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, 'items.json')
        command = [sys.executable, __file__, *argv, '--section', name, '--into', str(out)]
        process = subprocess.Popen(command, start_new_session=True)
        try:
            if process.wait(seconds):
                error = f'exit status {process.returncode}'
        except subprocess.TimeoutExpired:
            error = f'stopped after {seconds:.0f} s'
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started
                process.wait()
        items = mmengine.load(out) if out.is_file() else {}
    print(f'-- {name}: {time.monotonic() - begin:.0f} s' + (f', {error}' if error else ''), flush=True)
    return dict(items=items, seconds=time.monotonic() - begin, **(dict(error=error) if error else {}))


def run_section(args: argparse.Namespace) -> None:
    """Measure a section in this process, and leave what there is in ``args.into`` after each measurement."""
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # waiting threads leave busy cores to others
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.engine.launch').keep_freed_memory()
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    MMLogger.get_current_instance().setLevel('ERROR')
    with DefaultScope.overwrite_default_scope('mmseg'):
        listed = attempt(lambda: dict(todo=SECTIONS[args.section].items(args)))
        todo = listed.get('todo', {args.section: lambda: listed})
        items = {name: dict(skipped='no time left') for name in todo}
        for name, measure in todo.items():
            items[name] = attempt(measure)
            print(f'{name}: {line_of(items[name])}', flush=True)
            beside = Path(args.into).with_suffix('.new.json')
            mmengine.dump(items, beside)
            beside.replace(args.into)


def attempt(measure: Callable[[], dict]) -> dict:
    """What a measurement gives, or why there is nothing; frees its memory."""
    import gc

    import torch

    begin = time.monotonic()
    try:
        found = measure()
    except Skipped as reason:
        found = dict(skipped=str(reason))
    except (Exception, SystemExit) as error:
        found = dict(error=f'{type(error).__name__}: {error}'[:2000], traceback=traceback.format_exc()[-4000:])
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return dict(found, seconds=time.monotonic() - begin)


def line_of(item: dict) -> str:
    """A measurement in a line."""
    for key in ('error', 'skipped'):
        if key in item:
            return f'{key}: {item[key]}'
    if 'stages' not in item:
        shown = {k: v for k, v in item.items() if k != 'shares'}
        parts = {
            f'{k} {of}': x for k, v in shown.items() for of, x in (v.items() if isinstance(v, dict) else [('', v)])
        }
        return ', '.join(
            f'{k.strip()} {v:.3g}' if isinstance(v, float) else f'{k.strip()} {v}' for k, v in parts.items()
        )
    stages, total = dict(item['stages']), item['stages']['total']
    words = [f'{total["ms"]:.1f} ms', f'peak {item["peak memory, MiB"]:.0f} MiB']
    words += [f'{total["of ceiling"]:.0%} of ceiling'] if 'of ceiling' in total else []
    words += [f'GPU idle {item["idle share of the GPU"]:.0%}'] if 'idle share of the GPU' in item else []
    slow = sorted((name for name in stages if name != 'total'), key=lambda name: -stages[name]['ms'])
    words += [f'{name} {stages[name]["ms"]:.1f}' for name in slow[:6]]
    words += [f'{label} {rows["total"]["ms"]:.1f} ms' for label, rows in item.get('comparison', {}).items()]
    return ', '.join(words)


# ------------------------------------------------------------------ measurements
def bench(args: argparse.Namespace, config: str, mode: str, *options: str) -> Callable[[], dict]:
    """A run of ``benchmark.py``."""
    repeats = ['--repeats', '1' if args.quick else '5', '--warmup', '1' if args.quick else '2']
    return partial(run_bench, [config, '--mode', mode, '--device', args.device, *repeats, *options])


def run_bench(command: list[str]) -> dict:
    """What ``benchmark.py`` measures, its stages in milliseconds."""
    import benchmark

    # its tables and bars would bury our lines
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()), redirect_stderr(StringIO()) as words:
        try:
            found = benchmark.run(benchmark.parse_args(command), folder)
        except SystemExit as error:
            raise ValueError(words.getvalue()[-500:]) from error
    stages = {}
    for name, row in found.pop('ranges').items():
        counted = {'GFLOP': row['flops'] / 1e9, 'of ceiling': row['ceiling_share']} if row.get('flops') else {}
        stages[name] = dict(ms=1e3 * row['median'], share=row['share'], **counted)
    found['comparison'] = {
        label: {name: dict(ms=1e3 * row['b'], ratio=row['median']) for name, row in rows.items()}
        for label, rows in found.get('comparison', {}).items()
    }
    return dict({key: value for key, value in found.items() if key != 'settings'}, stages=stages, command=command)


def versions(args: argparse.Namespace) -> Items:
    """Libraries, the device, and what it does in a plain product."""
    from bench_timer import describe_machine, matmul_ceiling

    from ovavss_mm.compat import ensure_mmcv_ops

    names = ('ovavss_mm', 'torch', 'torchvision', 'numpy', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation')

    def libraries() -> dict:
        found = {name: importlib.metadata.version(name) for name in (*names, 'onedl-mmdetection', 'open_clip_torch')}
        return dict(found, python=platform.python_version(), compiled_ops=ensure_mmcv_ops())

    def device() -> dict:
        import torch

        speed = {f'TFLOP/s {kind}': matmul_ceiling(args.device, amp) / 1e12 for kind, amp in (('f32', 0), ('bf16', 1))}
        return dict(name=describe_machine(args.device), cuda=torch.version.cuda, cores=os.cpu_count(), **speed)

    return dict(libraries=libraries, device=device)


def attention(args: argparse.Namespace) -> Items:
    """The kernel of deformable attention against PyTorch, see :mod:`gpu_checks`."""
    from gpu_checks import compare_attention

    sizes = [(2, 32, 64)] if args.quick else [(5, 384, 480), (5, 480, 640), (10, 480, 640)]
    configs = {'mini': 'ovavss_mini.py'} if args.quick else {'R50': R50, 'Swin-B': SWIN}
    return {
        f'{name}, {size[0]} frames of {size[1]} x {size[2]}, {kind}': partial(
            compare_attention, config, size, args.device, kind == 'bfloat16'
        )
        for name, config in configs.items()
        for size in sizes
        for kind in ('float32', 'bfloat16')
    }


def system(full: str, mini: str, args: argparse.Namespace) -> Items:
    """A clip in testing, and training steps of one and two, in float32, bfloat16 and partly compiled."""
    config = mini if args.quick else full
    small = ['--size', '32', '64', '--frames', '2', '--names', '4']
    size = (
        dict.fromkeys(('test', 'train'), small)
        if args.quick
        else dict(test=['--size', '360', '480'], train=['--size', '480', '640'])
    )
    compiled = ['--compile', *(['audio_encoder'] if args.quick else ['backbone', 'neck'])]
    kinds = dict(float32=[], bfloat16=['--amp'], compiled=['--amp', *compiled])
    if args.quick and full == SWIN:
        del kinds['compiled']  # compiling once is enough to try it
    items = {f'test, {kind}': bench(args, config, 'test', *size['test'], *more) for kind, more in kinds.items()}
    for batch in ('1', '2'):
        for kind, more in list(kinds.items())[: 3 if batch == '1' else 2]:
            step = [*size['train'], '--batch', batch, *more]
            items[f'train, batch {batch}, {kind}'] = bench(args, config, 'train', *step)
    fused = ['--no-flops', '--compare-options', f'optim_wrapper.optimizer.fused={not args.quick}']
    items['train, fused AdamW'] = bench(args, config, 'train', *size['train'], *fused)
    two = bench(args, config, 'train', *size['train'], '--no-flops', '--repeats', '1', '--warmup', '1', *AMP_WRAPPER)
    items['two steps, AmpOptimWrapper'] = two if args.device != 'cpu' else partial(skip, 'it needs a GPU')
    return {name: items[name] for name in sorted(items, key=lambda name: 'compiled' in name)}  # compiling takes longest


def skip(reason: str) -> dict:
    """Nothing is measured."""
    raise Skipped(reason)


def naming(args: argparse.Namespace) -> Items:
    """Ways of naming masks, of several numbers of sounding queries."""
    config, others = ('ovavss_mini.py', ['ovavss_mini_mask-pooling.py']) if args.quick else (R50, NAMING)
    size = ['--size', *(('32', '64') if args.quick else ('360', '480')), '--no-flops']
    counts = ('1', '5') if args.quick else ('1', '5', '20', '100')
    return {
        f'{count} queries': bench(args, config, 'test', *size, '--sounding', count, '--compare', *others)
        for count in counts
    }


def systems(args: argparse.Namespace) -> Items:
    """A clip and a training step of each further system, at the size of its config."""
    items = {}
    for config in MINI_SYSTEMS if args.quick else SYSTEMS:
        name = config.split('_')[0]
        if name == 'sam4avs':  # nothing of it is trained
            options = ['--size', '224', '224', '--no-flops', *SAM, *FOUNDATION]
            items[f'{name}, test'] = bench(args, config, 'test', *options)
            continue
        for mode in ('test', 'train'):
            size = ['--size', '64', '96', '--frames', '2'] if args.quick else ['--frames', '5']
            items[f'{name}, {mode}'] = bench(args, config, mode, *size, '--names', '20')
    return items


def parity(args: argparse.Namespace) -> Items:
    """Published outputs, see :mod:`gpu_checks`."""
    from gpu_checks import compare_fixture

    if args.fixtures is None:
        return dict(fixtures=partial(skip, '--fixtures names no folder'))
    paths = sorted(Path(args.fixtures).glob('*_seed*.npz'))
    if not paths:
        raise FileNotFoundError(f'{args.fixtures} has no files *_seed*.npz')
    return {path.stem: partial(compare_fixture, str(path), args.device) for path in paths}


def learning(args: argparse.Namespace) -> Items:
    """A short training of the mini model in bfloat16, on clips that are made for it, and its test."""

    def learn() -> dict:
        iterations, clips = (2, (8, 2, 4)) if args.quick else (200, (240, 4, 160))
        with tempfile.TemporaryDirectory() as folder:
            world, work = f'{folder}/mini', f'{folder}/work'
            counts = [x for pair in zip(('--train', '--val', '--test'), map(str, clips), strict=True) for x in pair]
            run_tool(args, 'dataset_converters/mini_world.py', '--out', world, *counts)
            none = [f'val_{key}=None' for key in ('dataloader', 'cfg', 'evaluator')]
            schedule = [f'param_scheduler.0.end={iterations // 2}', f'param_scheduler.1.begin={iterations // 2}']
            schedule += [
                f'param_scheduler.1.end={iterations}',
                f'train_cfg.max_iters={iterations}',
                'randomness.seed=1',
            ]
            common = ['--amp', '--work-dir', work, '--cfg-options']
            begin = time.monotonic()
            data = f'train_dataloader.dataset.data_root={world}'
            run_tool(args, 'train.py', config_path('ovavss_mini.py'), *common, data, *none, *schedule)
            took = time.monotonic() - begin
            data = f'test_dataloader.dataset.data_root={world}'
            weights = f'{work}/iter_{iterations}.pth'
            run_tool(args, 'test.py', config_path('ovavss_mini.py'), weights, *common, data)
            figures = mmengine.load(max(Path(work).glob('*/[0-9]*.json'), key=os.path.getmtime))
        keys = ('harmonic_mIoU', 'base_mIoU', 'novel_mIoU')
        return dict({key: figures[key] for key in keys}, iterations=iterations, training_seconds=took)

    return {'bfloat16': learn}


def config_path(name: str) -> str:
    """Path of a config of the package."""
    from ovavss_mm.apis.loading import find_config

    return str(find_config(name))


def run_tool(args: argparse.Namespace, path: str, *options: str) -> None:
    """Run a tool of the project; RuntimeError with its last words if it fails."""
    env = os.environ | (dict(CUDA_VISIBLE_DEVICES='') if args.device == 'cpu' else {})
    command = [sys.executable, str(TOOLS / path), *options]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f'{path}: exit status {done.returncode}: {done.stdout[-1500:]}')


def loader(args: argparse.Namespace) -> Items:
    """How fast training clips load, without workers and with one a core."""

    def load() -> dict:
        config, more = ('ovavss_mini.py', ['--size', '32', '64']) if args.quick else (R50, [])
        workers = str(1 if args.quick else os.cpu_count())
        found = run_bench(
            [config, '--mode', 'loader', '--device', 'cpu', '--workers', workers, '--repeats', '8', *more]
        )
        return {key: value for key, value in found.items() if key.startswith('clips a second')}

    return {'training clips': load}


SECTIONS = dict(
    versions=Section(40, versions),
    attention=Section(60, attention),
    r50=Section(130, partial(system, R50, 'ovavss_mini.py')),
    parity=Section(100, parity),
    learning=Section(90, learning),
    swin=Section(130, partial(system, SWIN, 'ovavss_mini_swin.py')),
    naming=Section(80, naming),
    systems=Section(120, systems),
    loader=Section(40, loader),
)

if __name__ == '__main__':
    main()
