# SPDX-License-Identifier: Apache-2.0
"""The benchmark: ranges add up, operations are counted right, all modes run; what the times are is not tested."""

import json
import mmap
import re
import sys
from pathlib import Path

import archive
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / 'tools/analysis_tools')]

import bench_steps  # noqa: E402
import bench_timer  # noqa: E402
import benchmark as tool  # noqa: E402
import published  # noqa: E402
import tiny_model  # noqa: E402

MINI = str(published.ROOT / 'configs/mini/ovavss_mini.py')
SMALL = '--device cpu --repeats 1 --warmup 1 --size 32 64 --frames 2 --names 4'.split()
PARTS = ['data_preprocessor', 'model', 'audio_encoder', 'backbone', 'neck', 'decode_head']
OWN = dict(
    train=['decode_head.criterion', 'decode_head.criterion.match', 'backward', 'optimizer'],
    test=['classifier', 'classifier.clip_model', 'metric'],
)


class Ticks:
    """A clock that goes on by one with each reading."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += 1
        return self.now


class Outer:
    """Calls itself and another part."""

    def inner(self):
        return 'done'

    def outer(self, times):
        return self.inner() if times == 0 else self.outer(times - 1)


# ------------------------------------------------------------------ the timer
def test_each_moment_counts_for_the_innermost_range():
    part, timer = Outer(), bench_timer.RangeTimer(Ticks())
    ranges = [bench_timer.Range(name, part, name) for name in ('outer', 'inner')]
    with timer.watching(ranges):
        for _ in range(2):
            with timer.step():
                assert part.outer(1) == 'done'
    # readings: step, outer, outer, inner, inner, outer, outer, step
    assert timer.steps == [dict(outer=4, inner=1, other=2, total=7)] * 2
    assert list(timer.steps[0])[-2:] == ['other', 'total']
    assert not vars(part), 'methods are put back'


def test_methods_are_put_back_after_an_error():
    part, timer = Outer(), bench_timer.RangeTimer(Ticks())
    ranges = [bench_timer.Range('outer', part, 'outer')]
    with pytest.raises(TypeError), timer.watching(ranges), timer.step():
        part.outer('many')
    assert timer.steps == [] and not vars(part)


class Part(nn.Module):
    """A part that is more than a layer of torch."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, x):
        """Run the children one after the other."""
        for child in self.children():
            x = child(x)
        return x


def test_ranges_follow_from_the_model():
    """A dense head, no classifier and another kind of fusion: nothing is expected by name."""
    head = Part(mixer=Part(), conv_seg=nn.Conv2d(3, 3, 1))
    model = Part(backbone=Part(stem=Part()), fusion=Part(), norm=nn.Identity(), decode_head=head)
    timer = bench_timer.RangeTimer(Ticks())
    with timer.watching(bench_timer.model_ranges(model)), timer.step():
        model(torch.ones(1, 3, 4, 4))
    names = ['backbone', 'decode_head', 'decode_head.mixer', 'fusion', 'model', 'other', 'total']
    assert sorted(timer.steps[0]) == names


def test_a_compiled_part_is_measured_from_outside():
    model = Part(backbone=Part())
    model.backbone.compile()
    calls = [r.method for r in bench_timer.model_ranges(model) if r.name == 'backbone']
    assert calls == ['_compiled_call_impl']


def test_operations_of_forward_and_backward():
    model, x = nn.Sequential(nn.Linear(3, 5, bias=False)), torch.ones(4, 3, requires_grad=True)
    ranges = [bench_timer.Range('linear', model, 'forward')]
    flops = bench_timer.count_flops(lambda: model(x).sum().backward(), ranges)
    forward = 2 * 4 * 3 * 5
    assert flops == dict(linear=forward, other=2 * forward, total=3 * forward)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    tokens = torch.ones(1, 6, 8)
    with torch.no_grad():
        flops = bench_timer.count_flops(lambda: attention(tokens, tokens, tokens), [])
    assert flops['total'] == 2 * (4 * 6 * 8 * 8 + 2 * 6 * 6 * 8)
    assert torch.backends.mha.get_fastpath_enabled()


def test_peak_memory_is_that_of_a_block():
    bench_timer.reset_peak_memory('cpu')
    before = bench_timer.peak_memory('cpu')
    with mmap.mmap(-1, 2**27) as block:  # 128 MiB of new pages, whatever the process has freed before
        for at in range(0, len(block), mmap.PAGESIZE):
            block[at] = 1
    assert bench_timer.peak_memory('cpu') > before + 100


# ------------------------------------------------------------------ sounding queries
def test_a_number_of_queries_sounds():
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = tiny_model.tiny_model()
    clip = InstanceData(sound_scores=torch.rand(6), masks=torch.rand(6, 2, 5, 7))
    model.decode_head.predict = lambda x: [clip]
    bench_steps._force(model, 4, ('dog', 'cat'))
    (forced,) = model.decode_head.predict(None)
    assert forced.sound_scores.tolist() == [1, 1, 1, 1, 0, 0]
    assert (forced.masks > 0).flatten(2).any(-1).sum(1).tolist() == [2, 2, 2, 2, 0, 0]
    text = model.classifier.text_embeddings(tuple(map(str, range(1000))))
    assert text.norm(dim=-1).allclose(torch.ones(1000))


