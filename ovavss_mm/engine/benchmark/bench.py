# SPDX-License-Identifier: Apache-2.0
"""A model with all that a step needs, built from a config."""

import os.path as osp
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmseg.registry import METRICS, MODELS
from torch import nn

from ...models.skeleton import build_skeleton
from ..hooks import StrictCheckpointHook
from . import inputs
from .forced import forced_hooks
from .stages import STAGES, model_hooks, optimizer_hooks
from .timer import Hook, patched

MODES = tuple(STAGES)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        mode: 'train', a step of training, or 'test', a clip from frames to label map.
        size: H and W in pixels; None: as the config's pipeline makes them.
        frames: T; None: as the pipeline samples them.
        queries: Q; None: the config's.
        names: N; None: those of the data, or 70.
        batch: B.
        device: 'cpu' or 'cuda'.
        checkpoint: file of weights; None: weights are drawn, and queries are made to sound.
        sounding: how many queries sound, or 'all'; of no effect with a checkpoint.
        repeats: how many steps are measured.
        warmup: how many steps go before.

    Raises:
        ValueError: a value out of range.
    """

    mode: str = 'train'
    size: tuple[int, int] | None = None
    frames: int | None = None
    queries: int | None = None
    names: int | None = None
    batch: int = 1
    device: str = 'cpu'
    checkpoint: str | None = None
    sounding: int | str = 5
    repeats: int = 10
    warmup: int = 2

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f'mode must be of {MODES}, got {self.mode!r}')
        if self.size is not None and min(self.size) < 32:
            raise ValueError(f'size must be at least 32 pixels, got {tuple(self.size)}')
        for name in ('frames', 'queries', 'names', 'batch', 'repeats', 'warmup', 'sounding'):
            value = getattr(self, name)
            if value is not None and value != 'all' and value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        if self.device.startswith('cuda') and not torch.cuda.is_available():
            raise ValueError(f'device {self.device!r}: torch sees no GPU here')


@dataclass
class Bench:
    """A model that can take steps.

    Attributes:
        model: the segmentor, in the mode of ``settings``.
        settings: what is measured.
        batch: makes the data of a step, new each time.
        notes: what a reader of the figures must know.
        optim_wrapper: of training; its learning rate is 0, so that every step does the same.
        metric: of testing; None: there is none.
        forced: methods of the model and what makes their replacements while it is measured.
        text_seconds: seconds to embed a name, in all templates; None: not measured.
    """

    model: nn.Module
    settings: Settings
    batch: Callable[[], dict]
    notes: list[str] = field(default_factory=list)
    optim_wrapper: OptimWrapper | None = None
    metric: Any = None
    forced: list[tuple[Hook, Callable[[Callable], Callable]]] = field(default_factory=list)
    text_seconds: float | None = None

    def hooks(self) -> list[Hook]:
        """Methods that belong to stages."""
        hooks = model_hooks(self.model, self.settings.mode)
        if self.optim_wrapper is not None:
            hooks += optimizer_hooks(self.optim_wrapper)
        if self.metric is not None:
            hooks.append(Hook('metric', self.metric, 'process'))
        return hooks

    @contextmanager
    def instrumented(self, wrap: Callable[[str, Callable], Callable]) -> Iterator[None]:
        """Force the queries, and wrap the methods of all stages.

        Args:
            wrap: makes the replacement of a stage's name and a method.
        """
        with ExitStack() as stack:
            stack.enter_context(patched(self.hooks(), wrap))
            # entered after that: stages give what the model computes, others get what is forced
            for hook, make in self.forced:
                stack.enter_context(patched([hook], lambda _, method, make=make: make(method)))
            yield

    def step(self, data: dict) -> Any:
        """Take a step; always with the same draws.

        Args:
            data: of ``batch``.

        Returns:
            Losses, or samples with predictions.
        """
        if self.settings.mode == 'train':
            return self.model.train_step(data, self.optim_wrapper)
        with torch.no_grad():
            samples = self.model.test_step(data)
            if self.metric is not None:
                self.metric.process(data, [sample.to_dict() for sample in samples])
                self.metric.results.clear()  # what is counted is kept until the end of a split
        return samples


@contextmanager
def quiet_log() -> Iterator[None]:
    """Hide what mmengine says of every weight, and let names of types be found in mmseg's registries."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        with DefaultScope.overwrite_default_scope('mmseg'):
            yield
    finally:
        logger.setLevel(level)


def changed_config(config: Config, settings: Settings, changes: dict[str, Any]) -> ConfigDict:
    """The model's config with the settings' queries and other changes.

    Args:
        config: the whole config; not changed.
        settings: what is measured.
        changes: keys relative to ``model.``, and their values.
    """
    out = Config(dict(model=deepcopy(config.model.to_dict())))
    if settings.queries is not None:
        out.merge_from_dict({'model.decode_head.num_queries': settings.queries})
    if settings.mode == 'test' and settings.checkpoint is None:
        # all pairs that there may be are painted: how many reach a threshold would be chance
        out.merge_from_dict({'model.test_cfg.score_thr': -1.0})
    out.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    return out.model


def drop_absent_weights(config: Any, key: str = 'model') -> list[tuple[str, str]]:
    """Let weights be drawn where a config reads them from files that are not there.

    Args:
        config: of a model; changed in place. Addresses and tags count as files that are not there.
        key: of ``config``.

    Returns:
        Key of the part and file, for each.
    """
    dropped = []
    items = list(config.items() if isinstance(config, dict) else enumerate(config))
    for name, value in items:
        if not isinstance(value, (dict, list)):
            continue
        if isinstance(value, dict) and value.get('type') == 'Pretrained':
            if not osp.isfile(value['checkpoint']):
                config[name] = None
                dropped.append((key, value['checkpoint']))
        else:
            dropped += drop_absent_weights(value, f'{key}.{name}')
    return dropped


