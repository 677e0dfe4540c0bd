# SPDX-License-Identifier: Apache-2.0
"""Arguments that ``tools/train.py`` and ``tools/test.py`` have in common; imports no torch, as help must be quick."""

import argparse
from typing import Any

from mmengine.config import DictAction

from .text import one_line


class Options(DictAction):
    """mmengine's reader of ``KEY=VALUE``, which says in a line what it cannot read."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, *args: Any) -> None:
        """Read values."""
        try:
            super().__call__(parser, namespace, values, *args)
        except (ValueError, AssertionError) as error:
            parser.error(f'--cfg-options are KEY=VALUE, got {" ".join(values)} ({one_line(error)})')


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both take besides the config and a checkpoint."""
    add = parser.add_argument
    add('--base', metavar='CONFIG', help='takes the place of the config in _base_: a path, or a name below configs/')
    add('--work-dir', help='where results go (default: the config says, or work_dirs/<config>[_on_<base>])')
    add('--amp', action='store_true', help='mixed precision: bfloat16, on a GPU or CPU')
    options = 'change values of the config: a.b=1, or a.b="[1,2]" for lists'
    add('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE', help=options)
    launchers = ['none', 'pytorch', 'slurm', 'mpi']
    add('--launcher', choices=launchers, default='none', help='what starts the processes (default: none, one process)')
    add('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)  # from launchers before torch 2.0
