# SPDX-License-Identifier: Apache-2.0
"""Convert a published checkpoint of OV-AVSS (ResNet-50 or Swin-B) or OpenVIS to one of this project.

The frozen VGGish and CLIP in it are converted with it: the result needs no other file. Use it with
configs/ovavss/ovavss_r50_release.py, configs/ovavss/ovavss_swin-b_release.py or
configs/openvis/openvis_r50_clip-vit-b32_1xb1-82k_avsbench-ov.py.
"""

import argparse
import os.path as osp
import sys
from typing import Any

ROOT = osp.join(osp.dirname(osp.abspath(__file__)), '..', '..')
sys.path.insert(0, osp.dirname(osp.abspath(__file__)))  # the folders beside this script

EXAMPLES = """example:
  python tools/model_converters/ovavss_release.py published.pth data/weights/ovavss_r50_release.pth
  mim test ovavss_mm ovavss_r50_release.py --checkpoint data/weights/ovavss_r50_release.pth
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; None: that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help="published checkpoint, {'model': {key: tensor}}")
    parser.add_argument('target', help='checkpoint to write; it appears only when all is well')
    parser.add_argument(
        '--config',
        help='config whose model the weights must fit (default: the release config of the backbone '
        'in the file, with the CLIP in the file)',
    )
    parser.add_argument('--verbose', action='store_true', help='also list each key that was mapped, and to what')
    return parser.parse_args(argv)


def load_model(path: str | None, state: dict) -> tuple[Any, str, dict]:
    """Build the model that the weights must fit, without memory for its weights.

    Args:
        path (str, optional): of the config; None: that of the system and backbone in the file, with the file's own
            CLIP, and OpenVIS with as many decoder layers as are in the file.
        state (dict[str, Tensor]): published names to tensors.

    Returns:
        tuple: the model, the name of the config, and its CLIP.
    """
    from released.checkpoints import clip_config, decoder_layers, find_config

    from ovavss_mm.models.skeleton import build_skeleton, read_config

    name = path or osp.join(ROOT, 'configs', find_config(state))
    config = read_config(name).model
    model, clip, own = build_skeleton(config), clip_config(state), {}
    if path is None and clip != clip_config(model.state_dict(), 'classifier.clip_model.'):
        own['classifier.clip_model'] = config.classifier.clip_model = clip
    layers, decoder = decoder_layers(state), config.decode_head.transformer_decoder
    if path is None and config.audio_encoder is None and layers != decoder.num_layers:
        own['decode_head.transformer_decoder.num_layers'] = decoder.num_layers = layers
    if own:
        print(f'note: the model in the file is not quite that of {osp.basename(name)}; to load it, set')
        for key, value in own.items():
            print(f'  model.{key}={value}')
        model = build_skeleton(config)
    return model, osp.basename(name), clip


def main(argv: list[str] | None = None) -> None:
    """Convert a checkpoint, or say why it cannot be converted."""
    args = parse_args(argv)
    from released import checkpoints
    from released.keys import convert, report

    from ovavss_mm.utils.safe_loading import read_state_dict

    try:
        checkpoints.check_output(args.source, args.target)
        state = read_state_dict(args.source)
        backbone = checkpoints.find_backbone(state)
        conversion = convert(checkpoints.check_values(state, convert(state).dropped))
        report(conversion, args.verbose)
        model, name, clip = load_model(args.config, state)
        fitted = checkpoints.fit(conversion, model, what=name)
        source = 'OpenVIS' if model.audio_encoder is None else 'OV-AVSS'
        meta = dict(source=f'published {source}', backbone=backbone, config=name, clip=clip)
        checkpoints.write_checkpoint(args.target, fitted, meta)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'{args.target}: {len(fitted)} tensors, to be used with {name}')


if __name__ == '__main__':
    main()
