# SPDX-License-Identifier: Apache-2.0
"""This project gives what the published model gave, and the tool notices where it does not."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

from ovavss_mm.models.released import parity  # noqa: E402
from ovavss_mm.models.released.parity import loss as parity_loss  # noqa: E402
from ovavss_mm.models.released.parity.network import _outlier_share as outlier_share  # noqa: E402

tool = published.load_tool('analysis_tools/check_parity.py')
NAMES = tool.avsbench_names().names


def failed(lines: list) -> list[str]:
    """Names of the outputs that differ."""
    return [line.name for line in lines if not line.passed]


def write(fixture: dict, path: Path) -> str:
    """Write a fixture and return its path."""
    np.savez(path, **fixture)
    return str(path)


@pytest.fixture(scope='module')
def r50():
    """The R50 model with drawn weights, converted from a published checkpoint."""
    config = tool.read_model_config('r50')
    return parity.build_model(config, published.shapes('r50'), seed=0)


# ------------------------------------------------------------------ the network
def test_r50_gives_what_the_published_model_gave(r50):
    fixture = published.fixture('r50')
    lines = parity.check_network(r50, fixture)
    assert {line.name for line in lines} == set(fixture) - {'images', 'audio', 'seed'}
    assert len(lines) >= 10 and failed(lines) == []
    assert all(line.difference < 1e-3 for line in lines), 'far below the bounds'


def test_every_altered_output_of_the_network_is_noticed(r50):
    fixture = published.fixture('r50')
    altered = dict(fixture)
    for name in set(fixture) - {'images', 'audio', 'seed'}:
        altered[name] = fixture[name].copy()
        altered[name].flat[7] += 2e-2  # one number of many
    lines = parity.check_network(r50, altered)
    assert len(lines) >= 10 and len(failed(lines)) == len(lines)


def test_other_frames_give_something_else(r50):
    fixture = published.fixture('r50')
    fixture['images'] = fixture['images'][::-1].copy()
    assert 'pred_logits' in failed(parity.check_network(r50, fixture))


def test_masks_may_differ_in_a_pixel_of_a_thousand(r50):
    fixture = published.fixture('r50')
    with torch.no_grad():
        clip = dict(
            imgs=[torch.from_numpy(fixture['images'])], audio=[torch.from_numpy(fixture['audio'])]
        )
        inputs = r50.data_preprocessor(dict(inputs=clip))['inputs']
        feats = r50.extract_feat(inputs['imgs'][0][None], inputs['audio'][0][None])
        masks = r50.decode_head(feats).masks().numpy()
    assert masks.shape == (1, 100, 5, 24, 32)
    for share, passes in ((0.0005, True), (0.002, False)):
        altered = masks.copy()
        altered.flat[: int(share * masks.size)] += 1
        compared = parity.compare('pred_masks', masks, altered, 1e-3, outlier_share(5e-3))
        assert compared.passed == passes
    lines = parity.check_network(r50, {**fixture, 'pred_masks': altered})
    assert failed(lines) == ['pred_masks'] and 'largest difference 1.0e+00' in str(lines[-1])


def test_swin_b_gives_what_the_published_model_gave(tmp_path, capsys):
    """By way of the command line; the backbone is told from the file's name."""
    path = write(published.fixture('swinb'), tmp_path / 'swinb_seed0.npz')
    tool.main([path, '--state-dict', str(published.DATA / 'state_dict_swinb.json')])
    printed = capsys.readouterr().out
    assert 'network, swin-b, seed 0 (not in the fixture: feat_res2, ' in printed
    assert printed.count(' ok ') >= 10 and 'FAILED' not in printed
    assert 'all outputs agree' in printed


# ------------------------------------------------------------------ end to end
def test_inference_end_to_end_gives_what_the_published_model_gave(r50):
    fixture = published.fixture('e2e_r50')
    order = np.random.RandomState(0).permutation(len(fixture['scores']))
    for name in ('scores', 'labels', 'masks'):
        fixture[name] = fixture[name][order]
    lines = parity.check_end_to_end(r50, fixture, NAMES)
    assert len(lines) == 4 and failed(lines) == [], 'pairs may come in any order'


def test_every_altered_output_of_the_inference_is_noticed(r50):
    fixture = published.fixture('e2e_r50')
    fixture['scores'][0] += 5e-3
    fixture['labels'][3] += 1
    fixture['masks'][2] ^= True
    fixture['label_map'][0, :4, :64] ^= 1
    assert len(failed(parity.check_end_to_end(r50, fixture, NAMES))) == 4


