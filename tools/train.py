# SPDX-License-Identifier: Apache-2.0
"""Train a model.

Logs, checkpoints and the resolved config go to the work directory. Validation runs as often as the
config says.
"""

import argparse
import contextlib
import os
import sys

from ovavss_mm.utils.command_line import add_run_arguments

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

# The long name of mim's -G must not occur here: mim hands that option on to a script whose help has it.


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line: ``argv``, or the arguments of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config file')
    add('--resume', action='store_true', help='go on from the last checkpoint in the work directory')
    add('--deterministic', action='store_true', help='equal seeds give equal checkpoints; slower')
    add_run_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train with the arguments ``argv``, or those of the process."""
    args = parse_args(argv)
    # Threads that spin long while they wait take busy cores from the loader's workers; some spinning pays.
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    # Imported here, as torch takes seconds and mim asks for the help text before each run.
    from ovavss_mm.compat import import_quietly

    launch = import_quietly('ovavss_mm.engine.launch')
    from ovavss_mm.engine.hooks import NonFiniteLossError
    from ovavss_mm.engine.runner import leave_group
    from ovavss_mm.utils.config_check import ConfigError
    from ovavss_mm.utils.products import choose_product_library
    from ovavss_mm.utils.safe_loading import CheckpointError

    launch.keep_freed_memory()
    choose_product_library()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
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
        held.enter_context(launch.hold_work_dir(cfg.work_dir, args.launcher))
        # Once more: a training that held the folder until just now may have saved another checkpoint.
        launch.choose_start(cfg, resume)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    with held:
        try:
            launch.build_runner(cfg).train()
            leave_group()
        except (CheckpointError, ConfigError, NonFiniteLossError) as error:
            sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
