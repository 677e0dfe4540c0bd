# SPDX-License-Identifier: Apache-2.0
"""A stage as it is and with a change, in turn in one process."""

import ast
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .bench import Bench
from .measure import no_tick, outputs_of, plain_step, timed_step, timer_for
from .report import TOTAL, spread
from .stages import STAGES
from .timer import OTHER


class Variant(NamedTuple):
    """A change of the model's config.

    Attributes:
        stages: that it is for; empty: all.
        changes: makes the changed keys, relative to ``model.``, of the name of the stage.
        about: what it does.
    """

    stages: tuple[str, ...]
    changes: Callable[[str], dict[str, Any]]
    about: str


VARIANTS = {
    'bfloat16': Variant((), lambda _: dict(precision='bfloat16'), 'products in bfloat16'),
    'compile': Variant(
        ('backbone', 'neck', 'pixel_decoder', 'decoder', 'clip'),
        lambda stage: dict(compile=[stage]),
        'the stage through torch.compile',
    ),
    'mmcv': Variant(
        ('pixel_decoder',),
        lambda _: {'decode_head.pixel_decoder.plain_sampling': True},
        "mmcv's own deformable attention",
    ),
    'frame': Variant(('clip',), lambda _: {'classifier.chunk_size': 1}, 'a call of CLIP for each crop'),
}


class Comparison(NamedTuple):
    """What to compare.

    Attributes:
        stage: name of the stage, or 'total'.
        variant: as it was asked for.
        changes: of the model's config.
    """

    stage: str
    variant: str
    changes: dict[str, Any]


def parse_comparison(text: str, mode: str) -> Comparison:
    """Read ``STAGE=VARIANT``, where VARIANT is a name or KEY:VALUE.

    Args:
        text: as it was typed.
        mode: 'train' or 'test', which has other stages.

    Raises:
        ValueError: another form, or an unknown stage or variant; the message lists those that are known.
    """
    stage, equals, variant = text.partition('=')
    stages = (*STAGES[mode], OTHER, TOTAL)
    if not equals or not variant:
        raise ValueError(f'a comparison is STAGE=VARIANT or STAGE=KEY:VALUE, got {text!r}')
    if stage not in stages:
        raise ValueError(f'no stage {stage!r} in mode {mode}; there are {", ".join(stages)}')
    key, colon, value = variant.partition(':')
    if colon:
        return Comparison(stage, variant, {key: _value(value)})
    named = VARIANTS.get(variant)
    if named is None or (named.stages and stage not in named.stages):
        known = [k for k, v in VARIANTS.items() if not v.stages or stage in v.stages]
        raise ValueError(
            f'no variant {variant!r} of stage {stage!r}; there are {", ".join(known)}, and KEY:VALUE '
            'for any key of the model'
        )
    return Comparison(stage, variant, named.changes(stage))


def _value(text: str) -> Any:
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def compare(
    base: Bench, changed: Bench, comparison: Comparison, tick: Callable[[], object] = no_tick
) -> dict[str, Any]:
    """Measure whole steps of both in turn, A B A B, on the same clips, with the same weights and draws.

    What reaches the stage is the same too, unless the change is one of earlier stages as well.

    Args:
        base: as it is.
        changed: with the change.
        comparison: what to compare.
        tick: called after each pair of steps.

    Returns:
        ``stage``, ``variant``, ``changes``; ``base`` and ``changed``, median, quartiles and samples in seconds;
        ``ratio``, the same of changed / base, pair by pair (None: the stage took no time);
        ``difference``, the largest between their outputs, and ``scale``, the largest output (None: the
        outputs are none, or not as many).
    """
    stage, settings = comparison.stage, base.settings
    outputs = [outputs_of(bench, stage) for bench in (base, changed)]
    timers = [timer_for(settings.device) for _ in range(2)]
    with base.instrumented(timers[0].wrap), changed.instrumented(timers[1].wrap):
        for i in range(settings.warmup + settings.repeats):
            for bench, timer in zip((base, changed), timers, strict=True):
                if i < settings.warmup:
                    plain_step(bench)
                else:
                    timed_step(bench, timer)
            tick()
    samples = [[_seconds(step, stage) for step in timer.steps] for timer in timers]
    pairs = [new / old for old, new in zip(*samples, strict=True) if old > 0]
    times = [dict(spread(values), samples=values) for values in samples]
    return dict(
        comparison._asdict(),
        base=times[0],
        changed=times[1],
        ratio=spread(pairs) if pairs else None,
        **difference(*outputs),
    )


def _seconds(step: dict[str, float], stage: str) -> float:
    """Seconds of a stage, or of the step."""
    return sum(step.values()) if stage == TOTAL else step.get(stage, 0.0)


def difference(one: list[list[torch.Tensor]], other: list[list[torch.Tensor]]) -> dict[str, float | None]:
    """Largest difference between outputs, and largest output.

    Args:
        one: tensors of each call.
        other: the same; of more or fewer calls, if they amount to as many numbers.
    """
    flat = [_in_order(calls) for calls in (one, other)]
    if flat[0].shape != flat[1].shape or not len(flat[0]):
        return dict(difference=None, scale=None)
    return dict(difference=float((flat[0] - flat[1]).abs().max()), scale=float(flat[0].abs().max()))


def _in_order(calls: list[list[torch.Tensor]]) -> torch.Tensor:
    """All numbers of outputs as one vector."""
    parts = [tensor.flatten() for call in calls for tensor in call]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
