# SPDX-License-Identifier: Apache-2.0
"""Draw the confusion matrix of a test, base and novel names apart, and the IoU of each name.

Every test (and validation) leaves `confusion.json` beside its log. The argument is that file, or a
work dir, whose newest run counts. Two pictures are written beside the file, or into --out-dir:
`confusion_matrix.png` and `class_iou.png`.

Example:
  python tools/analysis_tools/confusion.py work_dirs/demo/test
"""

import argparse
import os
import sys
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The arguments, by name.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', metavar='WORK_DIR_OR_FILE', help='work dir of a test, or its file')
    parser.add_argument('--out-dir', type=Path, metavar='DIR', help='where the pictures go (default: beside it)')
    parser.add_argument('--title', default='', help='written on both pictures')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Draw both pictures and print the most frequent confusions."""
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly

    files = import_quietly('ovavss_mm.evaluation.confusion')
    figures = import_quietly('ovavss_mm.visualization.confusion')
    try:
        path = files.newest_confusion(args.run)
        confusion = files.read_confusion(path)
        pictures = {
            'confusion_matrix.png': figures.draw_confusion(confusion, args.title),
            'class_iou.png': figures.draw_class_iou(confusion, args.title),
        }
        out_dir = args.out_dir or Path(path).parent
        out_dir.mkdir(parents=True, exist_ok=True)
        for name, figure in pictures.items():
            save(figure, out_dir / name)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'from {path}: {confusion.counts.sum():,} pixels')
    for name in pictures:
        print(f'wrote {out_dir / name}')
    print('most often taken for another name (percent of its pixels):')
    for true, predicted, share in figures.most_confused(confusion):
        print(f'  {true} as {predicted}: {share:.1f}')


def save(figure: object, path: Path) -> None:
    """Write a figure whole: under another name first, then moved into place."""
    beside = path.with_name(f'{path.stem}.{os.getpid()}.tmp{path.suffix}')
    figure.savefig(beside)
    os.replace(beside, path)


if __name__ == '__main__':
    main()
