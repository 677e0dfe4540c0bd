# SPDX-License-Identifier: Apache-2.0
"""Compare this project with numbers measured from the published model.

Weights are drawn by a recipe from the names and shapes in a published checkpoint (a JSON file
beside the fixture), converted as a published checkpoint is, and run on the fixture's inputs. Prints
a line for each output and fails if any bound is passed. The kind of a fixture (network, CLIP, end
to end, loss, metric) is told from its arrays.
"""

import argparse
import json
import os.path as osp
import sys
from typing import Any

ROOT = osp.join(osp.dirname(osp.abspath(__file__)), '..', '..')

try:
    import ovavss_mm  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != 'ovavss_mm':
        raise
    sys.path.insert(0, ROOT)  # run from a checkout in which the package is not installed

# Backbone -> how files name it.
BACKBONES = {'r50': 'r50', 'swin-b': 'swinb'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The arguments, by name.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('fixture', nargs='+', help='.npz files of inputs and outputs')
    parser.add_argument(
        '--state-dict',
        metavar='JSON',
        help='names and shapes of a published checkpoint (default: state_dict_r50.json or '
        'state_dict_swinb.json beside the fixture)',
    )
    parser.add_argument(
        '--backbone',
        choices=list(BACKBONES),
        help='of the network (default: as in the name of the JSON file or of the fixture, else the '
        'one that fits)',
    )
    parser.add_argument(
        '--map-size',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        default=(8, 12),
        help='size of the predictions behind a loss fixture, which does not hold it '
        '(default: 8 12)',
    )
    return parser.parse_args(argv)


def read_fixture(path: str) -> dict:
    """Read the arrays of a fixture; no pickled objects.

    Args:
        path: of the .npz file.

    Returns:
        Names to arrays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an .npz file of plain arrays.
    """
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (EOFError, AttributeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is no .npz file of arrays, or not complete: {error}') from error


def find_backbones(fixture: str, state_dict: str | None, given: str | None) -> list[str]:
    """Tell the backbone: as given, or as a file's name has it.

    Args:
        fixture: path of the fixture.
        state_dict: path of the JSON file, or None.
        given: on the command line, or None.

    Returns:
        A key of :data:`BACKBONES`, or all of them if nothing tells.
    """
    for name in (given, osp.basename(state_dict or ''), osp.basename(fixture)):
        found = [key for key, word in BACKBONES.items() if name and (word in name or key in name)]
        if len(found) == 1:
            return found
    return list(BACKBONES)


def read_shapes(fixture: str, state_dict: str | None, backbone: str) -> dict[str, list[int]]:
    """Read the names and shapes of a published checkpoint.

    Args:
        fixture: path of the fixture.
        state_dict: path of the JSON file; None: beside the fixture.
        backbone: a key of :data:`BACKBONES`.

    Returns:
        Published names to shapes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    path = state_dict or osp.join(
        osp.dirname(osp.abspath(fixture)), f'state_dict_{BACKBONES[backbone]}.json'
    )
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'there is no {path}: name the list of names and shapes with --state-dict'
        )
    with open(path, encoding='utf-8') as file:
        try:
            shapes = json.load(file)
        except ValueError as error:
            raise ValueError(f'{path} is no JSON file: {error}') from error
    if not isinstance(shapes, dict) or not all(isinstance(s, list) for s in shapes.values()):
        raise ValueError(f'{path} must be {{name: shape}}')
    return shapes


def check(path: str, args: argparse.Namespace) -> tuple[str, list[Any]]:
    """Compare one fixture.

    Args:
        path: of the fixture.
        args: of the command line.

    Returns:
        What was compared, and a line for each output.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is broken, or names and shapes do not fit the model.
    """
    from ovavss_mm.compat import import_quietly

    for name in ('ovavss_mm.datasets', 'ovavss_mm.models'):
        import_quietly(name)
    from ovavss_mm.models.released import parity

    fixture = read_fixture(path)
    kind = parity.kind_of(fixture)
    if kind == 'metric':
        names = avsbench_names()
        return kind, parity.check_metric(fixture, names.base, names.novel)
    backbones = find_backbones(path, args.state_dict, args.backbone)
    if kind == 'loss':
        config = read_model_config(backbones[0])
        return kind, parity.check_loss(config, fixture, tuple(args.map_size))
    if kind == 'clip':
        backbones = backbones[:1]  # the classifier is the same
    results = [check_weights(path, fixture, kind, backbone, args) for backbone in backbones]
    return min(results, key=lambda result: sum(not line.passed for line in result[1]))


def avsbench_names() -> Any:
    """Give the vocabulary of the fixtures: that of AVSBench-OV.

    Returns:
        70 names in alphabetical order, with their parts ``base`` and ``novel``.
    """
    from ovavss_mm.datasets import vocabulary

    files = vocabulary.PACKAGED_NAMES, vocabulary.PACKAGED_BASE_NAMES['avsbench_ov']
    return vocabulary.Vocabulary(*(vocabulary.read_names(str(file)) for file in files))


def read_model_config(backbone: str) -> Any:
    """Read the config of the released model.

    Args:
        backbone: a key of :data:`BACKBONES`.

    Returns:
        The config of the model.
    """
    from ovavss_mm.models.released.skeleton import read_config

    return read_config(osp.join(ROOT, 'configs', 'ovavss', f'ovavss_{backbone}_release.py')).model


def check_weights(
    path: str, fixture: dict, kind: str, backbone: str, args: argparse.Namespace
) -> tuple[str, list[Any]]:
    """Compare a fixture for which weights are drawn.

    Args:
        path: of the fixture.
        fixture: its arrays.
        kind: 'clip', 'network' or 'end to end'.
        backbone: a key of :data:`BACKBONES`.
        args: of the command line.

    Returns:
        What was compared, and a line for each output.
    """
    from ovavss_mm.models.released import parity

    config = read_model_config(backbone)
    names = avsbench_names().names
    shapes, seed = read_shapes(path, args.state_dict, backbone), int(fixture['seed'])
    if kind == 'clip':
        classifier = parity.build_classifier(config, shapes, seed)
        return f'{kind}, seed {seed}', parity.check_clip(classifier, fixture, names)
    model = parity.build_model(config, shapes, seed)
    title = f'{kind}, {backbone}, seed {seed}'
    if kind == 'network':
        absent = [name for name in parity.NETWORK_OUTPUTS if name not in fixture]
        title += f' (not in the fixture: {", ".join(absent)})' if absent else ''
        return title, parity.check_network(model, fixture)
    return title, parity.check_end_to_end(model, fixture, names)


def main(argv: list[str] | None = None) -> None:
    """Compare fixtures, and fail if one differs.

    Args:
        argv: the arguments; None: those of the process.
    """
    args = parse_args(argv)
    failed = 0
    for path in args.fixture:
        try:
            title, lines = check(path, args)
        except (OSError, KeyError, ValueError) as error:
            sys.exit(f'error: {path}: {error}')
        print(f'{path}: {title}')
        for line in lines:
            print(f'  {line}')
        failed += sum(not line.passed for line in lines)
    if failed:
        sys.exit(f'{failed} outputs differ from the published model')
    print('all outputs agree with the published model')


if __name__ == '__main__':
    main()
