# SPDX-License-Identifier: Apache-2.0
"""The metric over whole splits: independence of batching, definitions, errors, saved maps."""

import math

import numpy as np
import pytest
import torch
from mmseg.registry import METRICS
from PIL import Image

import ovavss_mm  # noqa: F401
from ovavss_mm.evaluation import OVIoUMetric
from ovavss_mm.evaluation import functional as F

NAMES = ('bell', 'cat', 'dog', 'flute', 'harp', 'lion')
META = dict(
    classes=('background', *NAMES),
    palette=[[i, 2 * i, 3 * i] for i in range(7)],
    base_names=('bell', 'cat', 'dog', 'lion'),
    novel_names=('flute', 'harp'),
)


def sample(pred, label, clip='clip', **meta) -> dict:
    """A data sample as the evaluator hands it on."""
    return dict(
        pred_sem_seg=dict(data=torch.as_tensor(pred)),
        gt_sem_seg=dict(data=torch.as_tensor(label)),
        clip_id=clip,
        **meta,
    )


def random_samples(seed: int, num_clips: int = 7, classes: int = 7) -> list[dict]:
    """Clips of several lengths and sizes, one of them annotated in its first frame only."""
    rng = np.random.RandomState(seed)
    out = []
    for k in range(num_clips):
        shape = (rng.randint(1, 5), rng.randint(6, 12), rng.randint(6, 12))
        label = rng.randint(0, classes, shape).astype(np.uint8)
        pred = np.where(rng.rand(*shape) < 0.5, label, rng.randint(0, classes, shape))
        if k == 0:
            label[1:] = 255
        if k == 1:
            label[:] = 0
        out.append(sample(pred.astype(np.uint8), label, f'clip{k}'))
    return out


def run(batches: list[list[dict]], meta: dict = META, **kwargs) -> dict:
    """Evaluate batches of samples."""
    metric = OVIoUMetric(**kwargs)
    metric.dataset_meta = meta
    for batch in batches:
        metric.process({}, batch)
    return metric.evaluate(sum(map(len, batches)))


def same(a: dict, b: dict) -> bool:
    """Whether two results are equal to the last bit, NaN equal to NaN."""
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)


@pytest.mark.parametrize('seed', range(4))
def test_result_is_independent_of_order_and_batches(seed):
    samples = random_samples(seed)
    one_by_one = run([[s] for s in samples])
    order = np.random.RandomState(seed + 100).permutation(len(samples))
    shuffled = [samples[i] for i in order]
    assert same(one_by_one, run([samples]))
    assert same(one_by_one, run([shuffled[:3], shuffled[3:]]))


def test_processes_that_saw_parts_give_the_result_of_one():
    samples = random_samples(5)
    parts = []
    for rank in range(2):
        metric = OVIoUMetric()
        metric.dataset_meta = META
        for s in samples[rank::2]:
            metric.process({}, [s])
        parts.extend(metric.results)
    assert len(parts) == len(samples)
    assert same(metric.compute_metrics(parts), run([samples]))


def test_perfect_prediction_scores_hundred_and_nothing_false():
    samples = [s for s in random_samples(0) if s['clip_id'] != 'clip0']
    for s in samples:
        s['pred_sem_seg'] = s['gt_sem_seg']
    result = run([samples])
    rates = {k: v for k, v in result.items() if k.startswith('silent')}
    assert rates == dict(silent_pixel_fpr=0.0, silent_frame_fpr=0.0)
    for key, value in result.items():
        if key.startswith(('base_freqw', 'novel_freqw', 'harmonic_freqw')):
            assert 0 < value < 100  # shares of the whole
        elif key not in rates:
            assert value == pytest.approx(100), key


