# SPDX-License-Identifier: Apache-2.0
"""Sheets of clips: layout, and that they show what is in the data sample."""

import importlib.util
import io

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmengine.visualization import TensorboardVisBackend
from mmseg.registry import VISUALIZERS
from mmseg.structures import SegDataSample
from PIL import Image

import ovavss_mm  # noqa: F401
from ovavss_mm.datasets.palette import voc_palette
from ovavss_mm.visualization import AVSegVisualizer
from ovavss_mm.visualization.sheet import ClipView, _verdict, contact_sheet

NAMES = ('bell', 'cat', 'dog')
META = dict(
    classes=('background', *NAMES),
    palette=[[0, 0, 0], [250, 10, 20], [10, 240, 30], [5, 15, 230]],
    base_names=('bell', 'cat'),
    novel_names=('dog',),
)


@pytest.fixture
def visualizer() -> AVSegVisualizer:
    out = AVSegVisualizer()
    out.dataset_meta = META
    return out


def clip(num_frames: int = 3, height: int = 24, width: int = 32) -> tuple[np.ndarray, SegDataSample]:
    """Grey frames; truth 'bell' in a quarter, prediction 'cat' there."""
    image = np.full((num_frames, height, width, 3), 128, dtype=np.uint8)
    label = np.zeros((num_frames, height, width), dtype=np.uint8)
    label[:, : height // 2, : width // 2] = 1
    sample = SegDataSample(metainfo=dict(clip_id='c', vocabulary=NAMES))
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(label))
    sample.pred_sem_seg = PixelData(data=torch.from_numpy(label * 2))
    return image, sample


def count(sheet: np.ndarray, color) -> int:
    """Pixels of exactly this colour."""
    return int((sheet == np.array(color)).all(-1).sum())


def test_shape_grows_with_frames_and_rows(visualizer):
    image, sample = clip()
    sheet = visualizer.draw_clip(image, sample)
    assert sheet.dtype == np.uint8 and sheet.ndim == 3 and sheet.shape[2] == 3
    assert sheet.shape[1] > 3 * 160 and sheet.shape[0] > 3 * 120
    wider = visualizer.draw_clip(*clip(num_frames=4))
    assert wider.shape[0] == sheet.shape[0] and wider.shape[1] >= sheet.shape[1] + 160
    lower = visualizer.draw_clip(image, sample, draw_gt=False)
    assert lower.shape[0] <= sheet.shape[0] - 120
    frames_only = visualizer.draw_clip(image)
    assert 120 < frames_only.shape[0] < lower.shape[0]


def test_large_frames_are_shown_smaller(visualizer):
    assert visualizer.draw_clip(*clip(2, 600, 800)).shape[1] < 2 * 330 + 300


def test_names_have_their_palette_colours(visualizer):
    image, sample = clip()
    sheet = visualizer.draw_clip(image, sample)
    assert count(sheet, META['palette'][1]) > 500 and count(sheet, META['palette'][2]) > 500
    assert count(sheet, META['palette'][3]) == 0
    assert count(visualizer.draw_clip(image, sample, draw_pred=False), META['palette'][2]) == 0
    assert count(visualizer.draw_clip(image, sample, draw_gt=False), META['palette'][1]) == 0


def test_sheet_follows_the_prediction(visualizer):
    image, sample = clip()
    before = visualizer.draw_clip(image, sample)
    sample.pred_sem_seg.data[:] = 0
    after = visualizer.draw_clip(image, sample)
    assert count(after, META['palette'][2]) == 0 < count(before, META['palette'][2])
    assert count(after, META['palette'][1]) > 500


def test_activity_bars_are_filled_in_the_seconds_that_sound(visualizer):
    image, sample = clip()
    sample.gt_sem_seg.data[1:] = 0
    sample.pred_sem_seg.data[:] = 0

    def bars(activity):
        return count(visualizer.draw_clip(image, sample, activity=activity), META['palette'][1])

    one_second = bars(True) - bars(False)
    assert one_second == 160 * 12
    sample.gt_sem_seg.data[1, 3, 3] = 1
    assert bars(True) - bars(False) == 2 * one_second


