# SPDX-License-Identifier: Apache-2.0
"""The whole benchmark on a tiny model."""

import subprocess
import sys

import pytest
import tiny_model
import torch
from mmengine.config import Config

import ovavss_mm.evaluation  # noqa: F401  (registers the metric)
from ovavss_mm.engine.benchmark.bench import Settings, build_model, copy_weights
from ovavss_mm.engine.benchmark.compare import Comparison, difference, parse_comparison
from ovavss_mm.engine.benchmark.measure import count_crops, outputs_of, recording
from ovavss_mm.engine.benchmark.run import Workload, count_ticks, make_bench, run
from ovavss_mm.engine.benchmark.stages import STAGES

SIZES = dict(size=(64, 96), frames=2, names=3, repeats=2, warmup=1, sounding=2)


def tiny_config(**deltas):
    """A whole config of the tiny model."""
    return Config(
        dict(
            model=tiny_model.tiny_config(**deltas).to_dict(),
            optim_wrapper=dict(
                type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0), clip_grad=dict(max_norm=0.01)
            ),
            test_evaluator=dict(type='OVIoUMetric', eval_size=(16, 16)),
        )
    )


def tiny_bench(mode, **deltas):
    """A bench of the tiny model."""
    config, settings = tiny_config(**deltas), Settings(mode=mode, **SIZES)
    return make_bench(config, settings, Workload(config, settings))


def own_attributes(bench):
    """What the objects of a bench have of their own."""
    return [sorted(vars(owner)) for _, owner, _ in bench.hooks()]


@pytest.mark.parametrize('mode', ['train', 'test'])
def test_all_stages_are_there_and_take_operations(mode):
    ticks = []
    settings = Settings(mode=mode, **SIZES)
    result = run(tiny_config(), settings, tick=lambda: ticks.append(1))
    assert len(ticks) == count_ticks(settings, [], True)
    stages = result['stages']
    assert list(stages) == [*STAGES[mode], 'other', 'total']
    for row in stages.values():
        assert row['median'] > 0 and len(row['samples']) == 2
    for i in range(2):
        parts = [row['samples'][i] for stage, row in stages.items() if stage != 'total']
        assert sum(parts) == pytest.approx(stages['total']['samples'][i])
    assert sum(row['flops'] for row in stages.values()) == 2 * stages['total']['flops']
    heavy = {'train': ('neck', 'backward'), 'test': ('neck', 'clip')}[mode]
    assert all(stages[stage]['flops'] > 0 for stage in heavy)
    assert result['shape'] == dict(height=64, width=96, frames=2, names=3, batch=1)
    assert result['crops'] == (4 if mode == 'test' else None)
    assert result['data'] is None and any('no data' in note for note in result['notes'])
    assert any('vggish' in n or 'made-up' in n for n in result['notes'])


def test_steps_do_the_same_and_leave_the_model_as_it_was():
    bench = tiny_bench('train')
    before = {key: value.clone() for key, value in bench.model.state_dict().items()}
    attributes = own_attributes(bench)
    one, other = (outputs_of(bench, 'losses') for _ in range(2))
    assert difference(one, other)['difference'] == 0 and len(one) == 1 and len(one[0]) > 3
    (gradients,) = outputs_of(bench, 'backward')
    assert any(gradient.abs().max() > 0 for gradient in gradients)
    changed = [k for k, v in bench.model.state_dict().items() if not torch.equal(v, before[k])]
    assert changed == []
    assert own_attributes(bench) == attributes


def test_methods_are_put_back_after_an_error():
    bench = tiny_bench('test')
    attributes = own_attributes(bench)
    with pytest.raises(ZeroDivisionError), recording(bench, 'clip'):
        assert own_attributes(bench) != attributes
        raise ZeroDivisionError
    assert own_attributes(bench) == attributes


def test_crops_are_those_of_all_windows():
    config = tiny_config(test_cfg=dict(window=2))
    settings = Settings(mode='test', **dict(SIZES, frames=5, sounding='all'))
    assert count_crops(make_bench(config, settings, Workload(config, settings))) == 6 * 5


