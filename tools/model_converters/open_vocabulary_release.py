# SPDX-License-Identifier: Apache-2.0
"""Convert a published checkpoint of OV2Seg or CLIP-VIS to one of this project.

CLIP-VIS has its frozen CLIP in it: the result needs no other file. OV2Seg has none: the text tower's weights come from
a file of their own.
"""

import argparse
import os.path as osp
import sys
from typing import Any

ROOT = osp.join(osp.dirname(osp.abspath(__file__)), '..', '..')
sys.path.insert(0, osp.dirname(osp.abspath(__file__)))  # the folders beside this script

EXAMPLES = """example:
  python tools/model_converters/open_vocabulary_release.py published.pth data/weights/clip-vis_rn50_release.pth
  mim test ovavss_mm clip-vis_rn50_1xb1-82k_avsbench-ov.py --checkpoint data/weights/clip-vis_rn50_release.pth
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; None: that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help="published checkpoint, {'model': {key: tensor}}")
    parser.add_argument('target', help='checkpoint to write; it appears only when all is well')
    parser.add_argument('--config', help='config whose model the weights must fit (default: told from the file)')
    parser.add_argument('--verbose', action='store_true', help='also list each key that was mapped, and to what')
    return parser.parse_args(argv)


def load_model(path: str | None, state: dict, name: str) -> tuple[Any, str]:
    """Build the model that the weights must fit, without memory for its weights.

    Args:
        path (str, optional): of the config; None: that of the system, with as many decoder layers and the CLIP that
            are in the file.
        state (dict[str, Tensor]): published names to tensors.
        name (str): of the system.

    Returns:
        tuple: the model, and the name of the config.
    """
    from released.checkpoints import clip_config, decoder_layers
    from released.open_vocabulary import SYSTEMS

    from ovavss_mm.models.skeleton import build_skeleton, read_config

    system = SYSTEMS[name]
    config_path = path or osp.join(ROOT, 'configs', system.config)
    config, own = read_config(config_path).model, {}
    layers, decoder = decoder_layers(state), config.decode_head.transformer_decoder
    if path is None and layers != decoder.num_layers:
        own['decode_head.transformer_decoder.num_layers'] = decoder.num_layers = layers
    if path is None and system.clip:
        clip, ours = clip_config(state, system.clip), build_skeleton(config).state_dict()
        ours = {k.removeprefix('backbone.').removeprefix('classifier.clip_model.'): v for k, v in ours.items()}
        if clip != clip_config(ours, ''):
            for part in ('backbone', 'classifier'):
                own[f'{part}.clip_model'] = config[part].clip_model = clip
    if own:
        print(f'note: the model in the file is not quite that of {osp.basename(config_path)}; to load it, set')
        for key, value in own.items():
            print(f'  model.{key}={value}')
    return build_skeleton(config), osp.basename(config_path)


def main(argv: list[str] | None = None) -> None:
    """Convert a checkpoint, or say why it cannot be converted."""
    args = parse_args(argv)
    from released import checkpoints
    from released.keys import report
    from released.open_vocabulary import SYSTEMS, convert_open_vocabulary, find_system

    from ovavss_mm.utils.safe_loading import read_state_dict

    try:
        checkpoints.check_output(args.source, args.target)
        state = read_state_dict(args.source)
        system = find_system(state)
        dropped = convert_open_vocabulary(state).dropped
        conversion = convert_open_vocabulary(checkpoints.check_values(state, dropped))
        report(conversion, args.verbose)
        model, name = load_model(args.config, state, system)
        fitted = checkpoints.fit(conversion, model, SYSTEMS[system].fresh, name)
        checkpoints.write_checkpoint(args.target, fitted, dict(source=f'published {system}', config=name))
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'{args.target}: {len(fitted)} tensors, to be used with {name}')


if __name__ == '__main__':
    main()
