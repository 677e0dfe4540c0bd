# SPDX-License-Identifier: Apache-2.0
"""Compare this project with numbers measured from published models.

Weights are drawn by a recipe from the names and shapes in a published checkpoint (a JSON file beside
the fixture), converted as a published checkpoint is, and run on the fixture's inputs. Prints a line
for each output and fails if any bound is passed. What a fixture holds is told by its file's name.
"""

import argparse
import json
import os.path as osp
import re
import sys
import zipfile
from typing import Any

sys.path.insert(0, osp.join(osp.dirname(osp.abspath(__file__)), '..', 'model_converters'))  # released/ and parity/


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; None: that of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('fixture', nargs='+', help='<kind>_seed<n>.npz, inputs and outputs')
    parser.add_argument(
        '--state-dict',
        metavar='JSON',
        help='names and shapes of a published checkpoint (default: that of the kind, such as '
        'state_dict_r50.json, beside the fixture)',
    )
    parser.add_argument('--kind', help='of the fixtures (default: as in their names)')
    return parser.parse_args(argv)


def read_fixture(path: str) -> dict[str, Any]:
    """Read the arrays of an .npz file; ValueError for any other, and for pickled objects."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (EOFError, AttributeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is no .npz file of arrays, or not complete: {error}') from error


def read_shapes(path: str) -> dict[str, list[int]]:
    """Read the names and shapes of a published checkpoint from a JSON file."""
    if not osp.isfile(path):
        raise FileNotFoundError(f'there is no {path}: name the list of names and shapes with --state-dict')
    with open(path, encoding='utf-8') as file:
        try:
            shapes = json.load(file)
        except ValueError as error:
            raise ValueError(f'{path} is no JSON file: {error}') from error
    if not isinstance(shapes, dict) or not all(isinstance(s, list) for s in shapes.values()):
        raise ValueError(f'{path} must be {{name: shape}}')
    return shapes


def check(path: str, state_dict: str | None = None, kind: str | None = None) -> tuple[str, list]:
    """Compare one fixture.

    Args:
        path (str): of the fixture.
        state_dict (str, optional): names and shapes; None: the file of its kind beside the fixture. Defaults to None.
        kind (str, optional): of the fixture; None: its name up to ``_seed``. Defaults to None.

    Returns:
        tuple: Its kind, and a line for each output.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is broken, or names and shapes do not fit the model.
    """
    from ovavss_mm.compat import import_quietly

    for name in ('ovavss_mm.datasets', 'ovavss_mm.models'):
        import_quietly(name)
    import parity

    kind = kind or re.sub(r'(_seed.*)?\.npz$', '', osp.basename(path))
    if kind not in parity.CHECKS:
        known = ', '.join(sorted(parity.CHECKS))
        raise ValueError(f'{kind!r} is no kind of fixture, with --kind name one of {known}')
    chosen, fixture = parity.CHECKS[kind], read_fixture(path)
    if chosen.state_dict is None:
        return kind, chosen.run(fixture)
    beside = osp.join(osp.dirname(osp.abspath(path)), chosen.state_dict)
    return kind, chosen.run(fixture, read_shapes(state_dict or beside))


def main(argv: list[str] | None = None) -> None:
    """Compare fixtures, and fail if one differs."""
    args = parse_args(argv)
    failed = 0
    for path in args.fixture:
        try:
            kind, lines = check(path, args.state_dict, args.kind)
        except KeyError as error:
            sys.exit(f'error: {path}: it has no array {error}')
        except (OSError, ValueError) as error:
            sys.exit(f'error: {path}: {error}')
        print(f'{path}: {kind}')
        for line in lines:
            print(f'  {line}')
        failed += sum(not line.passed for line in lines)
    if failed:
        sys.exit(f'{failed} outputs differ from the published model')
    print('all outputs agree with the published model')


if __name__ == '__main__':
    main()
