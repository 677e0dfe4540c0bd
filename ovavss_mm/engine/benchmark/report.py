# SPDX-License-Identifier: Apache-2.0
"""Figures, tables and files of what was measured."""

import json
import os
import platform
from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any

import torch
from prettytable import PrettyTable

from .timer import OTHER

TOTAL = 'total'


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Median, first and third quartile and their distance (``iqr``) of one sample or more."""
    q1, _, q3 = quantiles(samples, n=4, method='inclusive') if len(samples) > 1 else [samples[0]] * 3
    return dict(median=median(samples), q1=q1, q3=q3, iqr=q3 - q1)


def stage_rows(
    steps: Sequence[dict[str, float]], flops: dict[str, float], order: Sequence[str], ceiling: float | None
) -> dict[str, dict[str, Any]]:
    """What the stages of repeated steps took.

    Args:
        steps: stage to seconds, a dict a step, as :class:`~.timer.StageTimer` keeps them.
        flops: stage to operations; empty where they were not counted.
        order: of the stages that there should be; ``'other'`` follows.
        ceiling: operations a second that the machine can do, None: unknown.

    Returns:
        Stage to median, quartiles and samples in seconds, share of the total (0..1), operations, and
        share of the ceiling (0..1); None where unknown. ``'total'`` comes last.
    """
    found = {stage for step in steps for stage in step}
    stages = [*order, *sorted(found - {*order, OTHER}), OTHER]
    samples = {stage: [step.get(stage, 0.0) for step in steps] for stage in stages}
    samples[TOTAL] = [sum(step.values()) for step in steps]
    whole = median(samples[TOTAL])
    rows = {}
    for stage, values in samples.items():
        row = dict(spread(values), samples=values)
        done = sum(flops.values()) if stage == TOTAL else flops.get(stage, 0)
        row['share'] = row['median'] / whole if whole else None
        row['flops'] = done if flops else None
        known = flops and ceiling and row['median'] > 0
        row['ceiling_share'] = done / row['median'] / ceiling if known else None
        rows[stage] = row
    return rows


def stage_table(rows: dict[str, dict[str, Any]]) -> str:
    """Write the rows of :func:`stage_rows` as a table."""
    table = PrettyTable(['stage', 'median ms', 'IQR ms', 'share %', 'GFLOP', '% of ceiling'], align='r')
    table.align['stage'] = 'l'
    for stage, row in rows.items():
        if stage == TOTAL:
            table.add_divider()
        cells = [_number(row[key], 1e3, 2) for key in ('median', 'iqr')]
        cells += [_number(row['share'], 100, 1), _number(row['flops'] or None, 1e-9, 2)]
        table.add_row([stage, *cells, _number(row['ceiling_share'] or None, 100, 1)])
    return table.get_string()


def comparison_table(comparisons: Sequence[dict[str, Any]]) -> str:
    """Write what :func:`~.compare.compare` gives as a table."""
    header = ['stage', 'variant', 'as it is ms', 'variant ms', 'ratio', 'ratio IQR', 'difference']
    table = PrettyTable([*header, 'of values up to'], align='r')
    table.align['stage'] = table.align['variant'] = 'l'
    for row in comparisons:
        times = [_number(row[key]['median'], 1e3, 2) for key in ('base', 'changed')]
        ratio = row['ratio']
        known = ratio is not None
        ratios = [f'{ratio["median"]:.3f}', f'{ratio["q1"]:.3f}..{ratio["q3"]:.3f}'] if known else '--'
        values = [_scientific(row[key]) for key in ('difference', 'scale')]
        table.add_row([row['stage'], row['variant'], *times, *ratios, *values])
    return table.get_string()


def _number(value: float | None, factor: float, digits: int) -> str:
    """A number in another unit; '-' for None."""
    return '-' if value is None else f'{value * factor:.{digits}f}'


def _scientific(value: float | None) -> str:
    """A number of any size; '-' for None."""
    return '-' if value is None else f'{value:.3g}'


def hardware(device: str) -> dict[str, Any]:
    """Machine, threads and versions."""
    from mmengine.utils.dl_utils import TORCH_VERSION

    from ...compat import ensure_mmcv_ops
    from ...version import __version__

    return dict(
        cpu=cpu_name(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 2),
        gpu=torch.cuda.get_device_name() if device.startswith('cuda') else None,
        tf32=dict(matmul=torch.backends.cuda.matmul.allow_tf32, cudnn=torch.backends.cudnn.allow_tf32),
        system=platform.platform(),
        python=platform.python_version(),
        torch=TORCH_VERSION,
        ovavss_mm=__version__,
        mmcv_ops=ensure_mmcv_ops(),
    )


def cpu_name() -> str:
    """The processor's name."""
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            names = [line.split(':', 1)[1].strip() for line in file if line.startswith('model name')]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def write_json(content: Any, path: str) -> None:
    """Write a file whole or not at all, and its folder if need be."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    beside = f'{path}.{os.getpid()}.tmp'
    with open(beside, 'w', encoding='utf-8') as file:
        json.dump(content, file, indent=1)
        file.write('\n')
    os.replace(beside, path)