# ------------------------------------------------------------------ the tool
@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Data and weights of the checkout are not found."""
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    """What the tool writes."""
    tool.main([MINI, *arguments, '--out', 'new/out.json'])
    return json.loads(Path('new/out.json').read_text())


@pytest.mark.parametrize('mode', ['train', 'test'])
def test_all_figures_are_written(mode, capsys):
    result = run('--mode', mode, *SMALL, '--queries', '8', '--compare-options', 'amp=True')
    out = capsys.readouterr().out
    for name in [*PARTS, *OWN[mode], 'decode_head.pixel_decoder', 'other', 'total']:
        assert f'| {name} ' in out
        for rows in (result['ranges'], result['comparison']['B']):
            assert rows[name]['median'] > 0
    assert result['clips'] == dict(height=32, width=64, frames=2, names=4, batch=1)
    ranges = result['ranges']
    assert sum(row['median'] for row in ranges.values()) == pytest.approx(2 * ranges['total']['median'])
    assert 0 < ranges['backbone']['flops'] < ranges['total']['flops']
    assert result['peak memory, MiB'] > 0 and result['clips a second'] > 0
    assert result['made_up_clips'] and 'MiB' in out


def test_several_configs_are_compared_in_one_run(capsys):
    result = run('--mode', 'test', *SMALL, '--no-flops', '--sounding', '2', '--compare', 'ovavss_mini_clip-rn.py', MINI)
    assert list(result['comparison']) == ['ovavss_mini_clip-rn', 'ovavss_mini']
    out = capsys.readouterr().out
    for label, rows in result['comparison'].items():
        assert rows['total']['median'] == pytest.approx(rows['total']['b'] / rows['total']['a'])
        assert f'{label} / A' in out
    with pytest.raises(SystemExit):
        tool.parse_args([MINI, '--compare', 'a/x.py', 'b/x.py'])
    assert "got ['x', 'x']" in capsys.readouterr().err


def test_more_names_than_labels():
    result = run('--mode', 'test', *SMALL, '--names', '300', '--no-flops')
    assert result['clips']['names'] == 300 and 'metric' not in result['ranges']
    assert 'flops' not in result['ranges']['total']
    assert any('no metric' in note for note in result['notes'])


@pytest.mark.parametrize('mode', ['train', 'loader'])
def test_the_data_of_the_config_are_used(mode, tmp_path):
    root = archive.write_archive(tmp_path / 'own', archive.CLIPS[:3])
    dataset = 'train_dataloader.dataset'
    options = ['--cfg-options', f'{dataset}.data_root={root}', f'{dataset}.base_names=all']
    few = ['--device', 'cpu', '--repeats', '2', '--warmup', '1', '--workers', '1', '--no-flops']
    result = run('--mode', mode, *few, *options)
    assert not result['made_up_clips']
    if mode == 'train':
        assert result['clips']['height'] == 96
    else:
        assert result['ranges']['LoadClipFrames']['median'] > 0
        assert result['clips a second, 0 workers'] > 0 < result['clips a second, 1 workers']


def test_growth(capfd):
    points = run('--mode', 'test', *SMALL, '--no-flops', '--grow', 'sounding', '2', '1')
    assert [point['settings']['sounding'] for point in points.values()] == [1, 2]
    assert '| classifier.clip_model ' in capfd.readouterr().out
    assert all(point['peak memory, MiB'] > 0 for point in points.values())
    points = run('--mode', 'test', *SMALL, '--checkpoint', 'gone.pth', '--grow', 'size', '32')
    assert 'no weights at gone.pth' in points['32']['error']


def test_exponents():
    point = lambda ms, memory: {'ranges': {'x': {'median': ms}}, 'peak memory, MiB': memory}  # noqa: E731
    table = tool.growth_table('frames', {1: point(9, 5), 2: point(4, 5), 4: point(16, 5)})
    assert re.search(r'\| x +\| 9000.0 \| 4000.0 \| 16000.0 \| +0.42 \|', table)
    assert re.search(r'\| peak memory, MiB +\|.*\| +0.00 \|', table)
    table = tool.growth_table('size', {8: point(2, 5), 16: point(8, 5)})
    assert re.search(r'\| x .* 1.00 \|', table), 'pixels count'


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--compile', 'nek'], "no part 'nek' to compile.*backbone, neck"),
        (['--compare-options', 'model.nek=1'], 'the model cannot be built: .*nek'),
        (['--checkpoint', 'gone.pth'], 'no weights at gone.pth'),
        (['--compare', 'gone.py'], "no config 'gone.py'"),
        (['--cfg-options', 'optim_wrapper.type=AmpOptimWrapper'], 'AmpOptimWrapper needs a GPU'),
        (['--cfg-options', 'optim_wrapper.optimizer.lrate=1'], "AdamW takes no 'lrate'; nearest known: lr"),
    ],
    ids=['compile', 'key', 'checkpoint', 'config', 'amp', 'optimizer'],
)
def test_mistakes_are_named(arguments, words):
    assert re.search(words, published.error_of(tool.main, [MINI, *SMALL, *arguments]))


def test_numbers_are_checked(capsys):
    for arguments, words in (
        (['--repeats', '0'], '--repeats must be at least 1, got 0'),
        (['--grow', 'depth', '3'], '--grow takes an axis of'),
    ):
        with pytest.raises(SystemExit):
            tool.main([MINI, *arguments])
        assert words in capsys.readouterr().err
