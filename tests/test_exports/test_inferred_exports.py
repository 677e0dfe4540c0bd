# SPDX-License-Identifier: Apache-2.0
"""Exports of videos: what the inferencer labelled, on the frames that were shown then, whole or not at all."""

import errno
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import plain_readers as plain
import pytest
from labelled_scenes import assert_same, truth
from mmengine.config import Config
from PIL import Image
from video_files import number_of, numbered, write_mp4

from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.video.outputs import LabelPictures
from ovavss_mm.apis.video.sources import open_source
from ovavss_mm.apis.video.video_source import VideoSource
from ovavss_mm.exports import FORMATS
from ovavss_mm.exports.base import objects_of
from ovavss_mm.exports.coco import CocoImages
from ovavss_mm.exports.cvat import Cvat
from ovavss_mm.exports.mots import Mots
from ovavss_mm.exports.subtitles import SubRip

NAMES = ['dog', 'a "red" car', 'R&B']
TIMES = [0.0, 0.1, 0.13, 0.9, 1.0, 1.05, 1.4, 2.2, 2.25, 2.9, 3.5, 3.6]  # of frames of a variable rate, in seconds


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """Frames whose number is in the picture, with sound."""
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, 60000)
    return write_mp4(tmp_path_factory.mktemp('video') / 'clip.mp4', numbered(len(TIMES)), TIMES, sound)


def frames_of(inferencer, inputs, **settings):
    """What is labelled."""
    return list(inferencer.stream(open_source(inputs), inferencer.make_request(NAMES, **settings)))


def read_all(folder, frames, name='clip'):
    """Compare all formats with labelled frames; gives the numbers of the video's own frames."""
    coco = json.loads((folder / 'coco' / f'{name}.json').read_text())
    numbers, expected = [image['frame'] for image in coco['images']], truth(frames, NAMES)
    assert_same(plain.read_coco(folder / 'coco' / f'{name}.json'), expected)
    assert_same(plain.read_youtube_vis(folder / 'youtube-vis' / f'{name}.json'), expected)
    assert_same(plain.read_mots(folder / 'mots' / name), expected)
    assert_same(plain.read_label_studio(folder / 'label-studio' / name), expected)
    assert_same(plain.read_datumaro(folder / 'datumaro' / name), expected)
    size = frames[0].label_map.shape
    first = [j for j, number in enumerate(numbers) if number not in numbers[:j]]
    shown = plain.read_cvat(folder / 'cvat' / f'{name}.xml', [numbers[j] for j in first], size)
    assert_same(shown, [expected[j] for j in first])
    return numbers


@pytest.mark.parametrize('fps', [1, 4])
def test_a_video_of_a_variable_frame_rate(inferencer, video, tmp_path, fps):
    """Labels and pictures are those of the frame that is shown at their time."""
    result = inferencer(str(video), NAMES, fps=fps, out_dir=tmp_path, export=list(FORMATS))
    frames = frames_of(inferencer, str(video), fps=fps)
    numbers = read_all(tmp_path / 'export', frames)
    assert any(frame.objects for frame in frames)
    rounding = 0.05  # a label may be of a frame that comes this much later
    assert all(TIMES[k] <= x.time + rounding for k, x in zip(numbers, frames, strict=True))
    assert all(TIMES[k + 1] > x.time for k, x in zip(numbers, frames, strict=True) if k + 1 < len(TIMES))
    files = sorted((tmp_path / 'export/frames/clip').iterdir())
    assert [number_of(np.asarray(Image.open(file))) for file in files] == numbers
    labels = [path.stem for path in sorted((tmp_path / 'pred/clip').iterdir())]
    assert [file.stem for file in files] == labels
    (prediction,) = result['predictions']
    times = {name: heard['intervals'] for name, heard in prediction['names'].items()}
    for kind, suffix in (('vtt', 'vtt'), ('srt', 'srt'), ('rttm', 'rttm'), ('audacity', 'txt')):
        got = getattr(plain, f'read_{kind}')(tmp_path / 'export' / kind / f'clip.{suffix}')
        assert set(got) == set(times)
        assert all(np.allclose(got[name], spans, atol=6e-4) for name, spans in times.items())
    assert set(prediction['files']) == {'video', 'labels', 'json', 'frames', *FORMATS}
    written = json.loads((tmp_path / 'pred/clip.json').read_text())
    assert written['notes'] == prediction['notes']
    assert any('clip: CVAT has one mask' in note for note in written['notes']) == (len(set(numbers)) < len(numbers))
    assert not list(tmp_path.rglob('.*'))