def test_swapped_labels_score_zero_for_the_names_only():
    label = np.zeros((2, 4, 4), dtype=np.uint8)
    label[:, :2, :2], label[:, 2:, 2:] = 1, 4
    pred = np.where(label == 1, 4, np.where(label == 4, 1, 0))
    result = run([[sample(pred, label)]])
    assert result['base_mIoU'] == result['novel_mIoU'] == result['harmonic_mIoU'] == 0
    assert result['mIoU_no_bg'] == 0
    assert result['IoU/background'] == 100
    assert result['mIoU'] == pytest.approx(100 / 3)
    assert result['overall_acc'] == 50
    assert result['J_frame'] == pytest.approx(100 / 3) and result['J_frame_no_bg'] == 0


def test_figures_follow_their_definitions():
    samples = random_samples(2)
    result = run([samples])
    confusion, j, f, jn = np.zeros((7, 7), dtype=int), [], [], []
    for s in samples:
        pred, label = (np.asarray(s[k]['data']).astype(int) for k in ('pred_sem_seg', 'gt_sem_seg'))
        frames = F.frame_confusion(pred, label, 7)
        confusion += frames.sum(0)
        j.append(F.frame_j_f(frames)[0])
        f.append(F.frame_j_f(frames)[1])
        jn.append(F.frame_j_f(frames, background=False)[0])
    iou = F.per_class_iou(confusion)
    base, novel = [1, 2, 3, 6], [4, 5]
    assert result['mIoU'] == pytest.approx(100 * iou.mean())
    assert result['mIoU_no_bg'] == pytest.approx(100 * iou[1:].mean())
    assert result['base_mIoU'] == pytest.approx(100 * iou[base].mean())
    assert result['novel_mIoU'] == pytest.approx(100 * iou[novel].mean())
    assert result['harmonic_mIoU'] == pytest.approx(
        200 * iou[base].mean() * iou[novel].mean() / (iou[base].mean() + iou[novel].mean())
    )
    assert result['IoU/harp'] == pytest.approx(100 * iou[5])
    for key, frames in dict(J_frame=j, F_frame=f).items():
        by_class = np.nanmean(np.concatenate(frames), axis=0)
        assert result[key] == pytest.approx(100 * by_class.mean())
    by_class = np.nanmean(np.concatenate(jn)[:, 1:], axis=0)
    assert result['J_frame_no_bg'] == pytest.approx(100 * by_class.mean())


def test_absent_classes_are_left_out():
    label = np.ones((1, 4, 4), dtype=np.uint8)  # 'bell' alone: no background, no novel name
    result = run([[sample(label, label)]])
    assert result['mIoU'] == result['mIoU_no_bg'] == result['base_mIoU'] == 100
    assert math.isnan(result['novel_mIoU']) and math.isnan(result['harmonic_mIoU'])
    assert math.isnan(result['silent_pixel_fpr']) and math.isnan(result['silent_frame_fpr'])
    assert [k for k in result if k.startswith('IoU/')] == ['IoU/bell']


def test_ignored_pixels_and_frames_do_not_count():
    samples = random_samples(3)
    before = run([samples])
    for s in samples:
        label = s['gt_sem_seg']['data']
        pred = s['pred_sem_seg']['data'].clone()
        pred[label == 255] = (pred[label == 255] + 1) % 7
        s['pred_sem_seg'] = dict(data=pred)
    assert any((s['gt_sem_seg']['data'] == 255).any() for s in samples)
    assert same(before, run([samples]))


def test_silent_frames_have_their_own_rates():
    label = np.zeros((4, 2, 5), dtype=np.uint8)
    label[3, 0, 0] = 1
    pred = np.zeros_like(label)
    pred[0, 0, :3] = 2
    pred[3] = 2
    result = run([[sample(pred, label)]])
    assert result['silent_pixel_fpr'] == pytest.approx(100 * 3 / 30)
    assert result['silent_frame_fpr'] == pytest.approx(100 / 3)


RATES = ('silent_pixel_fpr', 'silent_frame_fpr')


