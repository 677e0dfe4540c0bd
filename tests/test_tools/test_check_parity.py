# SPDX-License-Identifier: Apache-2.0
"""This project gives what the published model gave, and the tool notices where it does not."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

tool = published.load_tool('analysis_tools/check_parity.py')

import parity  # noqa: E402  (the tool knows where it is)
from parity import loss, metric, ovavss  # noqa: E402
from parity.common import model_config, outlier_share  # noqa: E402


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
    return ovavss.build_model(ovavss.R50, published.shapes('r50'), seed=0)


# ------------------------------------------------------------------ the network
def test_r50_gives_what_the_published_model_gave(r50):
    fixture = published.fixture('r50')
    lines = ovavss.check_network(r50, fixture)
    assert {line.name for line in lines} == set(fixture) - {'images', 'audio', 'seed'}
    assert len(lines) >= 10 and failed(lines) == []
    assert all(line.difference < 1e-3 for line in lines), 'far below the bounds'


def test_every_altered_output_of_the_network_is_noticed(r50):
    fixture = published.fixture('r50')
    altered = dict(fixture)
    for name in set(fixture) - {'images', 'audio', 'seed'}:
        altered[name] = fixture[name].copy()
        altered[name].flat[7] += 2e-2  # one number of many
    lines = ovavss.check_network(r50, altered)
    assert len(lines) >= 10 and len(failed(lines)) == len(lines)


def test_other_frames_give_something_else(r50):
    fixture = published.fixture('r50')
    fixture['images'] = fixture['images'][::-1].copy()
    assert 'pred_logits' in failed(ovavss.check_network(r50, fixture))


def test_masks_may_differ_in_a_pixel_of_a_thousand(r50):
    fixture = published.fixture('r50')
    with torch.no_grad():
        clip = dict(imgs=[torch.from_numpy(fixture['images'])], audio=[torch.from_numpy(fixture['audio'])])
        inputs = r50.data_preprocessor(dict(inputs=clip))['inputs']
        feats = r50.extract_feat(inputs['imgs'][0][None], inputs['audio'][0][None])
        masks = r50.decode_head(feats).masks().numpy()
    assert masks.shape == (1, 100, 5, 24, 32)
    for share, passes in ((0.0005, True), (0.002, False)):
        altered = masks.copy()
        altered.flat[: int(share * masks.size)] += 1
        compared = parity.compare('pred_masks', masks, altered, 1e-3, outlier_share(5e-3))
        assert compared.passed == passes
    lines = ovavss.check_network(r50, {**fixture, 'pred_masks': altered})
    assert failed(lines) == ['pred_masks'] and 'largest difference 1.0e+00' in str(lines[-1])


def test_swin_b_gives_what_the_published_model_gave(tmp_path, capsys):
    """By way of the command line; the backbone is told from the file's name."""
    path = write(published.fixture('swinb'), tmp_path / 'swinb_seed0.npz')
    tool.main([path, '--state-dict', str(published.DATA / 'state_dict_swinb.json')])
    printed = capsys.readouterr().out
    assert 'swinb_seed0.npz: swinb' in printed
    assert printed.count(' ok ') >= 10 and 'FAILED' not in printed
    assert 'all outputs agree' in printed


# ------------------------------------------------------------------ end to end
def test_inference_end_to_end_gives_what_the_published_model_gave(r50):
    fixture = published.fixture('e2e_r50')
    order = np.random.RandomState(0).permutation(len(fixture['scores']))
    for name in ('scores', 'labels', 'masks'):
        fixture[name] = fixture[name][order]
    lines = ovavss.check_inference(r50, fixture)
    assert len(lines) == 4 and failed(lines) == [], 'pairs may come in any order'


def test_every_altered_output_of_the_inference_is_noticed(r50):
    fixture = published.fixture('e2e_r50')
    fixture['scores'][0] += 5e-3
    fixture['labels'][3] += 1
    fixture['masks'][2] ^= True
    fixture['label_map'][0, :4, :64] ^= 1
    assert len(failed(ovavss.check_inference(r50, fixture))) == 4


# ------------------------------------------------------------------ CLIP
def test_clip_gives_what_the_published_model_gave(tmp_path, capsys):
    path = write(published.fixture('clip'), tmp_path / 'clip_seed0.npz')
    tool.main([path, '--state-dict', str(published.DATA / 'state_dict_r50.json')])
    printed = capsys.readouterr().out
    assert 'clip_seed0.npz: clip' in printed and printed.count(' ok ') == 5