def test_without_a_linker_each_name_is_an_object(tiny, video, tmp_path):
    plainly = AVSegInferencer(Config(dict(tiny[0].to_dict(), linker=None)), tiny[1], device='cpu', show_progress=False)
    plainly(str(video), NAMES, out_dir=tmp_path, export=list(FORMATS))
    frames = frames_of(plainly, str(video))
    for frame in frames:
        found = list(objects_of(frame))
        assert [x.label for x, _ in found] == sorted(frame.found) and [x.id for x, _ in found] == [
            x.label + 1 for x, _ in found
        ]
        for x, mask in found:
            assert (mask == (frame.label_map == x.label + 1)).all()
            rows, columns = np.nonzero(mask)
            assert x.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    read_all(tmp_path / 'export', frames)


def test_an_array_of_one_odd_frame(inferencer, tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (1, 37, 53, 3), dtype=np.uint8)
    inferencer(dict(frames=frame, name='one'), NAMES, out_dir=tmp_path, export=list(FORMATS), no_save_pred=True)
    assert read_all(tmp_path / 'export', frames_of(inferencer, dict(frames=frame)), 'one') == [0]
    assert not (tmp_path / 'pred').exists()
    assert ElementTree.parse(tmp_path / 'export/cvat/one.xml').findtext('meta/task/source') == 'one'


def test_numbers_count_all_frames_that_are_decoded(video, monkeypatch):
    """Of two frames of one time the later one is shown, and the number is that of other decoders."""
    source = VideoSource(str(video))
    decoded = list(source._decode())[:5]
    decoded[2].pts = decoded[1].pts
    monkeypatch.setattr(source, '_decode', lambda: iter(decoded))
    assert [picture.number for picture in source.pictures()] == [0, 2, 3, 4]


# ------------------------------------------------------------------ whole or not at all
@pytest.mark.parametrize(
    ('owner', 'method'),
    [(CocoImages, 'write'), (Mots, '__init__'), (Cvat, 'finish'), (CocoImages, 'close'), (SubRip, 'finish')],
    ids=lambda value: getattr(value, '__name__', value),
)
def test_a_full_disk_leaves_nothing_half_written(inferencer, video, tmp_path, monkeypatch, owner, method):
    (tmp_path / 'export/coco').mkdir(parents=True)
    (tmp_path / 'export/coco/clip.json').write_text('of a run before')
    work = getattr(owner, method)

    def full(self, *args):
        work(self, *args)
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(owner, method, full)
    with pytest.raises(OSError, match='No space left'):
        inferencer(str(video), NAMES, out_dir=tmp_path, export=list(FORMATS))
    assert [path for path in tmp_path.rglob('*') if path.is_file()] == [tmp_path / 'export/coco/clip.json']
    assert (tmp_path / 'export/coco/clip.json').read_text() == 'of a run before'


@pytest.mark.parametrize('owner', [Image.Image, LabelPictures])
def test_a_disk_that_is_full_half_way(inferencer, video, tmp_path, monkeypatch, owner):
    """Pictures and label maps of the first seconds go, too, and exports when others fail."""
    method = 'save' if owner is Image.Image else 'write'
    work, calls = getattr(owner, method), []

    def full(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return work(*args, **kwargs)

    monkeypatch.setattr(owner, method, full)
    with pytest.raises(OSError, match='No space left'):
        inferencer(str(video), NAMES, out_dir=tmp_path, export=list(FORMATS))
    assert len(calls) == 3 and not [path for path in tmp_path.rglob('*') if path.is_file()]


def test_a_second_run_replaces_the_first(inferencer, video, tmp_path):
    for fps in (4, 1):
        inferencer(str(video), NAMES, fps=fps, out_dir=tmp_path, export=['mots', 'datumaro'])
    assert len(list((tmp_path / 'export/mots/clip/instances').glob('*.png'))) == 4
    assert len(list((tmp_path / 'export/datumaro/clip/images/default/clip').iterdir())) == 4
    assert len(list((tmp_path / 'export/frames/clip').iterdir())) == 4


# ------------------------------------------------------------------ what is asked for
@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(export=['coco', 'yolo']), "no export 'yolo' .*there are coco, youtube-vis, mots, cvat"),
        (dict(export='coco'), "a list of formats, .* got 'coco'"),
        (dict(export=['srt'], out_dir=None), r"export \['srt'\] needs out_dir \(--out-dir\)"),
    ],
)
def test_a_wrong_format_is_said_before_anything_is_labelled(inferencer, tmp_path, monkeypatch, settings, message):
    monkeypatch.setattr(inferencer, 'make_request', lambda *_, **__: 1 / 0)
    with pytest.raises(ValueError, match=message):
        inferencer('gone.mp4', NAMES, **(dict(out_dir=tmp_path / 'out') | settings))
    assert not (tmp_path / 'out').exists()


def test_no_export_by_default(inferencer, video, tmp_path):
    result = inferencer(str(video), NAMES, out_dir=tmp_path)
    assert set(result['predictions'][0]['files']) == {'video', 'labels', 'json'}
    assert not (tmp_path / 'export').exists()
