# SPDX-License-Identifier: Apache-2.0
"""Make a model in a folder, or a small file of weights, of a trained checkpoint; optimizer and logs are left out.

A folder has all that the model needs, frozen parts (CLIP, VGGish) included, and a model card: see docs/pretrained.md.
Use it as --model of tools/infer.py and tools/web_demo.py and in ovavss_mm.from_pretrained, or upload it to the hub.
A file *.safetensors has the trained weights alone. Use it wherever weights are asked for: --weights, --checkpoint,
load_from, and mmseg's init_model.
"""

import argparse
import json
import os.path as osp
import sys
from typing import Any

EXAMPLES = """examples:
  a folder for others, with the figures of a test; TIME is that of the test
    python tools/model_converters/publish.py ovavss_mini_hearing work_dirs/demo/iter_1200.pth ovavss_mini_hearing \\
        --license apache-2.0 --figures work_dirs/demo/test/TIME/TIME.json --measured-on 'the mini world, test split'

  a folder of a model without trained weights
    python tools/model_converters/publish.py sam4avs_mini none sam4avs

  the mini model that comes with the package
    python tools/model_converters/publish.py ovavss_mini_hearing work_dirs/demo/iter_1200.pth \\
        ovavss_mm/mini_world/ovavss_mini_hearing.safetensors
"""
CARD_OPTIONS = ('license', 'name', 'figures', 'measured_on')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; None: that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config of the model: path, or bare name (ovavss_mini)')
    add('source', help='checkpoint of a training; none: the model has no trained weights')
    add('target', help='new folder, or file *.safetensors; it appears when it is whole')
    add('--dtype', choices=('float16', 'float32'), default='float16', help='of the weights (default: %(default)s)')
    card = parser.add_argument_group('model card', 'of a folder')
    add = card.add_argument
    add('--license', metavar='ID', help='of the weights, as the hub calls it: mit, apache-2.0 .. (default: unknown)')
    add('--name', help='of the model (default: that of the config)')
    add('--figures', metavar='FILE', help='JSON file of measured figures, such as the result of a test')
    add('--measured-on', metavar='TEXT', help='on what they were measured')
    args = parser.parse_args(argv)
    args.to_file = args.target.endswith('.safetensors')
    if osp.splitext(args.target)[1] in ('.pth', '.pt', '.bin', '.ckpt'):
        parser.error(f'the file to write must end in .safetensors, got {args.target}; or name a folder')
    if args.to_file and (given := [key for key in CARD_OPTIONS if getattr(args, key)]):
        parser.error(f'--{given[0].replace("_", "-")} goes with a folder')
    if args.measured_on and not args.figures:
        parser.error('--measured-on goes with --figures')
    return args


def metadata(config: str, checkpoint: dict[str, Any], dtype: str) -> dict[str, Any]:
    """What is worth knowing of the weights: plain values by name."""
    from ovavss_mm.version import __version__

    meta = checkpoint.get('meta') or {}
    known = {key: meta[key] for key in ('iter', 'seed') if isinstance(meta.get(key), int)}
    names = meta.get('dataset_meta') or {}
    if 'classes' in names:  # of closed-set models the names that they know; mmseg's init_model keeps both
        known['dataset_meta'] = {key: names[key] for key in ('classes', 'palette') if key in names}
    return dict(config=osp.basename(config), dtype=dtype, ovavss_mm=__version__, **known)


def write_file(args: argparse.Namespace) -> None:
    """Write a safetensors file of the trained weights."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS
    from safetensors.torch import save_file

    from ovavss_mm.apis import loading
    from ovavss_mm.apis.model_writing import small_weights
    from ovavss_mm.utils.files import atomic_path
    from ovavss_mm.utils.safe_loading import META_KEY

    init_default_scope('mmseg')
    path = loading.find_config(args.config)
    cfg = Config.fromfile(path)
    checkpoint = loading.read_checkpoint(args.source)
    model = MODELS.build(cfg.model)
    loading.load_strictly(model, checkpoint, cfg)
    state = small_weights(dict(model.state_dict()), getattr(torch, args.dtype))  # without what is frozen
    # one entry: of several, safetensors writes now this one first, now that one
    note = json.dumps(metadata(path, checkpoint, args.dtype), sort_keys=True)
    with atomic_path(args.target) as beside:
        save_file(state, beside, metadata={META_KEY: note})
        beside.chmod(0o644)  # safetensors lets nobody else read it
    print(f'{args.target}: {len(state)} tensors, {osp.getsize(args.target) / 1e6:.1f} MB, {note}')


def write_folder(args: argparse.Namespace) -> None:
    """Write a model in a folder."""
    from ovavss_mm.apis import AVSegInferencer
    from ovavss_mm.apis.model_card import UNKNOWN, ModelCard, read_figures
    from ovavss_mm.apis.model_writing import check_target

    check_target(args.target)
    figures = read_figures(args.figures) if args.figures else {}
    card = ModelCard(args.name, args.license or UNKNOWN, figures, args.measured_on)
    weights = None if args.source == 'none' else args.source
    inferencer = AVSegInferencer(args.config, weights, device='cpu', show_progress=False)
    folder = inferencer.save_pretrained(args.target, card, args.dtype)
    for path in sorted(path for path in folder.rglob('*') if path.is_file()):
        print(f'{osp.join(args.target, path.relative_to(folder))}: {path.stat().st_size / 1e6:.1f} MB')


def main(argv: list[str] | None = None) -> None:
    """Write the folder or the file, or say in one line why it cannot be written."""
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.apis')
    try:
        write_file(args) if args.to_file else write_folder(args)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
