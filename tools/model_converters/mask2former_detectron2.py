# SPDX-License-Identifier: Apache-2.0
"""Convert Mask2Former trained on COCO instances (detectron2 pickle) to initial weights.

The main configs start from the result (load_from). What Mask2Former does not have keeps the initial
values of the model. The pickle is read without running what it may ask for.
"""

import argparse
import os.path as osp
import re
import sys
from typing import Any

ROOT = osp.join(osp.dirname(osp.abspath(__file__)), '..', '..')
sys.path.insert(0, osp.dirname(osp.abspath(__file__)))  # the folders beside this script

CONFIGS = {'r50': 'configs/_base_/models/ovavss_r50.py', 'swin-b': 'configs/_base_/models/ovavss_swin-b.py'}
NOT_NEEDED = (r'sem_seg_head\.predictor\.class_embed\.(weight|bias)', 'COCO classes: the sound head is fresh')
_DECODER = r'decode_head\.transformer_decoder\.'
# Our names of what Mask2Former does not have: they keep their initial values.
FRESH = {
    r'neck\.fusion\.': 'early fusion of sound and sight',
    r'decode_head\.sound_head\.': 'sound head',
    r'decode_head\.audio_(proj|embed)\.': 'projection and positions of the audio',
    _DECODER + r'layers\.\d+\.audio_attn\.': 'attention of queries to audio',
    _DECODER + r'audio_prompt\.': 'attention to the audio before the layers',
    r'audio_encoder\.': 'frozen, from a file of its own',
    r'classifier\.': 'frozen, from a file of its own',
}
EXAMPLES = """examples:
  python tools/model_converters/mask2former_detectron2.py \\
      data/weights/model_final_3c8ec9.pkl data/weights/mask2former_r50_coco.pth
  python tools/model_converters/mask2former_detectron2.py \\
      data/weights/model_final_83d103.pkl data/weights/mask2former_swin-b_coco.pth
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; None: that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help="pickle of {'model': {key: array}}")
    parser.add_argument('target', help='checkpoint to write; it appears only when all is well')
    parser.add_argument('--config', help='config to fit (default: that of the backbone in the file)')
    parser.add_argument('--verbose', action='store_true', help='list every key')
    return parser.parse_args(argv)


def rename_first_versions(state: dict[str, Any]) -> dict[str, Any]:
    """Put the pixel decoder where later versions have it; the first had it directly in the head."""
    old, new = r'^sem_seg_head\.(?!pixel_decoder\.|predictor\.)', 'sem_seg_head.pixel_decoder.'
    return {re.sub(old, new, key): value for key, value in state.items()}


def fresh_keys(missing: list[str]) -> dict[str, list[str]]:
    """Sort our names that keep their initial values by what they are for."""
    groups: dict[str, list[str]] = {}
    for key in missing:
        why = (why for pattern, why in FRESH.items() if re.match(pattern, key))
        groups.setdefault(next(why, 'not in the file'), []).append(key)
    return groups


def report(conversion: Any, fresh: dict[str, list[str]], verbose: bool) -> None:
    """Print what is loaded and what stays fresh."""
    print(f'loaded: {len(conversion.mapped)} keys')
    for key, name in conversion.mapped.items() if verbose else ():
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
    """Convert a pickle, or say why it cannot be converted."""
    args = parse_args(argv)
    from released import checkpoints
    from released.keys import DROPPED, convert

    from ovavss_mm.models.skeleton import build_skeleton, read_config
    from ovavss_mm.utils.safe_loading import read_state_dict

    not_needed = [NOT_NEEDED, *DROPPED]
    try:
        checkpoints.check_output(args.source, args.target)
        state = rename_first_versions(read_state_dict(args.source))
        backbone = checkpoints.find_backbone(state)
        path = args.config or osp.join(ROOT, CONFIGS[backbone])
        dropped = convert(state, not_needed).dropped
        conversion = convert(checkpoints.check_values(state, dropped), not_needed)
        model = build_skeleton(read_config(path).model)
        fitted = checkpoints.fit(conversion, model, tuple(FRESH), osp.basename(path))
        fresh = fresh_keys([key for key in model.state_dict() if key not in fitted])
        meta = dict(source='Mask2Former on COCO', backbone=backbone, ovavss_init=True)
        checkpoints.write_checkpoint(args.target, fitted, meta)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    report(conversion, fresh, args.verbose)
    print(f'{args.target}: {len(fitted)} tensors, for load_from')


if __name__ == '__main__':
    main()