def test_every_altered_output_of_clip_is_noticed():
    classifier = ovavss.build_classifier(ovavss.R50, published.shapes('r50'), seed=0)
    fixture = published.fixture('clip')
    assert failed(ovavss.check_classifier(classifier, fixture)) == []
    for name, change in (('regions', 0.02), ('image_embeds', 2e-4), ('text_embeds', 2e-4), ('similarity', 0.02)):
        altered = {**fixture, name: fixture[name].copy()}
        altered[name].flat[5] += change
        assert failed(ovavss.check_classifier(classifier, altered)) == [name]
    classifier.anchor = 'center'
    assert 'regions' in failed(ovavss.check_classifier(classifier, fixture))


def test_another_seed_gives_something_else():
    classifier = ovavss.build_classifier(ovavss.R50, published.shapes('r50'), seed=1)
    lines = ovavss.check_classifier(classifier, published.fixture('clip'))
    assert failed(lines) == ['image_embeds', 'text_embeds', 'similarity']


# ------------------------------------------------------------------ losses
def test_losses_are_those_of_the_published_model():
    """At points that no border touches all of them; else those that no point touches."""
    lines = loss.check_loss(published.fixture('loss_inner'))
    assert len(lines) == 8 and failed(lines) == []
    assert all(line.difference < 1e-5 for line in lines), 'far below the bound'
    lines = loss.check_matching(published.fixture('loss'))
    names = [f'{subset}/{what}' for subset in ('v2', 'v1s') for what in ('match', 'loss_ce')]
    assert [line.name for line in lines] == names and failed(lines) == []


def test_altered_losses_are_noticed():
    fixture = published.fixture('loss_inner')
    for name, change in (
        ('v2/loss_ce_4', 2e-4),
        ('v2/loss_mask_3', 2e-4),
        ('v2/loss_dice', 2e-4),
        ('v1s/loss_mask_8', -2e-4),
        ('v1s/loss_dice_0', float('nan')),
    ):
        fixture[name] = fixture[name] + change
    fixture['v1s/match_query'] = fixture['v1s/match_query'][::-1]
    wanted = ['v2/loss_ce', 'v2/loss_mask', 'v2/loss_dice']
    lines = loss.check_loss(fixture)
    assert failed(lines) == [*wanted, 'v1s/match', 'v1s/loss_mask', 'v1s/loss_dice']


def test_altered_matches_are_noticed(monkeypatch):
    monkeypatch.setattr(loss, '_DRAWS', 3)
    fixture = published.fixture('loss')
    fixture['v2/loss_ce'] = fixture['v2/loss_ce'] + 2e-4
    fixture['v1s/match_query'] = fixture['v1s/match_query'][::-1]
    assert failed(loss.check_matching(fixture)) == ['v2/loss_ce', 'v1s/match']


def test_losses_of_the_paper_are_others():
    config = model_config(loss.CONFIG)
    config.decode_head.criterion.loss_mask = dict(type='MaskFocalLoss', loss_weight=5.0)
    lines = loss.check_loss(published.fixture('loss_inner'), config)
    assert failed(lines) == ['v2/loss_mask', 'v1s/loss_mask']


# ------------------------------------------------------------------ metric
def test_metric_gives_what_the_published_one_gave(tmp_path, capsys):
    tool.main([write(published.fixture('metric'), tmp_path / 'metric.npz')])
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].endswith('metric.npz: metric')
    assert printed.count(' ok ') == 19 and 'mIoU no bg' not in printed


def test_every_altered_figure_of_the_metric_is_noticed():
    fixture = published.fixture('metric')
    figures = set(fixture) - {'gt', 'pred', 'frames_per_video', 'seed'}
    for name in figures:
        altered = {**fixture, name: np.array(fixture[name])}
        altered[name].flat[0] += 1e-5
        assert failed(metric.check_metric(altered)) == [name]


def test_a_class_that_is_absent_must_be_absent_in_both():
    fixture = published.fixture('metric')
    absent = np.flatnonzero(np.isnan(fixture['per_class_iou']))[0]
    fixture['per_class_iou'][absent] = 0
    lines = metric.check_metric(fixture)
    assert failed(lines) == ['per_class_iou']


# ------------------------------------------------------------------ the command line
def test_altered_fixture_fails_and_others_are_still_compared(tmp_path, capsys):
    fixture = published.fixture('metric')
    good = write(fixture, tmp_path / 'metric_seed1.npz')
    bad = write({**fixture, 'mean_iou': fixture['mean_iou'] + 1e-5}, tmp_path / 'metric_seed0_small.npz')
    with pytest.raises(SystemExit) as exit:
        tool.main([bad, good])
    assert exit.value.code == '1 outputs differ from the published model'
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if 'FAILED' in line]
    assert line.split()[0] == 'mean_iou' and '1.00e-05 of 1e-06' in line
    assert any('metric_seed1.npz' in line for line in lines)


