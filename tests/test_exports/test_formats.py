# SPDX-License-Identifier: Apache-2.0
"""Every format holds the objects, names, masks and times that were labelled, by its definition."""

import json
import tempfile
import xml.etree.ElementTree as ElementTree

import numpy as np
import plain_readers as plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_scenes import NAMES, assert_same, export, labelled, scene, truth
from PIL import Image

from ovavss_mm.exports import FORMATS, check_formats

MASKS = ('coco', 'youtube-vis', 'mots', 'cvat', 'label-studio', 'datumaro')
TIMES = ('vtt', 'srt', 'rttm', 'audacity')
READERS = {**{kind: getattr(plain, f'read_{kind.replace("-", "_")}') for kind in (*MASKS, *TIMES)}}
one_line = {'mots', *TIMES}  # formats of lines, in which a name is one


def spelled(kind):
    """How a format spells names."""
    return (lambda name: ' '.join(name.split())) if kind in one_line else (lambda name: name)


def read(kind, path, numbers, size):
    """Read a format of masks."""
    return READERS[kind](path, numbers, size) if kind == 'cvat' else READERS[kind](path)


def assert_kept(frames, folder, names=NAMES, fps=1, **settings):
    """Whether all formats hold these frames; gives the paths, notes and numbers of frames."""
    numbers = settings.pop('numbers', None) or [round(10 * frame.time) for frame in frames]
    paths, notes, footer = export(FORMATS, frames, folder, names, fps, numbers=numbers, **settings)
    expected, size = truth(frames, names), frames[0].label_map.shape
    for kind in MASKS:
        assert_same(read(kind, paths[kind], numbers, size), expected, spelled(kind))
    intervals = {spelled('vtt')(name): heard['intervals'] for name, heard in footer['names'].items()}
    for kind in TIMES:
        got = READERS[kind](paths[kind])
        assert set(got) == set(intervals)
        for name, spans in intervals.items():
            np.testing.assert_allclose(got[name], spans, atol=6e-4)
    return paths, notes, footer


# ------------------------------------------------------------------ what is labelled is kept
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    size=st.sampled_from([(1, 1), (37, 53), (1, 40), (24, 8)]),
    count=st.integers(1, 9),
    fps=st.sampled_from([1, 4]),
    linked=st.booleans(),
    silence=st.sampled_from([0, 0.4, 1]),
)
def test_all_formats_keep_what_is_labelled(seed, size, count, fps, linked, silence):
    frames = scene(seed, size, count, fps, linked=linked, silence=silence)
    with tempfile.TemporaryDirectory() as folder:
        assert_kept(frames, folder, fps=fps, rate=10.0)


def test_frames_of_a_variable_rate(tmp_path):
    """CVAT shows the masks of a label in the frame that is shown then, and in no other one."""
    frames, numbers = scene(3, count=8, silence=0.4), [0, 1, 7, 8, 40, 41, 44, 90]
    paths, _, _ = assert_kept(frames, tmp_path, numbers=numbers)
    between = [*range(120)]
    shown = [truth(frames)[numbers.index(number)] if number in numbers else {} for number in between]
    assert_same(plain.read_cvat(paths['cvat'], between, (37, 53)), shown)


def test_labels_of_one_frame_of_the_video(tmp_path):
    """With more labels a second than pictures, CVAT has the first label of each picture, and the others a note."""
    frames = scene(5, count=8, fps=4, silence=0.2)
    paths, notes, _ = export(['cvat', 'coco'], frames, tmp_path, fps=4, numbers=[0, 0, 0, 0, 1, 1, 1, 1])
    assert_same(plain.read_cvat(paths['cvat'], [0, 1], (37, 53)), [truth(frames)[0], truth(frames)[4]])
    assert_same(plain.read_coco(paths['coco']), truth(frames))
    (note,) = notes
    assert note.startswith('CVAT') and '6 labelled frames' in note


@pytest.mark.parametrize('count', [255, 300])
def test_many_names(tmp_path, count):
    names = tuple(f'name {i}' for i in range(count))
    rng = np.random.default_rng(0)
    kinds = {1: 0, 2: count - 1, 3: 70, 4: 253}
    frames = [labelled(j, rng.integers(0, 5, (9, 11)), kinds, rng, num_names=count) for j in range(3)]
    paths, notes, _ = export(FORMATS, frames, tmp_path, names)
    for kind in MASKS:
        got = read(kind, paths[kind], [0, 10, 20], (9, 11))
        kept = [{i: x for i, x in frame.items() if kind != 'mots' or i == 1} for frame in truth(frames, names)]
        assert_same(got, kept)
    (note,) = notes
    assert note.startswith('MOTS') and '3 objects are left out' in note


