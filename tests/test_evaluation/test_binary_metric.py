# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from ovavss_mm.evaluation import AVSBinaryMetric
from ovavss_mm.evaluation.binary_metric import NUM_THRESHOLDS


def videos(count: int = 4, frames: int = 5, size: tuple[int, int] = (9, 7)) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Logits and labels; the first frame of each video has no object."""
    torch.manual_seed(0)
    out = []
    for _ in range(count):
        labels = (torch.rand(frames, *size) > 0.6).to(torch.uint8)
        labels[0] = 0
        out.append((torch.randn(frames, *size) + 0.8 * labels, labels))
    return out


def evaluate(clips: list, batch: int = 1, **kwargs) -> dict[str, float]:
    metric = AVSBinaryMetric(**kwargs)
    for at in range(0, len(clips), batch):
        samples = [dict(seg_logits=dict(data=x), gt_sem_seg=dict(data=y)) for x, y in clips[at : at + batch]]
        metric.process({}, samples)
    return metric.evaluate(len(clips))


def slow_curve(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """F at every threshold, pixel by pixel compared with it."""
    probability, labels = logits.sigmoid(), labels > 0
    curve = []
    for threshold in torch.linspace(0, 1, NUM_THRESHOLDS):
        found = probability >= threshold
        right = (found & labels).sum()
        precision, recall = right / found.sum().clamp(min=1), right / labels.sum()
        total = 0.3 * precision + recall
        curve.append(float(1.3 * precision * recall / total) if total > 0 else 0.0)
    return np.array(curve)


def test_figures_by_hand():
    clips = videos()
    figures = evaluate(clips)
    j, f = [], []
    for logits, labels in clips:
        found, labels = logits > 0, labels > 0
        ious = [(a & b).sum() / (a | b).sum() for a, b in zip(found[1:], labels[1:], strict=True)]
        j.append([float(x) for x in [(~found[0]).float().mean(), *ious]])
        f.append([slow_curve(*frame) for frame in zip(logits[1:], labels[1:], strict=True)])
    assert figures['J_video'] == pytest.approx(100 * np.mean(j), abs=1e-4)
    assert figures['F_video'] == pytest.approx(100 * np.mean([np.mean(video, 0).max() for video in f]), abs=1e-4)
    assert figures['F_split'] == pytest.approx(100 * np.concatenate(f).mean(0).max(), abs=1e-4)
    assert figures['F_split'] < figures['F_video'], 'one threshold for all videos, not the best of each'


def test_nothing_depends_on_batch_or_order_and_the_split_counts_frames():
    clips = videos()
    clips[0] = tuple(part[:2] for part in clips[0])
    figures = evaluate(clips)
    assert evaluate(clips, batch=3) == evaluate(clips[::-1], batch=2) == figures
    assert figures['J_split'] != pytest.approx(figures['J_video']), 'a shorter video counts less'


def test_j_at_another_threshold_is_that_of_moved_logits():
    clips, plain = videos(), evaluate(videos())
    figures = evaluate(clips, thresholds=(0.5, 0.4))
    assert {key: figures[key] for key in plain} == plain
    moved = evaluate([(logits - torch.logit(torch.tensor(0.4)), labels) for logits, labels in clips])
    for key in ('J_video', 'J_split'):
        assert figures[f'{key}@0.4'] == pytest.approx(moved[key], abs=1e-4) != plain[key]
    rates = {'silent_pixel_fpr', 'silent_frame_fpr'}
    assert set(evaluate(clips, thresholds=(0.4,))) == {'J_video@0.4', 'J_split@0.4', 'F_video', 'F_split', *rates}


def test_frames_and_pixels_without_annotation_count_nowhere():
    clips = videos(1)
    logits, labels = (part.clone() for part in clips[0])
    labels[3] = 255
    kept = [0, 1, 2, 4]
    assert evaluate([(logits, labels)]) == evaluate([(logits[kept], labels[kept])])
    labels[1, :, 4:] = 255
    other = logits.clone()
    other[1, :, 4:] = 50
    assert evaluate([(logits, labels)]) == evaluate([(other, labels)])


def test_a_video_without_object_has_j_alone():
    figures = evaluate([(torch.full((5, 4, 4), -1.0), torch.zeros(5, 4, 4))])
    assert figures['J_video'] == 100 and np.isnan(figures['F_video']) and np.isnan(figures['F_split'])


def test_wrong_inputs_are_named():
    with pytest.raises(KeyError, match='clip a has no seg_logits: AVSBinaryMetric is for dense heads of one class'):
        AVSBinaryMetric().process({}, [dict(clip_id='a', gt_sem_seg={})])
    with pytest.raises(ValueError, match=r'logits \(5, 9, 7\) and label \(4, 9, 7\)'):
        evaluate([(videos(1)[0][0], videos(1)[0][1][:4])])
    with pytest.raises(ValueError, match='beta2 must be positive, got 0'):
        AVSBinaryMetric(beta2=0)
    for wrong in ((), (1.0,), (0.5, -0.1)):
        with pytest.raises(ValueError, match='thresholds must be some of'):
            AVSBinaryMetric(thresholds=wrong)


def test_other_sounds_have_rates_and_what_is_kept():
    """Figures are those with the own sound; where nothing visible sounds, all that is labelled is wrong."""
    clips, metric = videos(), AVSBinaryMetric()
    for sound, seen in (('own', True), ('noise', False), ('off_screen_0dB', True)):
        for logits, labels in clips:
            found = dict(seg_logits=dict(data=logits - int(sound != 'own')), gt_sem_seg=dict(data=labels))
            metric.process({}, [dict(found, sound=sound, sound_visible=seen)])
    figures, plain = metric.evaluate(12), evaluate(clips)
    assert {key: figures[key] for key in plain} == plain
    wrong = torch.stack([logits > 1 for logits, _ in clips]).float()
    assert figures['noise/silent_pixel_fpr'] == pytest.approx(100 * wrong.mean().item())
    assert figures['noise/FPR'] == pytest.approx(figures['noise/silent_pixel_fpr']), 'frames of one size'
    silent = torch.stack([logits[0] > 0 for logits, _ in clips]).float()
    assert figures['silent_pixel_fpr'] == pytest.approx(100 * silent.mean().item())
    assert figures['silent_frame_fpr'] == figures['noise/silent_frame_fpr'] == 100
    kept = 100 * figures['off_screen_0dB/J_split'] / figures['J_split']
    assert figures['off_screen_0dB/kept'] == pytest.approx(kept)
    assert 'noise/kept' not in figures and 'off_screen_0dB/FPR' not in figures
    with pytest.raises(ValueError, match='nothing to evaluate: no clip was processed'):
        metric.compute_metrics([])


def test_of_a_model_that_finds_nothing_nothing_is_kept():
    metric = AVSBinaryMetric(thresholds=(0.4,))
    label = torch.ones(1, 3, 3)
    for sound in ('own', 'off_screen_0dB'):
        metric.process({}, [dict(seg_logits=dict(data=-9 * label), gt_sem_seg=dict(data=label), sound=sound)])
    figures = metric.evaluate(2)
    assert figures['J_split@0.4'] == figures['off_screen_0dB/J_split@0.4'] == 0
    assert np.isnan(figures['off_screen_0dB/kept'])