def test_frames_of_clips_that_are_not_heard_are_silent():
    label = np.zeros((4, 2, 5), dtype=np.uint8)
    label[0] = 1
    label[2] = 255
    label[3, 0] = 255
    pred = np.zeros_like(label)
    pred[0, 0] = 1  # as labelled, and yet not heard
    pred[2:, 0] = 2  # ignored
    result = run([[sample(pred, label, sound_visible=False)]])
    assert result['silent_pixel_fpr'] == pytest.approx(100 * 5 / 25)
    assert result['silent_frame_fpr'] == pytest.approx(100 * 1 / 3)
    heard = run([[sample(pred, label, sound_visible=True)]])
    assert heard['silent_pixel_fpr'] == heard['silent_frame_fpr'] == 0
    # clips of both kinds in one split: 15 pixels and 2 frames more, all right
    both = run([[sample(pred, label, sound_visible=False), sample(pred, label)]])
    assert both['silent_pixel_fpr'] == pytest.approx(100 * 5 / 40)
    assert both['silent_frame_fpr'] == pytest.approx(100 * 1 / 5)


def test_nothing_labelled_where_nothing_is_heard_is_no_false_positive():
    samples = random_samples(0)
    for s in samples:
        s['pred_sem_seg'] = dict(data=torch.zeros_like(s['gt_sem_seg']['data']))
        s['sound_visible'] = False
    result = run([samples])
    assert [result[key] for key in RATES] == [0, 0]
    assert result['base_mIoU'] == result['novel_mIoU'] == 0


@pytest.mark.parametrize('seed', range(3))
def test_what_is_heard_changes_the_rates_alone(seed):
    samples = random_samples(seed)
    silent = [{**s, 'sound_visible': False} for s in samples]
    before, after = run([samples]), run([silent])
    assert same(before, run([[{**s, 'sound_visible': True} for s in samples]]))
    assert before['silent_pixel_fpr'] != after['silent_pixel_fpr']
    for key in RATES:
        del before[key], after[key]
    assert same(before, after)


def test_rates_are_independent_of_order_batches_and_processes():
    samples = random_samples(1)
    for s in samples[::2]:
        s['sound_visible'] = False
    whole = run([samples])
    assert same(whole, run([[s] for s in samples[::-1]]))
    assert same(whole, run([samples[4:], samples[:4]]))
    parts = []
    for rank in range(2):
        metric = OVIoUMetric()
        metric.dataset_meta = META
        metric.process({}, samples[rank::2])
        parts += metric.results
    assert same(whole, metric.compute_metrics(parts))
    assert 0 < whole['silent_pixel_fpr'] < 100


def with_sounds(samples: list[dict]) -> list[dict]:
    """Clips with their own sound, with noise, and with an off-screen sound on top, of which a half is labelled."""
    noise = [{**s, 'sound': 'noise', 'sound_visible': False} for s in samples]
    maps = [s['pred_sem_seg']['data'] for s in samples]
    half = [dict(data=x * (torch.arange(x.shape[-1]) % 2)) for x in maps]
    mixed = [{**s, 'sound': 'off_screen_0dB', 'pred_sem_seg': h} for s, h in zip(samples, half, strict=True)]
    return [{**s, 'sound': 'own'} for s in samples] + noise + mixed


def test_each_sound_has_figures_of_its_own():
    samples = random_samples(1)
    everything = with_sounds(samples)
    result = run([everything])
    plain = run([samples])
    assert same(plain, {key: result[key] for key in plain})
    for sound in ('noise', 'off_screen_0dB'):
        alone = run([[s for s in everything if s['sound'] == sound]])
        keys = ('base_mIoU', 'novel_mIoU', 'harmonic_mIoU', 'silent_pixel_fpr', 'silent_frame_fpr')
        assert {result[f'{sound}/{key}'] for key in keys} == {alone[key] for key in keys}
    kept = 100 * result['off_screen_0dB/harmonic_mIoU'] / plain['harmonic_mIoU']
    assert result['off_screen_0dB/kept'] == pytest.approx(kept)
    assert 'noise/kept' not in result and 'off_screen_0dB/FPR' not in result
    assert same(result, run([[s] for s in everything[::-1]]))