# ------------------------------------------------------------------ CLIP
def test_clip_gives_what_the_published_model_gave(tmp_path, capsys):
    path = write(published.fixture('clip'), tmp_path / 'clip_seed0.npz')
    tool.main([path, '--state-dict', str(published.DATA / 'state_dict_r50.json')])
    printed = capsys.readouterr().out
    assert 'clip, seed 0' in printed and printed.count(' ok ') == 5


def test_every_altered_output_of_clip_is_noticed():
    classifier = parity.build_classifier(
        tool.read_model_config('r50'), published.shapes('r50'), seed=0
    )
    fixture = published.fixture('clip')
    assert failed(parity.check_clip(classifier, fixture, NAMES)) == []
    for name, change in (
        ('regions', 0.02),
        ('image_embeds', 2e-4),
        ('text_embeds', 2e-4),
        ('similarity', 0.02),
    ):
        altered = {**fixture, name: fixture[name].copy()}
        altered[name].flat[5] += change
        assert failed(parity.check_clip(classifier, altered, NAMES)) == [name]
    classifier.anchor = 'center'
    assert 'regions' in failed(parity.check_clip(classifier, fixture, NAMES))


def test_another_seed_gives_something_else():
    classifier = parity.build_classifier(
        tool.read_model_config('r50'), published.shapes('r50'), seed=1
    )
    lines = parity.check_clip(classifier, published.fixture('clip'), NAMES)
    assert failed(lines) == ['image_embeds', 'text_embeds', 'similarity']


# ------------------------------------------------------------------ losses
@pytest.fixture
def check_loss(monkeypatch):
    """Function that compares a loss fixture, with fewer draws."""
    monkeypatch.setattr(parity_loss, '_LOSS_DRAWS', 6)
    config = tool.read_model_config('r50')
    return lambda fixture, **kwargs: failed(parity.check_loss(config, fixture, **kwargs))


def test_losses_are_those_of_the_published_model_up_to_the_choice_of_points(check_loss):
    assert check_loss(published.fixture('loss')) == []


def test_altered_losses_are_noticed(check_loss, monkeypatch):
    monkeypatch.setattr(parity_loss, '_MATCH_DRAWS', 2)
    fixture = published.fixture('loss')
    for name, change in (
        ('v2/loss_ce_4', 2e-4),
        ('v2/loss_mask_3', 0.03),
        ('v2/loss_dice', 0.02),
        ('v1s/loss_mask_8', 0.03),
        ('v1s/loss_dice_0', float('nan')),
    ):
        fixture[name] = fixture[name] + change
    fixture['v1s/match_query'] = fixture['v1s/match_query'][::-1]
    wanted = ['v2/loss_ce', 'v2/loss_mask', 'v2/loss_dice']
    assert check_loss(fixture) == [*wanted, 'v1s/match', 'v1s/loss_mask', 'v1s/loss_dice']


def test_losses_of_the_paper_are_others(monkeypatch):
    monkeypatch.setattr(parity_loss, '_LOSS_DRAWS', 3)
    monkeypatch.setattr(parity_loss, '_MATCH_DRAWS', 1)
    config = tool.read_model_config('r50')
    config.decode_head.criterion.loss_mask = dict(type='MaskFocalLoss', loss_weight=5.0)
    lines = parity.check_loss(config, published.fixture('loss'))
    assert {'v2/loss_mask', 'v1s/loss_mask'} <= set(failed(lines))


# ------------------------------------------------------------------ metric
def test_metric_gives_what_the_published_one_gave(tmp_path, capsys):
    tool.main([write(published.fixture('metric'), tmp_path / 'a.npz')])
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].endswith('a.npz: metric')
    assert printed.count(' ok ') == 19 and 'mIoU no bg' not in printed


def test_every_altered_figure_of_the_metric_is_noticed():
    names, fixture = tool.avsbench_names(), published.fixture('metric')
    figures = set(fixture) - {'gt', 'pred', 'frames_per_video', 'seed'}
    for name in figures:
        altered = {**fixture, name: np.array(fixture[name])}
        altered[name].flat[0] += 1e-5
        assert failed(parity.check_metric(altered, names.base, names.novel)) == [name]


def test_a_class_that_is_absent_must_be_absent_in_both():
    names, fixture = tool.avsbench_names(), published.fixture('metric')
    absent = np.flatnonzero(np.isnan(fixture['per_class_iou']))[0]
    fixture['per_class_iou'][absent] = 0
    lines = parity.check_metric(fixture, names.base, names.novel)
    assert failed(lines) == ['per_class_iou']


