# SPDX-License-Identifier: Apache-2.0
"""Make a small file of a trained checkpoint: float16 weights in a safetensors file, and nothing else.

Optimizer, logs and frozen parts (CLIP), which have a file of their own, are left out. Use the result wherever weights
are asked for: --weights, --checkpoint, load_from, and mmseg's init_model.
"""

import argparse
import json
import os.path as osp
import sys
from typing import Any

EXAMPLES = """example: the mini model that comes with the package
  python tools/model_converters/publish.py ovavss_mini_hearing work_dirs/demo/iter_1200.pth \\
      ovavss_mm/mini_world/ovavss_mini_hearing.safetensors
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; None: that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of the model: path, or bare name (ovavss_mini)')
    parser.add_argument('source', help='checkpoint of a training')
    parser.add_argument('target', help='file to write, *.safetensors; it appears when it is whole')
    args = parser.parse_args(argv)
    if not args.target.endswith('.safetensors'):
        parser.error(f'the file to write must end in .safetensors, got {args.target}')
    return args


def small_weights(state: dict[str, Any]) -> dict[str, Any]:
    """Weights in half precision, which share no memory; counters stay as they are.

    Raises:
        ValueError: a value is not finite, or too large for float16.
    """
    out = {}
    for key, value in state.items():
        small = value.half() if value.is_floating_point() else value
        if not small.isfinite().all():
            raise ValueError(f'{key} {tuple(value.shape)} has values that float16 cannot hold')
        out[key] = small.clone().contiguous()
    return out


def metadata(config: str, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What is worth knowing of the weights: plain values by name."""
    from ovavss_mm.version import __version__

    meta = checkpoint.get('meta') or {}
    known = {key: meta[key] for key in ('iter', 'seed') if isinstance(meta.get(key), int)}
    names = meta.get('dataset_meta') or {}
    if 'classes' in names:  # of closed-set models the names that they know; mmseg's init_model keeps both
        known['dataset_meta'] = {key: names[key] for key in ('classes', 'palette') if key in names}
    return dict(config=osp.basename(config), dtype='float16', ovavss_mm=__version__, **known)


def main(argv: list[str] | None = None) -> None:
    """Write the small file, or say in one line why it cannot be written."""
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly

    loading = import_quietly('ovavss_mm.apis.loading')
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS
    from safetensors.torch import save_file

    from ovavss_mm.utils.files import atomic_path
    from ovavss_mm.utils.safe_loading import META_KEY

    init_default_scope('mmseg')
    try:
        path = loading.find_config(args.config)
        cfg = Config.fromfile(path)
        checkpoint = loading.read_checkpoint(args.source)
        model = MODELS.build(cfg.model)
        loading.load_strictly(model, checkpoint, cfg)
        state = small_weights(dict(model.state_dict()))  # without what is frozen
        # one entry: of several, safetensors writes now this one first, now that one
        note = json.dumps(metadata(path, checkpoint), sort_keys=True)
        with atomic_path(args.target) as beside:
            save_file(state, beside, metadata={META_KEY: note})
            beside.chmod(0o644)  # safetensors lets nobody else read it
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    size = osp.getsize(args.target) / 1e6
    print(f'{args.target}: {len(state)} tensors, {size:.1f} MB, {note}')


if __name__ == '__main__':
    main()