def test_fpr_is_the_mean_share_of_the_picture_that_is_labelled():
    """Each frame counts the same, as AVSBench-Robust has it, and not each pixel."""
    small, large = np.zeros((1, 2, 2), dtype=np.uint8), np.zeros((1, 4, 8), dtype=np.uint8)
    labelled = np.ones_like(small)
    heard = dict(sound='silence', sound_visible=False)
    samples = [sample(labelled, small, **heard), sample(large, large, **heard)]
    result = run([[*samples, sample(labelled, labelled, sound='own')]])
    assert result['silence/FPR'] == 50
    assert result['silence/silent_pixel_fpr'] == pytest.approx(100 * 4 / 36)


def test_several_sounds_without_the_own_one_have_nothing_to_be_compared_with():
    other = [s for s in with_sounds(random_samples(0)) if s['sound'] != 'own']
    with pytest.raises(ValueError, match="with the sounds noise, off_screen_0dB, but not with their 'own'"):
        run([other])


def test_eval_size_resizes_both_maps():
    samples = random_samples(4)
    expected = []
    for s in samples:
        maps = [np.asarray(s[k]['data']) for k in ('pred_sem_seg', 'gt_sem_seg')]
        expected.append(sample(*(F.resize_nearest(m, (5, 3)) for m in maps)))
    resized = run([samples], eval_size=(5, 3))
    assert same(resized, run([expected]))
    assert not same(resized, run([samples]))


def test_beta_weighs_recall():
    label = np.zeros((1, 4, 4), dtype=np.uint8)
    label[:, :2] = 1
    pred = np.ones_like(label)  # recall 1, precision one half
    low, high = (run([[sample(pred, label)]], beta2=b)['F_frame_no_bg'] for b in (0.3, 4.0))
    assert low == high == 100  # without background pixels nothing was wrong
    low, high = (run([[sample(pred, label)]], beta2=b)['F_frame'] for b in (0.3, 4.0))
    assert low < high