# ------------------------------------------------------------------ the command line
def test_altered_fixture_fails_and_others_are_still_compared(tmp_path, capsys):
    fixture = published.fixture('metric')
    good = write(fixture, tmp_path / 'good.npz')
    bad = write({**fixture, 'mean_iou': fixture['mean_iou'] + 1e-5}, tmp_path / 'bad.npz')
    with pytest.raises(SystemExit) as exit:
        tool.main([bad, good])
    assert exit.value.code == '1 outputs differ from the published model'
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if 'FAILED' in line]
    assert line.split()[0] == 'mean_iou' and '1.00e-05 of 1e-06' in line
    assert any('good.npz' in line for line in lines)


@pytest.mark.parametrize(
    ('fixture', 'state_dict', 'given', 'found'),
    [
        ('a/r50_seed0.npz', None, None, ['r50']),
        ('swinb_seed3.npz', None, None, ['swin-b']),
        ('e2e_r50_seed1.npz', None, None, ['r50']),
        ('network.npz', 'b/state_dict_swinb.json', None, ['swin-b']),
        ('r50_seed0.npz', None, 'swin-b', ['swin-b']),
        ('r50/network.npz', None, None, ['r50', 'swin-b']),
    ],
)
def test_backbone_is_told_from_names(fixture, state_dict, given, found):
    assert tool.find_backbones(fixture, state_dict, given) == found


def test_files_that_are_no_fixtures_are_named(tmp_path):
    good = write(published.fixture('clip'), tmp_path / 'clip.npz')
    assert 'no such file' in published.error_of(tool.main, ['gone.npz']).lower()
    other = write({'x': np.zeros(2)}, tmp_path / 'other.npz')
    assert 'the arrays x are not those of' in published.error_of(tool.main, [other])
    (tmp_path / 'text.npz').write_text('text')
    assert 'no .npz file' in published.error_of(tool.main, [str(tmp_path / 'text.npz')])
    (tmp_path / 'cut.npz').write_bytes(Path(good).read_bytes()[:5000])
    assert 'no .npz file' in published.error_of(tool.main, [str(tmp_path / 'cut.npz')])
    assert 'state_dict_r50.json' in published.error_of(tool.main, [good])
    (tmp_path / 'state_dict_r50.json').write_text('[1]')
    assert 'must be {name: shape}' in published.error_of(tool.main, [good])
    np.savez(tmp_path / 'objects.npz', gt=np.array([None]))
    assert 'no .npz file' in published.error_of(tool.main, [str(tmp_path / 'objects.npz')])


def test_names_that_do_not_fit_the_model_are_named():
    shapes = published.shapes('r50')
    shapes['sem_seg_head.predictor.query_feat.weight'] = [99, 256]
    with pytest.raises(ValueError, match=r'query_feat.weight \(99, 256\), wanted as'):
        parity.build_model(tool.read_model_config('r50'), shapes, seed=0)


# ------------------------------------------------------------------ lines
def test_arrays_of_another_shape_are_infinitely_far_apart():
    line = parity.compare('a', np.zeros((2, 3)), np.zeros((3, 2)), 1.0)
    assert line.difference == float('inf') and not line.passed and '(2, 3)' in str(line)


def test_undefined_values_must_be_undefined_in_both():
    one = np.array([1.0, np.nan])
    assert parity.compare('a', one, one, 0).passed
    assert not parity.compare('a', one, np.ones(2), 1).passed
    assert not parity.Line('a', (), float('nan'), 1.0).passed


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('r50', 'network'),
        ('clip', 'clip'),
        ('e2e_r50', 'end to end'),
        ('loss', 'loss'),
        ('metric', 'metric'),
    ],
)
def test_kind_is_told_from_arrays(name, kind):
    assert parity.kind_of(published.fixture(name)) == kind
    with pytest.raises(ValueError, match='are not those of'):
        parity.kind_of({'x': np.zeros(1)})


def test_drawn_weights_follow_their_names():
    shapes = {'a.weight': [8], 'a.bias': [8], 'a.running_var': [8], 'b.weight': [64, 128], 'c': []}
    state = parity.draw_state({**shapes, 'x.relative_position_index': [4, 4]}, seed=0)
    assert {key: list(value.shape) for key, value in state.items()} == shapes
    assert abs(state['a.weight'].mean() - 1) < 0.1 and abs(state['a.bias'].mean()) < 0.1
    assert (state['a.running_var'] >= 1).all()
    assert abs(state['b.weight'].std() * 128**0.5 - 1) < 0.05
    other = parity.draw_state(shapes, seed=1)
    assert all(not torch.equal(state[key], other[key]) for key in shapes)