def test_mots_leaves_out_no_name_for_its_ignored_regions(tmp_path):
    """Class 10 is nobody's; an id beyond 999, or a number beyond 16 bits, is left out, the rest stays."""
    names = ('ignored', *(f'name {i}' for i in range(69)))
    rng = np.random.default_rng(0)
    kinds = {1: 0, 2: 8, 3: 9, 535: 63, 536: 63, 7: 64, 1000: 1, 999: 2}
    frames = [labelled(0.0, rng.integers(0, 9, (30, 30)), kinds, rng, num_names=len(names))]
    paths, (note,), _ = export(['mots'], frames, tmp_path, names)
    kept = {i: found for i, found in truth(frames, names)[0].items() if i in (1, 2, 3, 535, 999)}
    assert_same(plain.read_mots(paths['mots']), [kept])
    assert '3 objects' in note
    picture = np.asarray(Image.open(next((paths['mots'] / 'instances').glob('*.png'))))
    assert 10 not in np.unique(picture // 1000) and picture.max() == 65535


def test_an_object_that_changes_its_name(tmp_path):
    """A track of YouTube-VIS has the name of most frames, and a note; in CVAT its masks are a group."""
    rng, one = np.random.default_rng(0), np.ones((4, 6), int)
    frames = [labelled(j, one, {7: label}, rng) for j, label in enumerate((0, 1, 1, 2))]
    paths, notes, footer = assert_kept(frames, tmp_path)
    (track,) = json.loads(paths['youtube-vis'].read_text())['annotations']
    assert (track['id'], track['category_id'], track['category_ids']) == (7, 2, [1, 2, 2, 3])
    assert footer['objects'][0]['name'] == NAMES[1]
    assert track['score'] == pytest.approx(np.mean([frame.objects[0].score for frame in frames]), abs=1e-4)
    (note,) = notes
    assert 'YouTube-VIS' in note and '1 objects' in note
    tracks = ElementTree.parse(paths['cvat']).findall('track')
    assert [(track.get('label'), track.get('group_id')) for track in tracks] == [
        (NAMES[label], '7') for label in (0, 1, 1, 2)
    ]


def test_two_objects_of_one_name(tmp_path):
    rng, both = np.random.default_rng(0), np.arange(24).reshape(4, 6) % 2 + 1
    paths, notes, _ = assert_kept([labelled(j, both, {1: 0, 2: 0}, rng) for j in range(2)], tmp_path)
    tracks = ElementTree.parse(paths['cvat']).findall('track')
    assert notes == [] and [track.get('group_id') for track in tracks] == ['1', '2', '1', '2']


def test_a_video_without_labels(tmp_path):
    """Every file is there, and says of each frame that there is nothing."""
    paths, notes, footer = assert_kept(scene(count=3, silence=1), tmp_path)
    assert notes == [] and footer['names'] == {}
    assert paths['vtt'].read_text() == 'WEBVTT\n' and not paths['srt'].read_text()
    assert all(path.exists() for path in paths.values())


# ------------------------------------------------------------------ scores, times, pictures
def test_scores_and_times(tmp_path):
    frames = scene(1, count=8, fps=4, silence=0.2)
    numbers = [0, 2, 5, 8, 10, 12, 15, 18]
    paths, _, _ = export(FORMATS, frames, tmp_path, fps=4, numbers=numbers)
    scores = [(x.score, x.sound) for frame in frames for x in frame.objects]
    coco = json.loads(paths['coco'].read_text())
    np.testing.assert_allclose([(x['score'], x['sound']) for x in coco['annotations']], scores, atol=1e-4)
    assert [(x['time'], x['frame']) for x in coco['images']] == [(j / 4, numbers[j]) for j in range(8)]
    (video,) = json.loads(paths['youtube-vis'].read_text())['videos']
    assert (video['times'], video['frames'], video['length']) == ([j / 4 for j in range(8)], numbers, 8)
    items = json.loads((paths['datumaro'] / 'annotations' / 'default.json').read_text())['items']
    found = [x['attributes'] for item in items for x in item['annotations']]
    np.testing.assert_allclose([(x['score'], x['sound']) for x in found], scores, atol=1e-4)
    assert [(x['attr']['time'], x['attr']['frame']) for x in items] == [(j / 4, numbers[j]) for j in range(8)]
    tasks = json.loads((paths['label-studio'] / 'images.json').read_text())
    results = [x for task in tasks for x in task['predictions'][0]['result']]
    np.testing.assert_allclose([x['score'] for x in results], [score for score, _ in scores], atol=1e-4)


def test_pictures_are_written_once_and_referred_to(tmp_path):
    frames = scene(count=3)
    paths, _, _ = export([*MASKS, 'srt'], frames, tmp_path, name='a ü#?')
    files = sorted(paths['frames'].iterdir())
    assert [file.name for file in files] == [f'{1000 * j:09d}.jpg' for j in range(3)]
    for j, file in enumerate(files):
        assert np.abs(np.asarray(Image.open(file)).astype(int) - 100 * j).max() <= 2
    coco = json.loads(paths['coco'].read_text())
    (video,) = json.loads(paths['youtube-vis'].read_text())['videos']
    referred = [x['file_name'] for x in coco['images']]
    assert referred == video['file_names'] == [f'a ü#?/{file.name}' for file in files]
    assert all((tmp_path / 'export' / 'frames' / name).is_file() for name in referred)
    for folder in (paths['mots'] / 'images', paths['datumaro'] / 'images' / 'default' / 'a ü#?'):
        assert [file.samefile(other) for file, other in zip(sorted(folder.iterdir()), files, strict=True)] == [True] * 3
    task = json.loads((paths['label-studio'] / 'images.json').read_text())[2]
    address = '/data/local-files/?d=export/frames/a%20%C3%BC%23%3F/000002000.jpg'
    assert task['data'] == dict(image=address, video='a ü#?', time=2.0, frame=20)


def test_pictures_are_copied_where_links_cannot_be(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(1, 'Operation not permitted')

    monkeypatch.setattr('os.link', no_links)
    paths, _, _ = export(['mots'], scene(count=2), tmp_path)
    for file in (paths['mots'] / 'images').iterdir():
        assert file.read_bytes() == (paths['frames'] / file.name).read_bytes()


@pytest.mark.parametrize('kinds', [TIMES, ('cvat',)])
def test_no_pictures_where_no_format_refers_to_them(tmp_path, kinds):
    paths, _, _ = export(kinds, scene(), tmp_path)
    assert set(paths) == set(kinds) and not (tmp_path / 'export' / 'frames').exists()


def test_label_studio_has_a_timeline(tmp_path):
    """Frames from 1, both ends inside, at the rate that is given with the task."""
    rng, one = np.random.default_rng(0), np.ones((4, 6), int)
    frames = [labelled(j, one, {1: 0} if j in (0, 1, 3) else {}, rng) for j in range(5)]
    paths, _, _ = export(['label-studio'], frames, tmp_path, rate=29.97)
    (task,) = json.loads((paths['label-studio'] / 'timeline.json').read_text())
    assert task['data'] == dict(video='/data/local-files/?d=vis/clip.mp4', fps=29.97)
    results = task['predictions'][0]['result']
    assert [x['value'] for x in results] == [
        dict(ranges=[dict(start=start, end=end)], timelinelabels=['dog']) for start, end in ((1, 60), (91, 120))
    ]
    root = ElementTree.parse(paths['label-studio'] / 'timeline.xml').getroot()
    assert root.find('Video').attrib == dict(name='video', value='$video', framerate='$fps')
    assert root.find('TimelineLabels').get('name') == results[0]['from_name']
    assert [label.get('value') for label in root.iter('Label')] == list(NAMES)


def test_cues_of_names_that_sound_together(tmp_path):
    """A cue wherever something changes, a line a name in the order of the names."""
    rng = np.random.default_rng(0)
    both = np.arange(24).reshape(4, 6) % 2 + 1
    kinds = ({1: 0}, {1: 0, 2: 5}, {2: 5}, {})
    frames = [labelled(j, both, kind, rng) for j, kind in enumerate(kinds)]
    paths, _, _ = export(['vtt', 'srt'], frames, tmp_path)
    assert paths['vtt'].read_text() == (
        'WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n[dog]\n\n00:00:01.000 --> 00:00:02.000\n[dog]\n[R&amp;B &lt;live&gt;]'
        '\n\n00:00:02.000 --> 00:00:03.000\n[R&amp;B &lt;live&gt;]\n'
    )
    assert paths['srt'].read_text().startswith('1\n00:00:00,000 --> 00:00:01,000\n[dog]\n\n2\n00:00:01,000 --> ')


def test_letters_that_xml_cannot_hold(tmp_path):
    """A mark stands in their place; the file can be read."""
    rng = np.random.default_rng(0)
    frames = [labelled(0.0, np.ones((4, 6), int), {1: 0}, rng)]
    paths, _, _ = export(['cvat', 'label-studio'], frames, tmp_path, ('odd\ufffe name\x07',))
    assert ElementTree.parse(paths['cvat']).find('track').get('label') == 'odd\ufffd name\ufffd'
    assert (
        ElementTree.parse(paths['label-studio'] / 'images.xml').find('.//Label').get('value') == 'odd\ufffd name\ufffd'
    )


# ------------------------------------------------------------------ which formats there are
@pytest.mark.parametrize(
    ('wanted', 'message'),
    [
        (
            ['coco', 'coca'],
            "no export 'coca'.*nearest: coco.*there are coco, "
            'youtube-vis, mots, cvat, label-studio, datumaro, vtt, srt, rttm, audacity',
        ),
        ('coco', "as .*, got 'coco'"),
        ([3], 'no export 3'),
    ],
)
def test_unknown_formats(wanted, message):
    with pytest.raises(ValueError, match=message):
        check_formats(wanted)


def test_formats_are_written_once():
    assert check_formats(['srt', 'coco', 'srt']) == ('srt', 'coco') and check_formats(()) == ()