@pytest.mark.parametrize(
    ('truth', 'pred', 'verdicts'),
    [
        ((1, 1, 0), (1, 0, 1), ['', 'missed', 'false']),
        ((0, 0, 0), (1, 0, 1), ['false', '', 'false']),
        ((255, 1, 255), (1, 1, 1), ['', '', '']),
    ],
    ids=['both', 'false', 'unlabelled'],
)
def test_bars_say_what_is_wrong(truth, pred, verdicts):
    maps = {
        row: np.broadcast_to(np.array(values)[:, None, None], (3, 4, 5))
        for row, values in (('truth', truth), ('prediction', pred))
    }
    frames = np.zeros((3, 4, 5, 3), np.uint8)
    view = ClipView(frames, maps, META['classes'], np.array(META['palette'], np.uint8))
    sounding = view.sounding()
    assert [_verdict(view, sounding, 'prediction', t, 1) for t in range(3)] == verdicts
    assert [_verdict(view, sounding, 'truth', t, 1) for t in range(3)] == [''] * 3
    view.maps = {'prediction': maps['prediction']}  # nothing to compare with
    assert _verdict(view, view.sounding(), 'prediction', 2, 1) == ''


def test_frames_without_label_have_no_truth(visualizer):
    image, sample = clip()
    full = count(visualizer.draw_clip(image, sample), META['palette'][1])
    sample.gt_sem_seg.data[1:] = 255
    first_only = count(visualizer.draw_clip(image, sample), META['palette'][1])
    assert 0 < first_only < full


def test_a_part_of_the_frames_can_be_shown(visualizer):
    image, sample = clip(num_frames=5)
    sample.gt_sem_seg.data[:] = 0
    sample.pred_sem_seg.data[:] = 0
    sample.pred_sem_seg.data[4] = 3
    with_it = visualizer.draw_clip(image, sample, frames=[0, 4])
    without = visualizer.draw_clip(image, sample, frames=[0, 1])
    assert with_it.shape[1] < visualizer.draw_clip(image, sample).shape[1]
    assert count(with_it, META['palette'][3]) > 0 == count(without, META['palette'][3])


def test_what_a_model_notes_of_its_frames_is_drawn(visualizer):
    """Names that are heard in a line of their own, boxes in the prediction; of the frames that are shown."""
    image, sample = clip()
    plain = visualizer.draw_clip(image, sample)
    notes = [
        dict(names=['cat'], boxes=[]),
        dict(names=[], boxes=[]),
        dict(names=['dog', 'bell'], boxes=[[8, 4, 24, 20]]),
    ]
    sample.set_metainfo(dict(frame_notes=notes, img_shape=(24, 32)))
    noted = visualizer.draw_clip(image, sample)
    assert noted.shape[0] == plain.shape[0] + 18 and noted.shape[1] == plain.shape[1]
    changed = (noted[-plain.shape[0] + 60 :] != plain[60:]).any((0, 2)).nonzero()[0]  # columns, below the seconds
    assert changed.min() > plain.shape[1] - 170 - 8 and len(changed) >= 80  # the third frame's, half of its width
    assert not np.array_equal(
        visualizer.draw_clip(image, sample, frames=[0, 1]), visualizer.draw_clip(image, sample, frames=[0, 2])
    )
    assert np.array_equal(
        visualizer.draw_clip(image, sample, draw_pred=False)[:40], visualizer.draw_clip(*clip(), draw_pred=False)[:40]
    )


def test_vocabulary_of_the_sample_wins(visualizer):
    image, sample = clip()
    sample.set_metainfo(dict(vocabulary=tuple(f'name{i}' for i in range(30))))
    sample.pred_sem_seg.data[sample.pred_sem_seg.data == 2] = 30
    assert count(visualizer.draw_clip(image, sample), voc_palette(31)[30]) > 500


def test_name_254_of_a_large_vocabulary_is_drawn_where_the_truth_has_no_label(visualizer):
    image, sample = clip()
    names = tuple(f'name{i}' for i in range(300))
    sample.set_metainfo(dict(vocabulary=names))
    sample.gt_sem_seg.data[:] = 255
    sample.pred_sem_seg.data = torch.full((3, 24, 32), 255, dtype=torch.int16)
    sheet = visualizer.draw_clip(image, sample)
    assert count(sheet, voc_palette(256)[255]) > 3 * 160 * 12, 'overlays and bars of the prediction'
    sample.pred_sem_seg.data = sample.gt_sem_seg.data
    assert count(visualizer.draw_clip(image, sample), voc_palette(256)[255]) == 0


