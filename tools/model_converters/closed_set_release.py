# SPDX-License-Identifier: Apache-2.0
"""Convert a published checkpoint of TPAVI (ResNet-50 or PVT-v2-B5) or CATR to one of this project.

VGGish is in none of them: its weights come from a file of their own.
"""

import argparse
import os.path as osp
import sys

ROOT = osp.join(osp.dirname(osp.abspath(__file__)), '..', '..')
sys.path.insert(0, osp.dirname(osp.abspath(__file__)))  # the folders beside this script

EXAMPLES = """example:
  python tools/model_converters/closed_set_release.py published.pth data/weights/tpavi_r50_avss.pth
  mim test ovavss_mm tpavi_r50_1xb4-60e_avss.py --checkpoint data/weights/tpavi_r50_avss.pth
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; None: that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help='published checkpoint, {key: tensor}')
    parser.add_argument('target', help='checkpoint to write; it appears only when all is well')
    parser.add_argument('--config', help='config whose model the weights must fit (default: told from the file)')
    parser.add_argument('--verbose', action='store_true', help='also list each key that was mapped, and to what')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Convert a checkpoint, or say why it cannot be converted."""
    args = parse_args(argv)
    from released import checkpoints
    from released.closed_set import VGGISH, classes_of, convert_closed_set, drop_unused, find_config
    from released.keys import report

    from ovavss_mm.models.skeleton import build_skeleton, read_config
    from ovavss_mm.utils.safe_loading import read_state_dict

    try:
        checkpoints.check_output(args.source, args.target)
        state = read_state_dict(args.source)
        path = args.config or osp.join(ROOT, 'configs', find_config(state))
        model = build_skeleton(read_config(path).model)
        conversion = drop_unused(convert_closed_set(checkpoints.check_values(state)), model)
        report(conversion, args.verbose)
        name = osp.basename(path)
        fitted = checkpoints.fit(conversion, model, VGGISH, name)
        meta = dict(source='published closed-set model', config=name, dataset_meta=classes_of(model))
        checkpoints.write_checkpoint(args.target, fitted, meta)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'{args.target}: {len(fitted)} tensors, to be used with {name}')


if __name__ == '__main__':
    main()
