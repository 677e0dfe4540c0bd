# SPDX-License-Identifier: Apache-2.0
"""Test a model: base, novel and harmonic mIoU, and if wanted its predictions and pictures.

The vocabulary comes from the data set: names never seen in training are fine.
"""

import argparse
import os
import sys

from mmengine.config import Config

from ovavss_mm.utils.command_line import add_run_arguments

EXAMPLES = """examples:
  a model trained on the mini world
    mim test ovavss_mm ovavss_mini.py --checkpoint work_dirs/ovavss_mini/iter_1200.pth

  the same with this script
    python tools/test.py configs/mini/ovavss_mini.py work_dirs/ovavss_mini/iter_1200.pth

  the label maps as PNG files, and sheets with frames, truth and prediction
    python tools/test.py CONFIG CHECKPOINT --out results/labels --show-dir results/pictures

  a row of an ablation on the base that it was trained on
    mim test ovavss_mm fusion_none.py --base ovavss_mini.py --checkpoint CHECKPOINT

  a model in a folder, exported ones too, on the data and with the frame size of a config
    python tools/test.py CONFIG FOLDER

  other names, or the validation split
    python tools/test.py CONFIG CHECKPOINT --cfg-options test_dataloader.dataset.split=val
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line: ``argv``, or the arguments of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config file')
    kept = "checkpoint file or URL; 'none' for a model that is not trained, such as Sam4AVS; or a folder of a model"
    add('checkpoint', help=kept)
    add('--out', metavar='DIR', help='save the predicted label maps there, as PNG')
    add('--show', action='store_true', help='show the pictures in a window')
    add('--show-dir', metavar='DIR', help='save the pictures there')
    add('--wait-time', type=float, default=2, help='seconds a window stays (default: 2)')
    add_run_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Test with the arguments ``argv``, or those of the process."""
    args = parse_args(argv)
    # Threads that spin long while they wait take busy cores from the loader's workers; some spinning pays.
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    # Imported here, as torch takes seconds.
    from ovavss_mm.compat import import_quietly

    launch = import_quietly('ovavss_mm.engine.launch')
    from ovavss_mm.engine.runner import leave_group
    from ovavss_mm.utils.config_check import ConfigError
    from ovavss_mm.utils.products import choose_product_library
    from ovavss_mm.utils.safe_loading import CheckpointError

    launch.keep_freed_memory()
    choose_product_library()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    try:
        cfg = launch.load_config(args.config, args.work_dir, args.launcher, args.cfg_options, args.base)
        cfg.load_from = None if args.checkpoint == 'none' else args.checkpoint
        if os.path.isdir(args.checkpoint):
            take_folder(cfg, args.checkpoint)
        cfg.resume = False
        if args.amp:
            launch.enable_amp(cfg)
        if args.show or args.show_dir:
            launch.enable_pictures(cfg, args.show, args.wait_time, args.show_dir)
        if args.out:
            launch.save_predictions(cfg, args.out)
        launch.check_files(cfg, ('test_dataloader',))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    try:
        launch.build_runner(cfg).test()
        leave_group()
    except (CheckpointError, ConfigError) as error:
        sys.exit(f'error: {error}')


def take_folder(cfg: Config, path: str) -> None:
    """Put the model of a folder in the place of a config's; the rest of the config stays."""
    from ovavss_mm.compat import import_quietly

    folder = import_quietly('ovavss_mm.apis.model_folder').read_model_folder(path)
    cfg.model, cfg.load_from = folder.cfg.model, folder.weights and str(folder.weights)
    if folder.prompt_templates and 'classifier' in cfg.model:
        cfg.model.classifier.templates = folder.prompt_templates


if __name__ == '__main__':
    main()