def test_alpha_is_the_opacity_of_masks():
    image, sample = clip()
    red = []
    for alpha in (0.2, 0.9):
        v = AVSegVisualizer(alpha=alpha, classes=META['classes'], palette=META['palette'])
        sheet = v.draw_clip(image, sample, draw_pred=False, activity=False).astype(int)
        red.append((sheet[..., 0] - sheet[..., 1]).clip(0).sum())
    assert red[0] < red[1]
    with pytest.raises(ValueError, match='alpha'):
        AVSegVisualizer(alpha=1.5)


def test_titles_are_seconds_of_the_file_names(visualizer):
    image, sample = clip()
    sheets = []
    for stems in ('012', '345', 'abc'):
        sample.set_metainfo(dict(frame_paths=[f'/frames/{s}.jpg' for s in stems]))
        sheets.append(visualizer.draw_clip(image, sample))
    assert (sheets[0] != sheets[1]).any()
    assert (sheets[0] == sheets[2]).all()


def test_add_datasample_writes_a_file_or_hands_to_backends(tmp_path):
    image, sample = clip()
    v = VISUALIZERS.build(
        dict(
            type='AVSegVisualizer',
            name='test_add_datasample',
            vis_backends=[dict(type='LocalVisBackend')],
            save_dir=str(tmp_path),
        )
    )
    v.dataset_meta = META
    v.add_datasample('one', image, sample, out_file=str(tmp_path / 'new' / 'one.png'))
    with Image.open(tmp_path / 'new' / 'one.png') as written:
        expected = v.draw_clip(image, sample, title='one')
        np.testing.assert_array_equal(np.asarray(written), expected)
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['one.png']
    v.add_datasample('two', image, sample, step=7)
    assert [p.name for p in tmp_path.glob('**/two*')] == ['two_7.png']


def test_what_does_not_fit_is_named(visualizer):
    image, sample = clip()
    with pytest.raises(ValueError, match=r'truth maps.*\(3, 24, 32\).*\(2, 24, 32\)'):
        visualizer.draw_clip(image[:2], sample)
    with pytest.raises(ValueError, match='uint8 RGB'):
        visualizer.draw_clip(image.astype(np.float32), sample)
    sample.pred_sem_seg.data[0, 0, 0] = 9
    with pytest.raises(ValueError, match=r'prediction has indices \[9\]'):
        visualizer.draw_clip(image, sample)
    with pytest.raises(ValueError, match='min_width'):
        AVSegVisualizer(min_width=300, max_width=200)


def test_contact_sheet_holds_every_sheet():
    colors = [(10 * k, 5, 5) for k in range(1, 6)]
    sheets = [np.full((20 + k, 30, 3), c, np.uint8) for k, c in enumerate(colors)]
    page = contact_sheet(sheets, num_columns=2)
    for k, color in enumerate(colors):
        assert count(page, color) == (20 + k) * 30
    assert contact_sheet(sheets[:1], num_columns=2).shape[1] < page.shape[1]
    with pytest.raises(ValueError, match='at least one'):
        contact_sheet([])


@pytest.mark.parametrize(
    'backend',
    ['TensorboardVisBackend', 'mmengine.TensorboardVisBackend', TensorboardVisBackend],
    ids=['name', 'scope', 'class'],
)
def test_tensorboard_missing_is_said_at_once(monkeypatch, backend):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'tensorboard' else found(name))
    with pytest.raises(ImportError, match='pip install tensorboard'):
        AVSegVisualizer(vis_backends=[dict(type='LocalVisBackend'), dict(type=backend)])
    AVSegVisualizer(vis_backends=[dict(type='LocalVisBackend')])


def test_tensorboard_gets_sheets_with_their_step(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    v = AVSegVisualizer('test_tensorboard', vis_backends=[dict(type='TensorboardVisBackend')], save_dir=str(tmp_path))
    v.dataset_meta = META
    image, sample = clip()
    for step in (100, 200):
        v.add_datasample('val_c', image, sample, step=step, title=f'c, iteration {step}')
    v.close()
    events = EventAccumulator(str(tmp_path / 'vis_data'), size_guidance=dict(images=0)).Reload()
    pictures = events.Images('val_c')
    assert [picture.step for picture in pictures] == [100, 200]
    with Image.open(io.BytesIO(pictures[1].encoded_image_string)) as written:
        expected = v.draw_clip(image, sample, title='c, iteration 200')
        np.testing.assert_array_equal(np.asarray(written), expected)
