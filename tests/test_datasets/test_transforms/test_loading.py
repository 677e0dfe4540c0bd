# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import archive
import numpy as np
import pytest
from PIL import Image

from ovavss_mm.datasets import LoadClipFrames, LoadClipLabels


def load(results: dict) -> dict:
    return LoadClipLabels()(LoadClipFrames()(results))


def test_frames(clip_results):
    results = clip_results()
    results['frame_inds'] = np.array([1, 4, 9])
    results = LoadClipFrames()(results)
    assert results['imgs'].shape == (3, *archive.SIZE, 3)
    assert results['imgs'].dtype == np.uint8
    assert results['ori_shape'] == results['img_shape'] == archive.SIZE
    expected = np.asarray(Image.open(results['frame_paths'][4]))
    assert np.array_equal(results['imgs'][1], expected)


def test_grey_frame_becomes_rgb(clip_results):
    results = clip_results()
    for path in results['frame_paths']:
        Image.fromarray(np.full(archive.SIZE, 77, np.uint8)).save(path)
    assert LoadClipFrames()(results)['imgs'].shape == (10, *archive.SIZE, 3)


def test_orientation_of_exif_is_followed(clip_results):
    results = clip_results()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    for path in results['frame_paths']:
        Image.fromarray(np.full((32, 24, 3), 77, np.uint8)).save(path, exif=exif)
    assert LoadClipFrames()(results)['imgs'].shape == (10, *archive.SIZE, 3)


def test_label_round_trip(clip_results):
    results = load(clip_results(a_obj='violin_dog'))
    clip = archive.Clip('c', 'violin_dog', 'test', 'v2')
    expected = np.stack([archive.label_map(clip, t) for t in range(10)])
    assert results['gt_seg_maps'].dtype == np.uint8
    assert np.array_equal(results['gt_seg_maps'], expected)
    assert set(np.unique(expected)) == {0, 3, 6}
    assert results['annotated'].all()


def test_only_first_frame_of_v1s_is_annotated(clip_results):
    results = load(clip_results(split='train', subset='v1s'))
    assert results['annotated'].tolist() == [True, False, False, False, False]
    assert set(np.unique(results['gt_seg_maps'][0])) == {0, 3}
    assert (results['gt_seg_maps'][1:] == 255).all()


def test_the_first_label_may_stand_for_all_frames(clip_results):
    results = clip_results(split='train', subset='v1s')
    one, all_of_them = load(dict(results)), LoadClipLabels(first_for_all=True)(LoadClipFrames()(results))
    assert all_of_them['annotated'].all()
    assert (all_of_them['gt_seg_maps'] == one['gt_seg_maps'][:1]).all()


def test_chosen_frames_without_annotation(clip_results):
    results = clip_results(split='train', subset='v1s')
    results['frame_inds'] = np.array([2, 3])
    results = load(results)
    assert results['annotated'].tolist() == [False, False]
    assert (results['gt_seg_maps'] == 255).all()


def test_clip_without_labels_gets_none(clip_results):
    results = clip_results()
    results['label_paths'] = [None] * 10
    results = load(results)
    assert 'gt_seg_maps' not in results
    assert not results['annotated'].any()


def test_names_that_are_not_listed_become_background(clip_results):
    results = clip_results(a_obj='violin_dog')
    results['names'] = ('dog', 'off-the-screen')
    assert set(np.unique(load(results)['gt_seg_maps'])) == {0, 3}
    results['names'] = ('h orse',)
    assert set(np.unique(load(results)['gt_seg_maps'])) == {0}


def test_paletted_label(clip_results):
    results = clip_results()
    expected = load(dict(results))['gt_seg_maps']
    for path in results['label_paths']:
        Image.open(path).convert('P', palette=Image.Palette.ADAPTIVE).save(path)
    assert np.array_equal(load(results)['gt_seg_maps'], expected)


def test_unknown_colours(clip_results):
    results = clip_results()
    path = results['label_paths'][6]
    colors = np.array(Image.open(path))
    colors[0, :7] = (1, 2, 3)
    colors[1, :2] = (0, 128, 192)  # of the map, but beyond the vocabulary
    Image.fromarray(colors).save(path)
    with pytest.raises(ValueError, match=r'9 pixels.* 6 names') as err:
        load(results)
    message = str(err.value)
    assert path in message
    assert '(2 such colours)' in message
    assert 'RGB (1, 2, 3), is in 7 pixels' in message


def test_label_of_another_size(clip_results):
    results = clip_results()
    archive.save_labels(Path(results['label_paths'][0]), np.zeros((10, 20), np.uint8))
    with pytest.raises(ValueError, match=r'0\.png has 20 x 10 pixels, its frame 32 x 24 pixels'):
        load(results)


def test_frame_of_another_size(clip_results):
    results = clip_results()
    Image.new('RGB', (20, 10)).save(results['frame_paths'][2])
    with pytest.raises(ValueError, match=r'0\.jpg has 32 x 24.*2\.jpg has 20 x 10'):
        LoadClipFrames()(results)


@pytest.mark.parametrize('content', [b'', b'no picture', 'truncated'])
@pytest.mark.parametrize('key', ['frame_paths', 'label_paths'])
def test_unreadable_picture(clip_results, key, content):
    results = clip_results()
    path = Path(results[key][3])
    if content == 'truncated':
        content = path.read_bytes()[: path.stat().st_size * 2 // 3]
    path.write_bytes(content)
    with pytest.raises(OSError, match=f'cannot read the picture .*{path.name}'):
        load(results)


def test_missing_picture(clip_results):
    results = clip_results()
    Path(results['frame_paths'][3]).unlink()
    with pytest.raises(FileNotFoundError, match=r'3\.jpg'):
        load(results)


def test_labels_after_flipping(clip_results):
    results = LoadClipFrames()(clip_results())
    results['flip'] = True
    with pytest.raises(ValueError, match='before FlipClip'):
        LoadClipLabels()(results)
