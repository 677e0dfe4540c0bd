# SPDX-License-Identifier: Apache-2.0
"""The readers of the formats' own libraries find what was labelled; those that are not installed are passed over."""

import json
import sys

import numpy as np
import pytest
from labelled_scenes import NAMES, assert_same, export, labelled, scene, truth
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from ovavss_mm.exports import to_detections
from ovavss_mm.exports.label_studio import brush_rle

LINES = [' '.join(name.split()) for name in NAMES]  # as formats of lines spell them
SCENES = [dict(seed=1, count=7, silence=0.3), dict(seed=2, size=(1, 1), count=3), dict(seed=4, count=4, linked=False)]
scenes = pytest.mark.parametrize('frames', [scene(**given) for given in SCENES], ids=['odd', 'pixel', 'names'])


@scenes
def test_pycocotools(frames, tmp_path, capsys):
    paths, _, _ = export(['coco'], frames, tmp_path)
    coco = COCO(str(paths['coco']))
    names = {entry['id']: entry['name'] for entry in coco.loadCats(coco.getCatIds())}
    got = [
        {x['track_id']: (names[x['category_id']], coco.annToMask(x).astype(bool)) for x in coco.imgToAnns[i]}
        for i in coco.getImgIds()
    ]
    assert_same(got, truth(frames))
    expected = [coco_mask.toBbox(x['segmentation']).tolist() for x in coco.loadAnns(coco.getAnnIds())]
    assert [x['bbox'] for x in coco.loadAnns(coco.getAnnIds())] == expected
    found = coco.loadRes(str(_results(paths['coco'])))  # as predictions to evaluate, too
    assert len(found.anns) == len(coco.anns)


def _results(path):
    """The annotations of a file as a list of results."""
    results = path.with_suffix('.results.json')
    results.write_text(json.dumps(json.loads(path.read_text())['annotations']))
    return results


@scenes
@pytest.mark.parametrize('kind', ['datumaro', 'mots'])
def test_datumaro(frames, kind, tmp_path):
    datumaro = pytest.importorskip('datumaro')
    paths, _, _ = export([kind], frames, tmp_path)
    data = datumaro.Dataset.import_from(str(paths[kind]), kind)
    names = [label.name for label in data.categories()[datumaro.AnnotationType.label].items]
    got = [
        {int(x.attributes['track_id']): (names[x.label], np.asarray(x.image, bool)) for x in item.annotations}
        for item in sorted(data, key=lambda item: item.id)
    ]
    if kind == 'datumaro':
        assert_same(got, truth(frames))
        assert [item.attributes['time'] for item in data] == [frame.time for frame in frames]
        assert all(x.object_id == x.attributes['track_id'] for item in data for x in item.annotations)
    else:
        assert_same(got, truth(frames), lambda name: ' '.join(name.split()))
    for item in data:
        assert item.media.data.shape == (*frames[0].label_map.shape, 3)


@scenes
def test_trackeval_mots(frames, tmp_path, capsys):
    datasets = pytest.importorskip('trackeval.datasets')
    paths, _, _ = export(['mots'], frames, tmp_path)
    config = dict(
        GT_FOLDER=str(tmp_path / 'export' / 'mots'),
        TRACKERS_FOLDER=str(tmp_path),
        TRACKERS_TO_EVAL=[],
        SEQ_INFO={paths['mots'].name: len(frames)},
        GT_LOC_FORMAT='{gt_folder}/{seq}/instances.txt',
        SKIP_SPLIT_FOL=True,
        PRINT_CONFIG=False,
    )
    raw = datasets.MOTSChallenge(config)._load_raw_file(None, paths['mots'].name, is_gt=True)
    names = (paths['mots'] / 'instances' / 'labels.txt').read_text('utf-8').split('\n')
    parts = zip(raw['gt_ids'], raw['gt_classes'], raw['gt_dets'], strict=True)
    got = [_decoded(ids % 1000, [names[i - 1] for i in kinds], masks) for ids, kinds, masks in parts]
    assert_same(got, truth(frames), lambda name: ' '.join(name.split()))


@scenes
def test_trackeval_youtube_vis(frames, tmp_path):
    datasets = pytest.importorskip('trackeval.datasets')
    paths, _, _ = export(['youtube-vis'], frames, tmp_path)
    paths['youtube-vis'].parent.rename(tmp_path / 'youtube_vis_all')
    config = dict(GT_FOLDER=f'{tmp_path}/', TRACKERS_FOLDER=f'{tmp_path}/', TRACKERS_TO_EVAL=[], SPLIT_TO_EVAL='all')
    data = datasets.YouTubeVIS(config | dict(PRINT_CONFIG=False))
    assert data.seq_list == ['clip'] and data.class_list == list(NAMES)
    raw = data._load_raw_file(None, 'clip', is_gt=True)
    parts = list(zip(raw['gt_ids'], raw['gt_classes'], raw['gt_dets'], strict=True))
    kinds = {identity: kind for ids, found, _ in parts for identity, kind in zip(ids, found, strict=True)}
    got = [_decoded(ids, [NAMES[kinds[i] - 1] for i in ids], masks) for ids, _, masks in parts]
    expected = [{i: (NAMES[kinds[i] - 1], mask) for i, (_, mask) in frame.items()} for frame in truth(frames)]
    assert_same(got, expected)


