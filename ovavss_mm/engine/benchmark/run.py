# SPDX-License-Identifier: Apache-2.0
"""The whole benchmark of a config: build, measure, compare."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from mmengine.config import Config

from . import inputs
from .bench import Bench, Settings, build_model, check_changes, copy_weights, force, quiet_log, testing, training
from .compare import Comparison, compare
from .flops import matmul_ceiling
from .measure import count_crops, count_flops, idle_share, measure, median_total, time_data
from .report import hardware, spread, stage_rows
from .stages import STAGES

Tick = Callable[[], object]
DEFAULT_NAMES = 70


class Workload:
    """The clips of a config: its data, if they are there, and what the model gets.

    The model gets made-up clips where there are no data, and where the settings ask for a size, T or N.

    Args:
        config: the whole config.
        settings: what is measured.

    Attributes:
        dataset: of the config; None: not there.
        batch: makes the model's inputs, anew each time.
        shape: of the inputs.
        names: the vocabulary.
        notes: what a reader of the figures must know.
    """

    def __init__(self, config: Config, settings: Settings) -> None:
        with quiet_log():
            self.dataset = inputs.open_dataset(config, settings.mode)
            real = self.dataset is not None and not (settings.size or settings.frames or settings.names)
            data = self._real(settings) if real else self._made_up(config, settings)
        self.shape = inputs.shape_of(data)
        self.names = tuple(data['data_samples'][0].get('vocabulary', ()))
        self.batch = inputs.copier(data)
        where = 'clips of the data set' if real else 'made-up clips'
        self.notes = [f'the model gets {where}']
        if self.dataset is None:
            self.notes.append('no data: data_root is not there, loading is not measured')

    def _real(self, settings: Settings) -> dict:
        """The first clips of the data set."""
        return inputs.fetch(self.dataset, settings.batch)

    @staticmethod
    def _made_up(config: Config, settings: Settings) -> dict:
        """Clips of the settings' sizes; what they leave open is as the config's pipeline makes it."""
        pipeline = _pipeline(config, settings.mode)
        window = (config.model.get('test_cfg') or {}).get('window', 5)
        shape = inputs.Shape(
            *(settings.size or inputs.default_size(pipeline)),
            settings.frames or inputs.default_frames(pipeline, window),
            settings.names or DEFAULT_NAMES,
            settings.batch,
        )
        return inputs.make_batch(shape, pipeline)


def _pipeline(config: Config, mode: str) -> Sequence[dict]:
    """Steps of the data set's pipeline, also inside a wrapper."""
    loader = config.get(f'{mode}_dataloader') or {}
    for dataset in inputs.iter_datasets(loader):
        if dataset.get('pipeline'):
            return dataset['pipeline']
    return ()


def make_bench(config: Config, settings: Settings, workload: Workload, changes: dict[str, Any] | None = None) -> Bench:
    """Build what takes the steps.

    Args:
        config: the whole config.
        settings: what is measured.
        workload: what the model gets.
        changes: of the model's config, keys relative to ``model.``.

    Raises:
        ValueError: the config does not make a model.
    """
    model, notes = build_model(config, settings, changes or {})
    bench = Bench(model, settings, workload.batch, notes)
    if settings.mode == 'train':
        bench.optim_wrapper = training(config, model)
        return bench
    bench.metric = testing(config, workload.names)
    if bench.metric is None:
        notes.append('no metric: there is none, or there are more names than labels')
    if settings.checkpoint is None:
        force(bench, workload.names)
        notes.append(f'without a checkpoint: {settings.sounding} queries are made to sound')
    return bench


def run(
    config: Config,
    settings: Settings,
    comparisons: Sequence[Comparison] = (),
    flops: bool = True,
    tick: Tick = lambda: None,
) -> dict[str, Any]:
    """Measure all there is to measure.

    Args:
        config: the whole config.
        settings: what is measured.
        comparisons: variants of stages.
        flops: whether operations are counted and the ceilings measured.
        tick: called :func:`count_ticks` times.

    Returns:
        What the tool writes as JSON: ``settings``, ``shape``, ``hardware``, ``notes``, ``ceilings`` in operations a
        second, ``stages`` as :func:`~.report.stage_rows` gives them, ``data`` in seconds, ``clips_per_second``,
        ``memory`` in MiB, ``idle_share``, ``crops``, ``text_seconds_per_name``, ``comparisons``.

    Raises:
        ValueError: config, settings or a comparison do not make a model.
    """
    for comparison in comparisons:
        check_changes(config, settings, comparison.changes)
    workload = Workload(config, settings)
    device = settings.device
    ceilings = {}
    if flops:
        for dtype in (torch.float32, torch.bfloat16):
            ceilings[str(dtype).removeprefix('torch.')] = matmul_ceiling(device, dtype)
            tick()
    if device.startswith('cuda'):
        torch.backends.cudnn.benchmark = config.get('env_cfg', {}).get('cudnn_benchmark', False)
    bench = make_bench(config, settings, workload)
    measured = measure(bench, tick)
    done = count_flops(bench) if flops else {}
    ceiling = ceilings.get('bfloat16' if in_bfloat16(config, settings.mode) else 'float32')
    total = median_total(measured['steps'])
    tests = settings.mode == 'test'
    result = dict(
        settings=asdict(settings),
        shape=workload.shape._asdict(),
        hardware=hardware(device),
        notes=[*workload.notes, *bench.notes],
        ceilings=ceilings,
        stages=stage_rows(measured['steps'], done, STAGES[settings.mode], ceiling),
        data=_data(workload, settings),
        clips_per_second=settings.batch / total,
        memory=measured['memory'],
        idle_share=idle_share(bench, total) if device.startswith('cuda') else None,
        crops=count_crops(bench) if tests else None,
        text_seconds_per_name=bench.text_seconds,
        comparisons=[],
    )
    for comparison in comparisons:
        changed = make_bench(config, settings, workload, comparison.changes)
        copy_weights(bench.model, changed.model)
        result['comparisons'].append(compare(bench, changed, comparison, tick))
        del changed
    return result


def count_ticks(settings: Settings, comparisons: Sequence[Comparison], flops: bool) -> int:
    """How often :func:`run` calls ``tick``."""
    return (len(comparisons) + 1) * (settings.warmup + settings.repeats) + 2 * flops


def in_bfloat16(config: Config, mode: str) -> bool:
    """Whether a config has its products computed in 16 bits."""
    wrapper = config.get('optim_wrapper', {}).get('type', '')
    amp = mode == 'train' and 'Amp' in str(wrapper)
    return amp or config.model.get('precision') == 'bfloat16'


def _data(workload: Workload, settings: Settings) -> dict[str, float] | None:
    """Seconds of loading a batch; None without data."""
    if workload.dataset is None:
        return None
    seconds = time_data(workload.dataset, settings.batch, settings.repeats)
    return dict(spread(seconds), samples=seconds)
