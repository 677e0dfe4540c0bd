# SPDX-License-Identifier: Apache-2.0
"""Hooks that draw, on a runner that only has what they use."""

import logging
from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from PIL import Image

import ovavss_mm  # noqa: F401
from ovavss_mm.datasets.transforms import LoadClipFrames
from ovavss_mm.engine.hooks import AVSegVisualizationHook, ContactSheetHook
from ovavss_mm.engine.hooks.contact_sheet_hook import spread
from ovavss_mm.engine.hooks.visualization_hook import read_frames
from ovavss_mm.visualization import AVSegVisualizer

NAMES = ('bell', 'cat')


def make_sample(folder, index: int, num_frames: int = 2) -> SegDataSample:
    """A data sample whose frames are on disk, grey level 10 * index + t."""
    paths = []
    for t in range(num_frames):
        paths.append(str(folder / f'clip{index}' / f'{t}.png'))
        mmcv.imwrite(np.full((12, 16, 3), 10 * index + t, np.uint8), paths[-1])
    sample = SegDataSample(metainfo=dict(clip_id=f'clip{index}', frame_paths=paths, vocabulary=NAMES))
    maps = torch.zeros(num_frames, 12, 16, dtype=torch.uint8)
    sample.gt_sem_seg = PixelData(data=maps + 1)
    sample.pred_sem_seg = PixelData(data=maps + 2)
    return sample


class Recorder:
    """Stands in for a visualizer and notes what it is asked to draw."""

    def __init__(self) -> None:
        self.calls, self.titles = [], []

    def add_datasample(self, name, image, data_sample, step, title, **_):
        """Note a call."""
        self.calls.append((name, int(image[0, 0, 0, 0]), step))
        self.titles.append(title)


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    out = Recorder()
    monkeypatch.setattr(Visualizer, 'get_current_instance', classmethod(lambda cls: out))
    return out


def test_frames_are_read_as_rgb_in_order(tmp_path):
    sample = make_sample(tmp_path, 1, num_frames=3)
    red = np.zeros((12, 16, 3), np.uint8)
    red[..., 2] = 255  # the writer takes BGR
    mmcv.imwrite(red, sample.frame_paths[2])
    frames = read_frames(sample)
    assert frames.shape == (3, 12, 16, 3) and frames.dtype == np.uint8
    assert frames[:, 0, 0].tolist() == [[10] * 3, [11] * 3, [255, 0, 0]]


def test_unreadable_frames_are_named(tmp_path):
    sample = make_sample(tmp_path, 1)
    mmcv.imwrite(np.zeros((5, 5, 3), np.uint8), sample.frame_paths[1])
    with pytest.raises(ValueError, match=r'0\.png has .*1\.png has '):
        read_frames(sample)
    (tmp_path / 'clip1' / '1.png').write_bytes(b'no picture')
    with pytest.raises(OSError, match=r'cannot read the picture .*1\.png: of none of the formats JPEG, PNG, BMP, WEBP'):
        read_frames(sample)
    with pytest.raises(KeyError, match='frame_paths'):
        read_frames(SegDataSample())


@pytest.mark.parametrize('batch_size', [1, 2, 5])
def test_every_third_clip_is_drawn_whatever_the_batch_size(tmp_path, recorder, batch_size):
    samples = [make_sample(tmp_path, k) for k in range(5)]
    hook = HOOKS.build(dict(type='AVSegVisualizationHook', draw=True, interval=3))
    for _ in range(2):  # counting starts anew with each epoch
        hook.before_test_epoch(None)
        for start in range(0, 5, batch_size):
            hook.after_test_iter(None, start, {}, samples[start : start + batch_size])
    assert recorder.calls == [('test_clip0', 0, 0), ('test_clip3', 30, 3)] * 2

    recorder.calls.clear()
    runner = SimpleNamespace(iter=40)
    hook.before_val_epoch(runner)
    for start in range(0, 5, batch_size):
        hook.after_val_iter(runner, start, {}, samples[start : start + batch_size])
    assert recorder.calls == [('val_clip0', 0, 40), ('val_clip3', 30, 40)]


@pytest.mark.parametrize('batch_size', [1, 2, 7])
def test_each_validation_draws_the_same_few_clips(tmp_path, recorder, batch_size):
    samples = [make_sample(tmp_path, k) for k in range(7)]
    hook = HOOKS.build(dict(type='AVSegVisualizationHook', draw=True, val_clips=3))
    loader = SimpleNamespace(dataset=range(7))
    for iteration in (100, 200):
        runner = SimpleNamespace(iter=iteration, val_dataloader=loader)
        hook.before_val_epoch(runner)
        for start in range(0, 7, batch_size):
            hook.after_val_iter(runner, start, {}, samples[start : start + batch_size])
    expected = [(f'val_clip{k}', 10 * k, i) for i in (100, 200) for k in (0, 3, 6)]
    assert recorder.calls == expected
    assert recorder.titles[:4] == [*(f'clip{k}, iteration 100' for k in (0, 3, 6)),
                                   'clip0, iteration 200']  # fmt: skip
    hook.before_test_epoch(None)
    hook.after_test_iter(None, 0, {}, samples)  # goes by the interval, 50
    assert recorder.calls[6:] == [('test_clip0', 0, 0)] and recorder.titles[6:] == ['clip0']
    samples[0].set_metainfo(dict(sound='noise'))
    hook.before_test_epoch(None)
    hook.after_test_iter(None, 0, {}, samples[:1])
    assert recorder.titles[7:] == ['clip0, sound: noise']