def _decoded(ids, names, masks):
    """Names and masks by id, of RLEs."""
    return {
        int(i): (name, coco_mask.decode(mask).astype(bool)) for i, name, mask in zip(ids, names, masks, strict=True)
    }


@scenes
def test_label_studio_brushes(frames, tmp_path):
    brush = pytest.importorskip('label_studio_sdk.converter.brush')
    paths, _, _ = export(['label-studio'], frames, tmp_path)
    got = []
    for task in json.loads((paths['label-studio'] / 'images.json').read_text()):
        (prediction,) = task['predictions']
        got.append({})
        for x in prediction['result']:
            shape = x['original_height'], x['original_width'], 4
            channels = brush.decode_rle(x['value']['rle']).reshape(shape)
            got[-1][int(x['id'].removeprefix('object'))] = x['value']['brushlabels'][0], channels[..., 3] == 255
    assert_same(got, truth(frames))


@pytest.mark.parametrize('length', [1, 2, 3, 4, 5, 64, 65, 16384, 16385, 40000])
def test_brushes_of_long_runs(length):
    brush = pytest.importorskip('label_studio_sdk.converter.brush')
    mask = np.zeros((1, 40001), bool)
    mask[:, :length] = True
    assert (brush.decode_rle(brush_rle(mask)).reshape(1, -1, 4) == mask[..., None] * 255).all()


@pytest.mark.parametrize('config', ['images', 'timeline'])
def test_label_studio_configs(config, tmp_path):
    pytest.importorskip('jsonschema')
    interface = pytest.importorskip('label_studio_sdk.label_interface')
    paths, _, _ = export(['label-studio'], scene(5, count=4, silence=0), tmp_path)
    labels = interface.LabelInterface((paths['label-studio'] / f'{config}.xml').read_text('utf-8'))
    for task in json.loads((paths['label-studio'] / f'{config}.json').read_text()):
        assert labels.validate_task(dict(data=task['data']))
        for prediction in task['predictions']:
            assert labels.validate_prediction(prediction, return_errors=True) == []
            assert all(labels.validate_region(region) for region in prediction['result'])


@pytest.mark.parametrize('fps', [1, 4])
def test_webvtt_and_srt(fps, tmp_path):
    webvtt, srt = pytest.importorskip('webvtt'), pytest.importorskip('srt')
    frames = scene(6, count=9, fps=fps)
    paths, _, _ = export(['vtt', 'srt'], frames, tmp_path, fps=fps)
    cues = list(srt.parse(paths['srt'].read_text('utf-8')))
    shown = [(cue.start.total_seconds(), cue.end.total_seconds(), cue.content) for cue in cues]
    for j, frame in enumerate(frames):
        time = (j + 0.5) / fps
        lines = {line for start, end, text in shown if start <= time < end for line in text.splitlines()}
        assert lines == {f'[{LINES[label]}]' for label in frame.found}
    captions = webvtt.read(str(paths['vtt']))
    assert [(x.start_in_seconds, x.end_in_seconds) for x in captions] == [(int(a), int(b)) for a, b, _ in shown]
    texts = [cue.content.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;') for cue in cues]
    assert [x.raw_text for x in captions] == texts


@scenes
def test_supervision(frames, tmp_path):
    pytest.importorskip('supervision')
    for frame, expected in zip(frames, truth(frames), strict=True):
        found = to_detections(frame, NAMES)
        assert len(found) == len(expected) and found.mask.dtype == bool and found.class_id.dtype == int
        names, ids = found.data['class_name'], found.tracker_id
        got = {int(i): (str(name), mask) for i, name, mask in zip(ids, names, found.mask, strict=True)}
        assert_same([got], [expected])
        for mask, box in zip(found.mask, found.xyxy, strict=True):
            rows, columns = np.nonzero(mask)
            assert tuple(box) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert [NAMES[i] for i in found.class_id] == list(names)
        if frame.objects:
            np.testing.assert_allclose(found.confidence, [x.score for x in frame.objects], rtol=1e-6)
            np.testing.assert_allclose(found.data['sound'], [x.sound for x in frame.objects], rtol=1e-6)


def test_supervision_of_an_empty_frame():
    supervision = pytest.importorskip('supervision')
    frame = labelled(0.0, np.zeros((4, 6), int), {}, np.random.default_rng(0))
    found = to_detections(frame, NAMES)
    assert len(found) == 0 and found.mask.shape == (0, 4, 6)
    assert len(supervision.Detections.merge([found, found])) == 0


def test_detections_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    frame = labelled(0.0, np.zeros((4, 6), int), {}, np.random.default_rng(0))
    with pytest.raises(ImportError, match=r"pip install 'ovavss_mm\[export\]'"):
        to_detections(frame, NAMES)
