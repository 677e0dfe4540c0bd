# SPDX-License-Identifier: Apache-2.0
"""Export OV-AVSS: to ONNX, in a folder that every command takes for a model, or to programs of PyTorch.

Three graphs are written: `localize` (frames and sound to masks and sound scores), `name` (masks and text embeddings to
names) and `text` (words to text embeddings), for any number of frames, any size and any names. Afterwards label maps
and time of both are compared. docs/deploy.md describes the graphs.
"""

import argparse
import json
import sys
from pathlib import Path

EXAMPLES = """examples:
  the mini model of the package; the folder is a model for infer.py, web_demo.py and test.py
    python tools/export.py ovavss_mini_hearing ovavss_mm://mini_world/ovavss_mini_hearing.safetensors out/mini_onnx
    python tools/infer.py mini.mp4 --classes red-star blue-disc --model out/mini_onnx --out-dir out

  weights in 8 bits
    python tools/export.py CONFIG CHECKPOINT out/model_int8 --int8

  programs for torch.export.load(PATH).module(check_guards=False)
    python tools/export.py CONFIG CHECKPOINT out/model_pt2 --format torch
"""
LEAST_EQUAL = 0.9999  # share of pixels


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; None: that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config of the model: path, or bare name (ovavss_r50_release); or a folder of a model')
    add('checkpoint', help="its checkpoint; 'none' for a folder, which has its weights")
    add('out', help='folder to write; it appears when it is whole')
    add('--format', choices=('onnx', 'torch'), default='onnx', help='of the graphs (default: onnx)')
    add('--int8', action='store_true', help='weights in 8 bits (onnx only); label maps then differ a little')
    add('--license', metavar='ID', default='unknown', help="of the weights, for the model card, such as 'apache-2.0'")
    add('--no-check', action='store_true', help='do not compare label maps and time with the model afterwards')
    add('--report', metavar='FILE', help='write what was compared as JSON, too')
    args = parser.parse_args(argv)
    if args.int8 and args.format != 'onnx':
        parser.error('--int8 goes with --format onnx')
    return args


def main(argv: list[str] | None = None) -> None:
    """Export, compare, or say in one line why not."""
    args = parse_args(argv)
    # Imported here, as torch takes seconds.
    from ovavss_mm.compat import import_quietly

    apis = import_quietly('ovavss_mm.apis')
    try:
        from exporting import check, folder, programs
    except ImportError as error:
        sys.exit(f"error: {error}: pip install 'ovavss_mm[onnx]'")
    from ovavss_mm.apis.model_card import ModelCard
    from ovavss_mm.apis.model_writing import check_target
    from ovavss_mm.utils.known_weights import package_file

    try:
        check_target(args.out)
        weights = None if args.checkpoint == 'none' else package_file(args.checkpoint)
        inferencer = apis.AVSegInferencer(args.config, weights, 'cpu', show_progress=False)
        print('exporting: one to five minutes', flush=True)
        graphs = programs.make_graphs(inferencer.model)
        if args.format == 'onnx':
            card = ModelCard(name=Path(args.out).name, licence=args.license)
            folder.write_onnx(inferencer, graphs, args.out, card, args.int8)
        else:
            folder.write_torch(graphs, args.out)
        sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(Path(args.out).iterdir())}
        print(f'{args.out}: ' + ', '.join(f'{name} {size:.1f} MB' for name, size in sizes.items() if size > 0.1))
        if args.no_check:
            return
        if args.format == 'onnx':
            exported = check.Subject(apis.AVSegInferencer(args.out, device='cpu').model)
        else:
            exported = check.ProgramSubject(inferencer.model, args.out)
        compare(inferencer, exported, args, sizes)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')


def compare(inferencer: object, exported: object, args: argparse.Namespace, sizes: dict[str, float]) -> None:
    """Compare label maps and time with the model, and print both; end with an error where label maps differ."""
    from exporting import check

    print('frames         equal pixels  labelled')
    rows = []
    for row in check.compare(inferencer, exported):
        rows.append(row)
        height, width, frames = row.size
        print(f'{frames} x {height:3d} x {width:3d}  {row.equal:11.3%}  {row.labelled:8.1%}', flush=True)
    height, width, frames = check.TIMED
    print(f'{frames} frames of {height} x {width}, model and exported in turn:')
    speeds = check.measure(inferencer, exported)
    for speed in speeds:
        median, least, most = speed.ratio()
        both = ' s, '.join(f'{min(times):.2f}' for times in (speed.eager, speed.exported))
        print(f'  {speed.part}: {both} s; {median:.2f} times as fast ({least:.2f} to {most:.2f})')
    if args.report:
        told = dict(megabytes=sizes, equality=[row._asdict() for row in rows], speed=[s._asdict() for s in speeds])
        Path(args.report).write_text(json.dumps(told, indent=2) + '\n')
    worst = min(row.equal for row in rows)
    if worst < LEAST_EQUAL and not args.int8:
        sys.exit(f'error: label maps differ in {1 - worst:.3%} of the pixels of a clip; {args.out} is kept')


if __name__ == '__main__':
    main()