def test_several_processes_choose_from_their_share(recorder, monkeypatch):
    monkeypatch.setattr('ovavss_mm.engine.hooks.visualization_hook.get_world_size', lambda: 2)
    hook = AVSegVisualizationHook(draw=True, val_clips=2)
    hook.before_val_epoch(SimpleNamespace(val_dataloader=SimpleNamespace(dataset=range(9))))
    assert hook._wanted == {0, 4}  # of the clips 0, 2, 4, 6, 8


def test_frames_are_those_of_the_pipeline(tmp_path):
    sample = make_sample(tmp_path, 0)
    gradient = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)
    paths = [str(tmp_path / f'{t}.jpg') for t in range(2)]
    for path, quality in zip(paths, (30, 90), strict=True):
        Image.fromarray(gradient).save(path, quality=quality)
    sample.set_metainfo(dict(frame_paths=paths))
    loaded = LoadClipFrames()(dict(frame_paths=paths, frame_inds=np.arange(2)))['imgs']
    np.testing.assert_array_equal(read_frames(sample), loaded)
    whole = (tmp_path / '1.jpg').read_bytes()
    (tmp_path / '1.jpg').write_bytes(whole[: len(whole) // 2])  # OpenCV would fill in grey
    with pytest.raises(OSError, match=r'1\.jpg'):
        read_frames(sample)


def test_nothing_is_read_or_drawn_unless_asked(recorder):
    with pytest.warns(UserWarning, match='draw is False'):
        hook = AVSegVisualizationHook()
    hook.after_test_iter(None, 0, {}, [SegDataSample()])
    hook.after_val_iter(SimpleNamespace(iter=0), 0, {}, [SegDataSample()])
    assert recorder.calls == []


@pytest.mark.parametrize('interval', [0, -1, 1.5])
def test_interval_must_be_positive(recorder, interval):
    with pytest.raises(ValueError, match='interval'):
        AVSegVisualizationHook(draw=True, interval=interval)
    with pytest.raises(ValueError, match='val_clips must be a positive integer'):
        AVSegVisualizationHook(draw=True, val_clips=interval)


# ---------------------------------------------------------------------- contact sheet
def make_runner(folder, num_clips: int, visualizer=None) -> SimpleNamespace:
    """What the hook uses of a runner."""
    if visualizer is None:
        visualizer = AVSegVisualizer()
        visualizer.dataset_meta = dict(
            classes=('background', *NAMES),
            palette=[[0, 0, 0], [250, 10, 20], [10, 240, 30]],
            base_names=('bell',),
            novel_names=('cat',),
        )
    return SimpleNamespace(
        visualizer=visualizer,
        test_dataloader=SimpleNamespace(dataset=range(num_clips)),
        work_dir=str(folder),
        logger=logging.getLogger('test'),
    )


def run_test(hook, runner, samples) -> None:
    """A test epoch with batches of two."""
    hook.before_test_epoch(runner)
    for start in range(0, len(samples), 2):
        hook.after_test_iter(runner, start // 2, {}, samples[start : start + 2])
    hook.after_test_epoch(runner, metrics={})


@pytest.mark.parametrize(
    ('total', 'count', 'expected'),
    [(10, 1, [0]), (10, 4, [0, 3, 6, 9]), (3, 8, [0, 1, 2]), (0, 3, []), (5, 5, [0, 1, 2, 3, 4])],
)
def test_spread(total, count, expected):
    assert spread(total, count) == expected


def test_contact_sheet_shows_evenly_spread_clips(tmp_path, monkeypatch):
    samples = [make_sample(tmp_path / 'data', k) for k in range(7)]
    runner = make_runner(tmp_path / 'out', 7)
    drawn = []
    draw = runner.visualizer.draw_clip

    def noting(image, data_sample, **kwargs):
        drawn.append(data_sample.clip_id)
        return draw(image, data_sample, **kwargs)

    monkeypatch.setattr(runner.visualizer, 'draw_clip', noting)
    hook = HOOKS.build(dict(type='ContactSheetHook', num_clips=3, out_file='page.png'))
    run_test(hook, runner, samples)
    assert drawn == ['clip0', 'clip3', 'clip6']
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['page.png']
    with Image.open(tmp_path / 'out' / 'page.png') as image:
        page = np.asarray(image)
    for color in runner.visualizer.dataset_meta['palette'][1:]:  # written as RGB
        assert (page == np.array(color)).all(-1).sum() > 300


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr('ovavss_mm.engine.hooks.contact_sheet_hook.is_main_process', lambda: False)
    run_test(ContactSheetHook(), make_runner(tmp_path / 'out', 1), [make_sample(tmp_path, 0)])
    assert not (tmp_path / 'out').exists()


def test_contact_sheet_needs_the_visualizer_of_clips(tmp_path):
    with pytest.raises(TypeError, match='AVSegVisualizer.*not Recorder'):
        ContactSheetHook().before_test_epoch(make_runner(tmp_path, 1, visualizer=Recorder()))


@pytest.mark.parametrize('key', ['num_clips', 'num_frames', 'num_columns'])
def test_contact_sheet_arguments_must_be_positive(key):
    with pytest.raises(ValueError, match=f'{key} must be a positive integer, got 0'):
        ContactSheetHook(**{key: 0})
