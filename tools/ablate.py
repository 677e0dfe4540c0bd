# SPDX-License-Identifier: Apache-2.0
"""Train and test the rows of ablation tables, and write the tables.

A row is a config. Its model is trained and tested through mim, once a seed; rows and suites that need the
same trained model share it. Each suite gets a table as Markdown and CSV and a picture in --out, and all tables
stand in tables.md there. They are renewed whenever a job ends: mean and standard deviation over the seeds, sizes of
the model, seconds. Numbers that the paper published stand beside ours, in columns of their own, each with the data
that it was measured on.

Start the same command again after an interruption: what is done is kept, a training goes on from its last
checkpoint, what failed is tried again. Each training and test has a folder with a log below --out. A row that
fails is marked in its table, with its log; the others go on, and the exit status is 1. On several GPUs, each job
gets one.
"""

import argparse
import os
import os.path as osp
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = osp.dirname(osp.abspath(__file__))
CONFIGS = Path(HERE).parent / 'configs'

try:
    import ovavss_mm  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != 'ovavss_mm':
        raise
    sys.path.insert(0, osp.join(HERE, '..'))  # run from a checkout, not installed

EXAMPLES = """examples:
  what would be done, for the tables of the paper on the mini world
    python tools/ablate.py --suite table2 table3 table4 table5 sound --base mini --dry-run

  do it, each row with three seeds, on a CPU (the data: tools/dataset_converters/mini_world.py --out data/mini)
    python tools/ablate.py --suite table2 table3 table4 table5 sound --base mini --seeds 0 1 2

  one row of one table
    python tools/ablate.py --suite table3 --rows none --base mini

  the same tables on AVSBench-OV, on all GPUs of the machine (its place: --cfg-options, or data/README.md)
    python tools/ablate.py --suite all --base avsbench-ov

  on your own data: rows are deltas on your config
    python tools/ablate.py --suite table3 table4 --base my_configs/mine.py

  a short training, to see whether all rows run
    python tools/ablate.py --suite all --base mini --out work_dirs/short \\
        --cfg-options train_cfg.max_iters=20 default_hooks.logger.interval=5

  only write the tables of what is done
    python tools/ablate.py --suite all --base mini --tables-only
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
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
    add('--suite', nargs='+', required=True, help="tables of configs/ablations/suites.yml, or 'all'")
    add('--rows', nargs='+', metavar='NAME', help='run these rows of the suites (default: all)')
    add('--base', required=True, help='what rows are deltas on: mini, avsbench-ov, or the path of a config')
    add('--seeds', nargs='+', type=int, default=[0], metavar='N', help='runs of each row (default: 0)')
    add('--jobs', type=int, metavar='N', help='side by side (default: one a GPU; without one, 1)')
    add('--out', type=Path, metavar='DIR', help='default: work_dirs/ablate/<base>')
    add('--dry-run', action='store_true', help='print what would be done, and start nothing')
    add('--tables-only', action='store_true', help='write the tables of what is done')
    add(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='change values of all configs, in training and testing: a.b=1',
    )
    args = parser.parse_args(argv)
    if min(args.seeds) < 0:
        parser.error(f'--seeds must be at least 0, got {min(args.seeds)}')
    return args


def main(
    argv: Sequence[str] | None = None,
    configs: Path = CONFIGS,
    mim: Sequence[str] | None = None,
    gpus: Sequence[str] | None = None,
) -> None:
    """Fill tables.

    Args:
        argv: the arguments; None: those of the process.
        configs: folder of the configs, with ``ablations/suites.yml``.
        mim: how mim is called; None: as a module of this Python.
        gpus: to use, as ``CUDA_VISIBLE_DEVICES`` calls them; None: those that are there.
    """
    args = parse_args(argv)
    command = ['ablate.py', *(sys.argv[1:] if argv is None else argv)]
    # Threads that spin long while they wait take busy cores from others; some spinning pays.
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.engine.ablation.run')
    try:
        ablation = prepare(args, command, configs, mim, gpus)
        if args.dry_run:
            print(ablation.describe())
            return
        if args.tables_only:
            ablation.write_tables()
        else:
            code = run(ablation)
        print(f'tables: {ablation.plan.out / "tables.md"}')
    except (FileNotFoundError, ValueError, BlockingIOError) as error:
        sys.exit(f'error: {error}')
    if not args.tables_only:
        sys.exit(code)


def prepare(
    args: argparse.Namespace,
    command: Sequence[str],
    configs: Path,
    mim: Sequence[str] | None,
    gpus: Sequence[str] | None,
) -> object:
    """Plan all that the command line asks for.

    Args:
        args: the command line, read.
        command: the command line, as it was.
        configs: as for :func:`main`.
        mim: as for :func:`main`.
        gpus: as for :func:`main`.

    Returns:
        The :class:`~ovavss_mm.engine.ablation.run.Ablation`.
    """
    from ovavss_mm.engine.ablation.launcher import MIM, Launcher, visible_gpus
    from ovavss_mm.engine.ablation.plan import Plan
    from ovavss_mm.engine.ablation.run import Ablation, machine_words
    from ovavss_mm.engine.ablation.suites import Catalogue

    catalogue = Catalogue(configs / 'ablations' / 'suites.yml', configs)
    base = catalogue.base(args.base)
    suites = catalogue.choose(args.suite)
    out = args.out or Path('work_dirs', 'ablate', base.name)
    plan = Plan(catalogue, suites, base, args.seeds, out, args.rows, args.cfg_options)
    launcher = Launcher(plan, mim or MIM, visible_gpus() if gpus is None else gpus, args.jobs)
    return Ablation(plan, launcher, command, machine_words())


def run(ablation: object) -> int:
    """Run the jobs.

    Args:
        ablation: as :func:`prepare` gives it.

    Returns:
        The exit status.
    """
    from ovavss_mm.engine.ablation.progress import Reporter

    reporter = Reporter(ablation.launcher.jobs)
    code = ablation.run(reporter)
    if code > 1:
        print('stopped; the same command goes on from here')
    elif code:
        print('some jobs failed, see above; the same command tries them again')
    return code


if __name__ == '__main__':
    main()