def test_a_change_of_nothing_makes_no_difference():
    comparison = parse_comparison('decoder=decode_head.num_frames:5', 'test')
    assert comparison == Comparison('decoder', 'decode_head.num_frames:5', {'decode_head.num_frames': 5})
    total = parse_comparison('total=test_cfg.window:5', 'test')
    result = run(tiny_config(), Settings(mode='test', **SIZES), [comparison, total], flops=False)
    for row in result['comparisons']:
        assert row['difference'] == 0 and row['scale'] > 0
        assert len(row['base']['samples']) == len(row['changed']['samples']) == 2
        assert row['ratio']['q1'] <= row['ratio']['median'] <= row['ratio']['q3']


def test_named_variants_compute_the_same():
    names = [('clip=frame', 1e-5), ('pixel_decoder=mmcv', 1e-4)]
    comparisons = [parse_comparison(name, 'test') for name, _ in names]
    result = run(tiny_config(), Settings(mode='test', **SIZES), comparisons, flops=False)
    for row, (_, largest) in zip(result['comparisons'], names, strict=True):
        assert row['difference'] is not None and row['difference'] < largest * row['scale']


@pytest.mark.parametrize(
    'text', ['clip=classifier.anchor:corner', 'decoder=bfloat16', 'backbone=bfloat16', 'neck=bfloat16']
)
def test_a_change_is_seen(text):
    settings = Settings(mode='test', **SIZES)
    (row,) = run(tiny_config(), settings, [parse_comparison(text, 'test')], False)['comparisons']
    assert row['difference'] > 1e-4


def test_compiled_stages_are_measured_from_outside():
    changes = parse_comparison('neck=compile', 'test').changes
    assert changes == dict(compile=['neck'])
    bench = tiny_bench('test', **changes)
    hooks = {hook.stage: hook for hook in bench.hooks()}
    assert hooks['neck'].method != hooks['backbone'].method == 'forward'
    inner = bench.model.neck._compiled_call_impl
    with bench.instrumented(lambda _, method: lambda *args: method(*args)):
        assert bench.model.neck._compiled_call_impl is not inner
    assert bench.model.neck._compiled_call_impl is inner


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('decoder', 'STAGE=VARIANT'),
        ('encoder=bfloat16', 'no stage .encoder.*backbone, neck'),
        ('clip=mmcv', 'no variant .mmcv.*there are bfloat16, compile, frame'),
        ('neck=fast', 'no variant .fast'),
    ],
    ids=['form', 'stage', 'variant-of-another', 'variant'],
)
def test_unknown_comparisons_list_those_that_are_known(text, words):
    with pytest.raises(ValueError, match=words):
        parse_comparison(text, 'test')


def test_stages_of_the_other_mode_are_unknown():
    with pytest.raises(ValueError, match='no stage .backward. in mode test'):
        parse_comparison('backward=bfloat16', 'test')


def test_a_variant_that_is_no_model_is_refused():
    settings = Settings(mode='test', **SIZES)
    with pytest.raises(ValueError, match='cannot be built.*no_such_key'):
        build_model(tiny_config(), settings, {'decode_head.no_such_key': 1})
    model, _ = build_model(tiny_config(), settings, {})
    other, _ = build_model(tiny_config(), settings, {'decode_head.num_queries': 7})
    with pytest.raises(ValueError, match='other weights.*query'):
        copy_weights(model, other)


@pytest.mark.parametrize(
    'wrong',
    [dict(mode='fit'), dict(size=(16, 64)), dict(frames=0), dict(sounding=0), dict(warmup=0)],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_out_of_range_are_named(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f'{name} must be .*got'):
        Settings(**wrong)


def test_missing_files_are_told_and_their_modules_drawn():
    config = tiny_config()
    config.model.classifier.init_cfg = dict(type='Pretrained', checkpoint='gone/clip.pt')
    model, notes = build_model(config, Settings(mode='test', **SIZES), {})
    assert notes == ['model.classifier: drawn weights, as there is no gone/clip.pt']
    assert model.classifier.checkpoint is None
    assert config.model.classifier.init_cfg.checkpoint == 'gone/clip.pt'


def test_a_vocabulary_larger_than_labels_has_no_metric():
    config, settings = tiny_config(), Settings(mode='test', **dict(SIZES, names=300))
    bench = make_bench(config, settings, Workload(config, settings))
    assert bench.metric is None and any('no metric' in note for note in bench.notes)


def test_the_engine_does_not_bring_the_benchmark():
    code = (
        'import sys, ovavss_mm.engine as e; sys.exit(any(m.startswith(e.__name__ + ".benchmark") for m in sys.modules))'
    )
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
