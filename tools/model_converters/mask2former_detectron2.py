# SPDX-License-Identifier: Apache-2.0
"""Convert Mask2Former trained on COCO instances (detectron2 pickle) to initial weights.

The main configs start from the result (load_from). What Mask2Former does not have keeps the initial
values of the model. The pickle is read without running what it may ask for.
"""

import argparse
import os.path as osp
import sys

ROOT = osp.join(osp.dirname(osp.abspath(__file__)), '..', '..')

try:
    import ovavss_mm  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != 'ovavss_mm':
        raise
    sys.path.insert(0, ROOT)  # run from a checkout in which the package is not installed

CONFIGS = {
    'r50': 'configs/_base_/models/ovavss_r50.py',
    'swin-b': 'configs/_base_/models/ovavss_swin-b.py',
}
EXAMPLES = """examples:
  python tools/model_converters/mask2former_detectron2.py \\
      data/weights/model_final_3c8ec9.pkl data/weights/mask2former_r50_coco.pth
  python tools/model_converters/mask2former_detectron2.py \\
      data/weights/model_final_83d103.pkl data/weights/mask2former_swin-b_coco.pth
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
    parser.add_argument('source', help="pickle of {'model': {key: array}}")
    parser.add_argument('target', help='checkpoint to write; it appears only when all is well')
    parser.add_argument(
        '--config', help='config to fit (default: that of the backbone in the file)'
    )
    parser.add_argument('--verbose', action='store_true', help='list every key')
    return parser.parse_args(argv)


def report(conversion: object, fresh: dict[str, list[str]], verbose: bool) -> None:
    """Print what is loaded and what stays fresh.

    Args:
        conversion: the account of the conversion.
        fresh: purpose to the names of weights that keep their initial values.
        verbose: whether every key is listed.
    """
    print(f'loaded: {len(conversion.mapped)} keys')
    if verbose:
        for key, name in conversion.mapped.items():
            print(f'  {key} -> {name}')
    print(f'left out: {len(conversion.dropped)} keys')
    for key, why in conversion.dropped.items():
        print(f'  {key}: {why}')
    print(f'fresh, as initialised: {sum(map(len, fresh.values()))} keys')
    for why, keys in fresh.items():
        print(f'  {len(keys)} of the {why}' if 'frozen' not in why else f'  {len(keys)} {why}')
        for key in keys if verbose else ():
            print(f'    {key}')


def main(argv: list[str] | None = None) -> None:
    """Convert a pickle, or say in one line why it cannot be converted.

    Args:
        argv: the arguments; None: those of the process.
    """
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.models')
    from ovavss_mm.models.released import checkpoints, coco
    from ovavss_mm.models.released.skeleton import build_skeleton, read_config

    try:
        checkpoints.check_output(args.source, args.target)
        state = coco.read_coco(args.source)
        backbone = checkpoints.find_backbone(state)
        path = args.config or osp.join(ROOT, CONFIGS[backbone])
        dropped = coco.convert_coco(state).dropped
        conversion = coco.convert_coco(checkpoints.check_values(state, dropped))
        model = build_skeleton(read_config(path).model)
        fitted = checkpoints.fit(conversion, model, tuple(coco.FRESH), osp.basename(path))
        fresh = coco.fresh_keys([key for key in model.state_dict() if key not in fitted])
        meta = dict(source='Mask2Former on COCO', backbone=backbone, ovavss_init=True)
        checkpoints.write_checkpoint(args.target, fitted, meta)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    report(conversion, fresh, args.verbose)
    print(f'{args.target}: {len(fitted)} tensors, for load_from')


if __name__ == '__main__':
    main()
