# SPDX-License-Identifier: Apache-2.0
"""Compare tests side by side, such as with the right and with another clip's sound.

Each argument is a work dir of `mim test` (its newest result counts) or the JSON file of one test. The first
is what the others are compared with.

Example:
  python tools/analysis_tools/compare_tests.py work_dirs/demo/test work_dirs/demo/test_swapped-sound
"""

import argparse
import json
import sys
from pathlib import Path

from prettytable import PrettyTable

FIGURES = ('base_mIoU', 'novel_mIoU', 'harmonic_mIoU', 'mIoU')
HEADINGS = ('Base', 'Novel', 'Harmonic', 'mIoU')


def read_figures(path: Path) -> dict[str, float]:
    """Figures of a test, in percent.

    Args:
        path (Path): a JSON file that the metric left, or a folder whose newest one counts.

    Returns:
        dict[str, float]: Names to figures.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no result of a test.
    """
    if path.is_dir():
        files = [file for file in path.glob('*/*.json') if file.stem == file.parent.name]
        if not files:
            raise FileNotFoundError(f'{path} has no results of a test: run mim test with --work-dir {path}')
        path = max(files)  # folders are named after the time
    try:
        figures = json.loads(path.read_text())
        return {name: figures[name] for name in FIGURES}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f'{path} holds no figures of a test ({error})') from error


def compare(names: list[str], tests: list[dict[str, float]]) -> PrettyTable:
    """A row a test, and what is lost of the first one's harmonic mean."""
    table = PrettyTable(['test', *HEADINGS, 'of the harmonic mIoU lost'])
    table.align['test'] = 'l'
    whole = tests[0]['harmonic_mIoU']
    for index, (name, figures) in enumerate(zip(names, tests, strict=True)):
        lost = f'{100 * (1 - figures["harmonic_mIoU"] / whole):.0f} %' if index and whole else ''
        table.add_row([name, *[f'{figures[key]:.2f}' for key in FIGURES], lost])
    return table


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('tests', nargs='+', type=Path, metavar='TEST', help='work dir or JSON file of a test')
    args = parser.parse_args(argv)
    try:
        tests = [read_figures(path) for path in args.tests]
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(compare([path.name for path in args.tests], tests))


if __name__ == '__main__':
    main()