def test_saved_maps_are_palette_pictures_of_the_prediction(tmp_path):
    s = random_samples(0)[2]
    count = len(s['pred_sem_seg']['data'])
    s.update(subset='v2', frame_paths=[f'/data/frames/{t + 3}.jpg' for t in range(count)])
    run([[s]], output_dir=str(tmp_path), eval_size=(2, 2))
    folder = tmp_path / 'v2' / 'clip2'
    assert sorted(p.name for p in folder.iterdir()) == [f'{t + 3}.png' for t in range(count)]
    for t, expected in enumerate(s['pred_sem_seg']['data'].numpy()):
        with Image.open(folder / f'{t + 3}.png') as image:
            assert image.mode == 'P'
            np.testing.assert_array_equal(np.asarray(image), expected)
            colors = np.asarray(META['palette'])[expected]
            np.testing.assert_array_equal(np.asarray(image.convert('RGB')), colors)
    run([[s | dict(sound='noise')]], output_dir=str(tmp_path))
    assert len(list((tmp_path / 'noise' / 'v2' / 'clip2').iterdir())) == count, 'not in the place of the others'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(clip_id='../x'), 'no folder name'),
        (dict(clip_id=''), 'no folder name'),
        (dict(frame_paths=['0.jpg']), '2 frames predicted, 1 frame_paths'),
    ],
)
def test_maps_are_not_saved_where_they_do_not_belong(tmp_path, change, message):
    maps = np.zeros((2, 3, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=message):
        run([[{**sample(maps, maps), **change}]], output_dir=str(tmp_path / 'out'))


def test_tables_show_summary_and_classes(monkeypatch):
    lines = []
    monkeypatch.setattr('ovavss_mm.evaluation.ov_iou_metric.print_log', lambda text, **_: lines.append(text))
    result = run([random_samples(1)])
    summary, classes = lines
    header = [cell.strip() for cell in summary.splitlines()[2].split('|')[1:5]]
    assert header == ['Base', 'Novel', 'Harmonic', 'mIoU']
    assert f'{result["harmonic_mIoU"]:.2f}' in summary
    rows = {r.split('|')[1].strip(): r for r in classes.splitlines() if r.count('|') > 3}
    assert set(META['classes']) < set(rows)
    assert ' novel ' in rows['harp'] and ' base ' in rows['cat']
    assert f'{result["IoU/harp"]:.2f}' in rows['harp']


def test_prefix_and_registry():
    metric = METRICS.build(dict(type='OVIoUMetric', eval_size=[4, 4], prefix='ov'))
    metric.dataset_meta = META
    metric.process({}, random_samples(1))
    assert 'ov/harmonic_mIoU' in metric.evaluate(7)


@pytest.mark.parametrize('missing', ['classes', 'base_names', 'novel_names'])
def test_missing_metainfo_is_named(missing):
    meta = {k: v for k, v in META.items() if k != missing}
    with pytest.raises(ValueError, match=missing):
        run([random_samples(0)], meta=meta)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(classes=NAMES), 'first class must be "background"'),
        (dict(novel_names=('harp', 'unicorn')), 'unicorn'),
        (dict(novel_names=('harp', 'cat')), "in both.*'cat'"),
    ],
)
def test_contradicting_metainfo_is_an_error(change, message):
    label = np.zeros((1, 2, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match=message):
        run([[sample(label, label)]], meta={**META, **change})


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(ValueError, match='no clip'):
        run([])
    label = np.full((1, 2, 2), 255, dtype=np.uint8)
    with pytest.raises(ValueError, match='labelled pixel'):
        run([[sample(label * 0, label)]])


def test_bad_samples_are_named():
    maps = np.zeros((2, 3, 4), dtype=np.uint8)
    with pytest.raises(ValueError, match=r'clip7.*\(2, 3, 3\).*\(2, 3, 4\)'):
        run([[sample(maps[..., :3], maps, 'clip7')]])
    with pytest.raises(ValueError, match=r'clip7.*label.*\[9\]'):
        run([[sample(maps, maps + 9, 'clip7')]])
    with pytest.raises(ValueError, match=r'clip7.*must be \(T, H, W\)'):
        run([[sample(maps[0], maps[0], 'clip7')]])
    with pytest.raises(ValueError, match='clip7.*vocabulary of 2 names'):
        run([[sample(maps, maps, 'clip7', vocabulary=('cat', 'bell'))]])
    with pytest.raises(KeyError, match='clip7: no gt_sem_seg'):
        run([[dict(pred_sem_seg=dict(data=maps), clip_id='clip7')]])


def test_contours_are_those_of_what_sounds_whatever_its_name():
    label = np.zeros((2, 12, 12), int)
    label[0, 2:6, 2:6] = 1
    near, far = np.where(label, 4, 0), np.zeros_like(label)
    far[:, 8:, 8:] = 1
    batches = [[sample(near, label, 'near'), sample(far, label, 'far')]]
    assert run(batches, boundary=True)['boundary_f'] == 50
    assert 'boundary_f' not in run(batches)
    label[0, :, 6:] = far[0, :, 6:] = 255
    far[far == 255] = 3
    far[0, 2:6, 2:6] = 2
    assert run([[sample(far, label)]], boundary=True)['boundary_f'] == 100, 'ignored pixels have no contour'
    assert math.isnan(run([[sample(near, 0 * near)]], boundary=True)['boundary_f'])


@pytest.mark.parametrize('kwargs', [dict(eval_size=(224,)), dict(eval_size=(0, 2)), dict(beta2=0), dict(beta2=-1)])
def test_bad_arguments_are_refused(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        OVIoUMetric(**kwargs)


def test_ignore_index_may_not_be_a_class():
    with pytest.raises(ValueError, match='ignore_index 3'):
        run([random_samples(0)], ignore_index=3)
