# SPDX-License-Identifier: Apache-2.0
"""Count the parameters of a model, stage by stage: in millions, and in MiB of float32.

Frozen batch norms are constants: their weights count as buffers, not as parameters.
"""

import argparse
import os.path as osp
import sys
from typing import NamedTuple

ROOT = osp.join(osp.dirname(osp.abspath(__file__)), '..', '..')

try:
    import ovavss_mm  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != 'ovavss_mm':
        raise
    sys.path.insert(0, ROOT)  # run from a checkout in which the package is not installed

BYTES = 4  # of a float32
MIB = 2**20


class Count(NamedTuple):
    """Numbers of parameters.

    Attributes:
        trainable: those that are trained.
        frozen: the others.
    """

    trainable: int
    frozen: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.trainable + self.frozen


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The arguments, by name.
    """
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__.splitlines()[2]
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='change the config'
    )
    return parser.parse_args(argv)


def count_parameters(model: object) -> dict[str, Count]:
    """Count the parameters of each stage.

    Args:
        model: any module; its children are the stages.

    Returns:
        Stage to count, and ``'all'``.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    constants = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _BatchNorm)
        for parameter in module.parameters()
        if not parameter.requires_grad
    }
    counts = {}
    for name, stage in model.named_children():
        numbers = [0, 0]
        for parameter in stage.parameters():
            if id(parameter) not in constants:
                numbers[not parameter.requires_grad] += parameter.numel()
        if any(numbers):
            counts[name] = Count(*numbers)
    counts['all'] = Count(*(sum(column) for column in zip(*counts.values(), strict=True)))
    return counts


def table(counts: dict[str, Count]) -> str:
    """Write counts as a table.

    Args:
        counts: as :func:`count_parameters` gives them.

    Returns:
        Lines of text.
    """
    from prettytable import PrettyTable

    columns = ('total', 'trainable', 'frozen')
    header = [f'{c} {unit}' for c in columns for unit in ('M', 'MiB')]
    out = PrettyTable(['stage', *header], align='r')
    out.align['stage'] = 'l'
    for name, count in counts.items():
        numbers = [getattr(count, column) for column in columns]
        cells = [cell for n in numbers for cell in (f'{n / 1e6:.2f}', f'{n * BYTES / MIB:.1f}')]
        out.add_row([name, *cells])
    return out.get_string()


def main(argv: list[str] | None = None) -> None:
    """Print the table of a config.

    Args:
        argv: the arguments; None: those of the process.
    """
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.models')
    from ovavss_mm.models.released.skeleton import build_skeleton, read_config

    try:
        config = read_config(args.config, args.cfg_options)
    except FileNotFoundError as error:
        sys.exit(f'error: {error}')
    print(table(count_parameters(build_skeleton(config.model))))


if __name__ == '__main__':
    main()