@contextmanager
def explained(changes: dict[str, Any]) -> Iterator[None]:
    """Turn the errors of a config that makes no model into a ValueError that names the changes."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f' with {changes}' if changes else ''
        raise ValueError(f'the model{what} cannot be built: {error}') from error


def check_changes(config: Config, settings: Settings, changes: dict[str, Any]) -> None:
    """Raise ValueError if the changed config makes no model; no weights are made for that."""
    with explained(changes):
        build_skeleton(changed_config(config, settings, changes))


def build_model(config: Config, settings: Settings, changes: dict[str, Any]) -> tuple[nn.Module, list[str]]:
    """Build the model, with weights that are drawn, or those of the checkpoint.

    Args:
        config: the whole config.
        settings: what is measured.
        changes: of the model's config.

    Returns:
        The model on its device, and notes.

    Raises:
        ValueError: the config does not make a model, or one that the mode needs.
    """
    model_config = changed_config(config, settings, changes)
    dropped = drop_absent_weights(model_config)
    inputs.seed_all()
    with quiet_log():
        with explained(changes):
            model = MODELS.build(model_config)
        model.init_weights()
        if settings.checkpoint is not None:
            load_checkpoint(model, settings.checkpoint, [key for key, _ in dropped])
    if settings.mode == 'test' and model.classifier is None:
        raise ValueError('mode test needs model.classifier, which the config does not have')
    if settings.mode == 'train' and model.decode_head.criterion is None:
        raise ValueError('mode train needs model.decode_head.criterion, which is not there')
    if settings.mode == 'test':
        model.requires_grad_(False)  # torch's counter of operations asks for graphs otherwise
    notes = [f'{key}: drawn weights, as there is no {path}' for key, path in dropped]
    return model.to(settings.device).train(settings.mode == 'train'), notes


def load_checkpoint(model: nn.Module, path: str, absent: list[str]) -> None:
    """Load all weights of a checkpoint, or raise.

    Args:
        model: the segmentor.
        path: the file.
        absent: parts (``model.classifier``) that the checkpoint may lack as their own files are not there.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it does not fit the model.
    """
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    patterns = [key.removeprefix('model.').replace('.', r'\.') + r'\.' for key in absent]
    runner = type('Owner', (), dict(model=model, logger=MMLogger.get_current_instance()))
    StrictCheckpointHook(patterns).after_load_checkpoint(runner, checkpoint)
    model.load_state_dict(checkpoint.get('state_dict', checkpoint), strict=False)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give a model the weights of another one with the same names, compiled or not.

    Raises:
        ValueError: their names or shapes differ.
    """
    old, new = (_all_weights(model) for model in (source, target))
    if {k: v.shape for k, v in old.items()} != {k: v.shape for k, v in new.items()}:
        differ = sorted(set(old) ^ set(new)) or sorted(k for k in old if old[k].shape != new[k].shape)
        raise ValueError(f'the variant has other weights than the model, so they cannot be compared: {differ[:3]}')
    with torch.no_grad():
        for key, value in new.items():
            value.copy_(old[key])


def _all_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, frozen ones too, without the names that compiling adds."""
    everything = [*model.named_parameters(), *model.named_buffers()]
    return {key.replace('_orig_mod.', ''): value for key, value in everything}


def training(config: Config, model: nn.Module) -> OptimWrapper:
    """The config's optimizer, with a learning rate of 0: weights stay, the work is the same.

    Raises:
        ValueError: it cannot be built on this device.
    """
    with quiet_log():
        try:
            wrapper = build_optim_wrapper(model, deepcopy(config.optim_wrapper))
        except (AssertionError, TypeError, ValueError) as error:
            raise ValueError(f'optim_wrapper cannot be built: {error}') from error
    for group in wrapper.optimizer.param_groups:
        group['lr'] = 0.0
    return wrapper


def testing(config: Config, names: tuple[str, ...]) -> Any:
    """The config's metric for a vocabulary, None where there is none or names are more than labels can be."""
    evaluator = config.get('test_evaluator')
    if not evaluator or len(names) > inputs.MAX_LABELLED:
        return None
    first = evaluator[0] if isinstance(evaluator, (list, tuple)) else evaluator
    with quiet_log():
        metric = METRICS.build(first)
    half = len(names) // 2
    metric.dataset_meta = dict(classes=('background', *names), base_names=names[:half], novel_names=names[half:])
    return metric


def force(bench: Bench, names: tuple[str, ...]) -> None:
    """Make queries sound and text embeddings drawn, and measure how long it takes to embed a name.

    Args:
        bench: of a model that tests.
        names: its vocabulary; the first two are embedded.

    Raises:
        ValueError: the model has no CLIP.
    """
    if not hasattr(bench.model.classifier, 'text_embeddings'):
        raise ValueError(
            'testing is measured of models that name by CLIP, not with a '
            f'{type(bench.model.classifier).__name__}; --mode train measures any'
        )
    some = names[:2]
    bench.model.classifier.text_embeddings(('warm-up',))  # reads the tokenizer
    start = perf_counter()
    size = bench.model.classifier.text_embeddings(some).cpu().shape[1]
    bench.text_seconds = (perf_counter() - start) / len(some)
    bench.forced = forced_hooks(bench.model, bench.settings.sounding, size)
