# SPDX-License-Identifier: Apache-2.0
"""Train a model.

Logs, checkpoints and the resolved config go to the work directory. Validation runs as often as the
config says.
"""

import argparse
import contextlib
import os
import sys

from mmengine.config import DictAction

EXAMPLES = """examples:
  the small model, on the mini world, on a CPU, in minutes
    mim run ovavss_mm mini_world --out data/mini
    mim train ovavss_mm ovavss_mini.py

  the same with this script
    python tools/train.py configs/mini/ovavss_mini.py --work-dir work_dirs/mini

  go on after an interruption
    python tools/train.py configs/mini/ovavss_mini.py --work-dir work_dirs/mini --resume

  change values of the config
    python tools/train.py configs/mini/ovavss_mini.py --cfg-options train_cfg.max_iters=500

  a row of an ablation on another base
    mim train ovavss_mm fusion_none.py --base ovavss_mini.py

  four processes with a GPU each
    mim train ovavss_mm CONFIG --launcher pytorch -G 4
"""

# The long name of mim's -G must not occur here: mim hands that option on to a script whose help
# has it.


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
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--base',
        metavar='CONFIG',
        help='config to put in place of the one in _base_: a path, or a file name below configs/',
    )
    parser.add_argument(
        '--work-dir', help='where results go (default: the config says, or work_dirs/<config>[_on_<base>])'
    )
    parser.add_argument('--resume', action='store_true', help='go on from the last checkpoint in the work directory')
    parser.add_argument('--amp', action='store_true', help='mixed precision: bfloat16, on a GPU or CPU')
    parser.add_argument('--deterministic', action='store_true', help='equal seeds give equal checkpoints; slower')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change values of the config: a.b=1, or a.b="[1,2]" for lists',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what starts the processes (default: none, one process)',
    )
    # Launchers of torch before 2.0 write it with an underscore.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train.

    Args:
        argv: the arguments; None: those of the process.
    """
    args = parse_args(argv)
    # Threads that spin long while they wait take busy cores from the loader's workers; some spinning pays.
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    # Imported here, as torch takes seconds and mim asks for the help text before each run.
    from ovavss_mm.compat import import_quietly

    launch = import_quietly('ovavss_mm.engine.launch')
    work_dir = import_quietly('ovavss_mm.engine.work_dir')
    safe_loading = import_quietly('ovavss_mm.utils.safe_loading')
    nonfinite = import_quietly('ovavss_mm.engine.hooks.nonfinite_hook')
    launch.keep_freed_memory()
    launch.set_local_rank(args.local_rank)
    try:
        cfg = launch.load_config(args.config, args.work_dir, args.launcher, args.cfg_options, args.base)
        if args.amp:
            launch.enable_amp(cfg)
        if args.deterministic:
            launch.make_deterministic(cfg)
        resume = args.resume or cfg.get('resume', False)
        launch.choose_start(cfg, resume)
        launch.check_files(cfg, ('train_dataloader', 'val_dataloader'))
        held = contextlib.ExitStack()
        held.enter_context(work_dir.hold_work_dir(cfg.work_dir, args.launcher))
        # Once more: a training that held the folder until just now may have saved another checkpoint.
        launch.choose_start(cfg, resume)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    with held:
        try:
            launch.build_runner(cfg).train()
            launch.leave_group()
        except (safe_loading.CheckpointError, nonfinite.NonFiniteLossError) as error:
            sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
