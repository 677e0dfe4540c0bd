# SPDX-License-Identifier: Apache-2.0
"""Convert a published checkpoint of GAVS, or SAM's own weights, to what this project reads.

Of GAVS it makes a checkpoint; of SAM (ViT-B, ViT-L or ViT-H of segment-anything) a folder in the format of the library
transformers, for the init_cfg of a model. VGGish is in neither: its weights come from a file of their own.
"""

import argparse
import os.path as osp
import sys

ROOT = osp.join(osp.dirname(osp.abspath(__file__)), '..', '..')
sys.path.insert(0, osp.dirname(osp.abspath(__file__)))  # the folders beside this script

EXAMPLES = """examples:
  python tools/model_converters/gavs_release.py sam_vit_b_01ec64.pth data/weights/sam-vit-base
  mim train ovavss_mm gavs_sam-vit-b_1xb1-60e_s4.py --cfg-options model.init_cfg.checkpoint=data/weights/sam-vit-base
  python tools/model_converters/gavs_release.py published.pth data/weights/gavs_s4.pth
  mim test ovavss_mm gavs_sam-vit-b_release.py --checkpoint data/weights/gavs_s4.pth
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; None: that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help='published checkpoint, {key: tensor}')
    parser.add_argument('target', help='of GAVS the checkpoint to write, of SAM the folder; neither may be there yet')
    parser.add_argument(
        '--config',
        default=osp.join(ROOT, 'configs/gavs/gavs_sam-vit-b_release.py'),
        help='of GAVS, the config whose model the weights must fit (default: gavs_sam-vit-b_release.py)',
    )
    parser.add_argument('--verbose', action='store_true', help='also list each key that was mapped, and to what')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Convert a checkpoint, or say why it cannot be converted."""
    args = parse_args(argv)
    from released import checkpoints
    from released.gavs import convert_sam, is_gavs, sam_config
    from released.keys import report

    from ovavss_mm.utils.safe_loading import read_state_dict

    try:
        checkpoints.check_output(args.source, args.target)
        state = checkpoints.check_values(read_state_dict(args.source))
        conversion = convert_sam(state)
        report(conversion, args.verbose)
        if is_gavs(state):
            told = write_gavs(conversion, args.config, args.target)
        else:
            told = write_sam(conversion, sam_config(state), args.target)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'{args.target}: {told}')


def write_gavs(conversion: tuple, path: str, target: str) -> str:
    """Write a checkpoint of GAVS, and say what it is."""
    from released import checkpoints
    from released.closed_set import VGGISH

    from ovavss_mm.datasets.avsbench_tasks import SOUNDING
    from ovavss_mm.datasets.vocabulary import BACKGROUND
    from ovavss_mm.models.skeleton import build_skeleton, read_config

    name = osp.basename(path)
    fitted = checkpoints.fit(conversion, build_skeleton(read_config(path).model), VGGISH, name)
    meta = dict(source='published GAVS', config=name, dataset_meta=dict(classes=(BACKGROUND, SOUNDING)))
    checkpoints.write_checkpoint(target, fitted, meta)
    return f'{len(fitted)} tensors, to be used with {name}'


def write_sam(conversion: tuple, config: dict, target: str) -> str:
    """Write SAM's weights as a folder of transformers, and say what it is."""
    import torch
    from released import checkpoints

    from ovavss_mm.models.foundation.base import build_model

    with torch.device('meta'):
        model = build_model('SamModel', config)
    model.load_state_dict(checkpoints.fit(conversion, model, what='SamModel'), assign=True)
    model.tie_weights()
    model.save_pretrained(target)
    side = config['vision_config']['hidden_size']
    return f'{len(conversion.mapped)} tensors of a SAM of {side} channels, for init_cfg'


if __name__ == '__main__':
    main()