def test_the_kind_is_told_from_the_name(tmp_path, capsys):
    """Or by an option; a further system adds a module, which adds kinds."""
    fixture = published.fixture('metric')
    other = write(fixture, tmp_path / 'other.npz')
    error = published.error_of(tool.main, [other])
    assert "'other' is no kind of fixture" in error and 'e2e_r50, e2e_swinb, gavs, ' in error
    tool.main([other, '--kind', 'metric'])
    assert 'other.npz: metric' in capsys.readouterr().out
    assert set(parity.CHECKS) >= {'r50', 'swinb', 'clip', 'loss', 'loss_inner', 'metric'}


def test_files_that_are_no_fixtures_are_named(tmp_path):
    good = write(published.fixture('clip'), tmp_path / 'clip.npz')
    assert 'no such file' in published.error_of(tool.main, ['clip_gone.npz', '--kind', 'clip']).lower()
    other = write({'x': np.zeros(2)}, tmp_path / 'loss.npz')
    assert 'loss.npz: it has no array' in published.error_of(tool.main, [other])
    (tmp_path / 'text_metric.npz').write_text('text')
    assert 'no .npz file' in published.error_of(tool.main, [str(tmp_path / 'text_metric.npz'), '--kind=metric'])
    (tmp_path / 'cut_metric.npz').write_bytes(Path(good).read_bytes()[:5000])
    assert 'no .npz file' in published.error_of(tool.main, [str(tmp_path / 'cut_metric.npz'), '--kind=metric'])
    assert 'state_dict_r50.json' in published.error_of(tool.main, [good])
    (tmp_path / 'state_dict_r50.json').write_text('[1]')
    assert 'must be {name: shape}' in published.error_of(tool.main, [good])
    np.savez(tmp_path / 'objects_metric.npz', gt=np.array([None]))
    assert 'no .npz file' in published.error_of(tool.main, [str(tmp_path / 'objects_metric.npz'), '--kind=metric'])


def test_names_that_do_not_fit_the_model_are_named():
    shapes = published.shapes('r50')
    shapes['sem_seg_head.predictor.query_feat.weight'] = [99, 256]
    with pytest.raises(ValueError, match=r'query_feat.weight is \(99, 256\), expected'):
        ovavss.build_model(ovavss.R50, shapes, seed=0)


# ------------------------------------------------------------------ lines
def test_arrays_of_another_shape_are_infinitely_far_apart():
    line = parity.compare('a', np.zeros((2, 3)), np.zeros((3, 2)), 1.0)
    assert line.difference == float('inf') and not line.passed and '(2, 3)' in str(line)


def test_undefined_values_must_be_undefined_in_both():
    one = np.array([1.0, np.nan])
    assert parity.compare('a', one, one, 0).passed
    assert not parity.compare('a', one, np.ones(2), 1).passed
    assert not parity.Line('a', (), float('nan'), 1.0).passed


def test_drawn_weights_follow_their_names():
    shapes = {'a.weight': [8], 'a.bias': [8], 'a.running_var': [8], 'b.weight': [64, 128], 'c': []}
    state = parity.draw_state({**shapes, 'x.relative_position_index': [4, 4]}, seed=0)
    assert {key: list(value.shape) for key, value in state.items()} == shapes
    assert abs(state['a.weight'].mean() - 1) < 0.1 and abs(state['a.bias'].mean()) < 0.1
    assert (state['a.running_var'] >= 1).all()
    assert abs(state['b.weight'].std() * 128**0.5 - 1) < 0.05
    other = parity.draw_state(shapes, seed=1)
    assert all(not torch.equal(state[key], other[key]) for key in shapes)


def test_a_fixture_may_bring_weights_and_have_whole_queries():
    shapes = {'p.query_feat.weight': [100, 64], 'b.weight': [8, 64], 'b.bias': [8], 'scale': []}
    drawn = parity.draw_state(shapes, seed=0)
    fixture = {'weight/b.bias': np.arange(8, dtype=np.float32), 'weight/scale': np.float32(4), 'images': np.zeros(2)}
    state = parity.draw_state(shapes, 0, fixture)
    assert torch.equal(state['b.bias'], torch.arange(8.0)) and state['scale'] == 4
    assert torch.equal(state['b.weight'], drawn['b.weight'])
    torch.testing.assert_close(state['p.query_feat.weight'], 8 * drawn['p.query_feat.weight'])
    for name, value in (('weight/c', np.zeros(8)), ('weight/b.bias', np.zeros(7))):
        with pytest.raises(ValueError, match=f'{name} .* replaces no weight'):
            parity.draw_state(shapes, 0, {name: value})
