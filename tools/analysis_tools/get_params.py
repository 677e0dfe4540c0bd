# SPDX-License-Identifier: Apache-2.0
"""Count the parameters of a model, stage by stage: in millions, and in MiB of float32.

Frozen batch norms are constants: their weights count as buffers, not as parameters.
"""

import argparse
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv (list[str], optional): the arguments; None: those of the process. Defaults to None.

    Returns:
        argparse.Namespace: The arguments, by name.
    """
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__.splitlines()[2])
    parser.add_argument('config', help='config file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='change the config')
    return parser.parse_args(argv)


def table(counts: dict) -> str:
    """Write counts as a table.

    Args:
        counts (dict): as ``ovavss_mm.engine.parameters.count_parameters`` gives them.

    Returns:
        str: Lines of text.
    """
    from prettytable import PrettyTable

    from ovavss_mm.engine.parameters import mebibytes

    columns = ('total', 'trainable', 'frozen')
    header = [f'{c} {unit}' for c in columns for unit in ('M', 'MiB')]
    out = PrettyTable(['stage', *header], align='r')
    out.align['stage'] = 'l'
    for name, count in counts.items():
        numbers = [getattr(count, column) for column in columns]
        cells = [cell for n in numbers for cell in (f'{n / 1e6:.2f}', f'{mebibytes(n):.1f}')]
        out.add_row([name, *cells])
    return out.get_string()


def main(argv: list[str] | None = None) -> None:
    """Print the table of a config.

    Args:
        argv (list[str], optional): the arguments; None: those of the process. Defaults to None.
    """
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.models')
    from ovavss_mm.engine.parameters import count_parameters
    from ovavss_mm.models.skeleton import build_skeleton, read_config

    try:
        config = read_config(args.config, args.cfg_options)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(table(count_parameters(build_skeleton(config.model))))


if __name__ == '__main__':
    main()
