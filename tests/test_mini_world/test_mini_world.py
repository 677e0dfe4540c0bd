# SPDX-License-Identifier: Apache-2.0
"""The mini world: what it holds, and that it is the same each time."""

import csv
import dataclasses
import importlib.util
import json
import wave
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

import ovavss_mm  # noqa: F401
from ovavss_mm.datasets import AVSBenchOVDataset, read_metadata, select_clips, voc_index
from ovavss_mm.datasets.metadata import NUM_FRAMES
from ovavss_mm.mini_world import drawing, scene, sound, world
from ovavss_mm.mini_world.names import BASE_NAMES, NAMES, NOVEL_NAMES, split_name

ROOT = Path(__file__).parents[2]
PARAMS = world.WorldParams(seed=3, train=8, val=3, test=6)
ARGS = ['--seed', '3', '--train', '8', '--val', '3', '--test', '6']


def run_tool(*args):
    """Run the command line tool in this process."""
    path = ROOT / 'tools/dataset_converters/mini_world.py'
    spec = importlib.util.spec_from_file_location('mini_world_tool', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main([str(arg) for arg in args])


def tree_bytes(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp('world') / 'mini'
    run_tool('--out', root, '--workers', 1, *ARGS)
    return root


@pytest.fixture(scope='module')
def rows(small):
    with (small / 'metadata.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def read_labels(root, row):
    """All label maps of a clip, uint32 (files, H, W)."""
    folder = root / row['label'] / row['uid'] / 'labels_rgb'
    count = len(list(folder.iterdir()))
    colours = [cv2.imread(str(folder / f'{i}.png'))[..., ::-1] for i in range(count)]
    return voc_index(np.stack(colours))


def make_object(name='red-disc', **changes):
    obj = scene.sample_object(np.random.default_rng(0), name, (True,) * 5)
    return dataclasses.replace(obj, **changes)


# ---- names


def test_novel_names_recombine_attributes_of_base_names():
    assert len(NAMES) == 20 and len(BASE_NAMES) == 14 and len(NOVEL_NAMES) == 6
    assert sorted(BASE_NAMES + NOVEL_NAMES) == list(NAMES)
    for attribute in (0, 1):
        seen = Counter(split_name(name)[attribute] for name in BASE_NAMES)
        for name in NOVEL_NAMES:
            assert seen[split_name(name)[attribute]] >= 2, name


@pytest.mark.parametrize('name', ['dog', 'red_disc', 'disc-red'])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match=name):
        split_name(name)
    with pytest.raises(ValueError, match=name):
        scene.sample_scene(np.random.default_rng(0), (name,))


# ---- the archive


def test_bytes_depend_on_the_parameters_only(small, tmp_path):
    first = tree_bytes(small)
    assert len(first) > 100
    world.build_world(tmp_path / 'again', PARAMS, workers=2)
    assert tree_bytes(tmp_path / 'again') == first
    world.build_world(tmp_path / 'other', dataclasses.replace(PARAMS, seed=4))
    other = tree_bytes(tmp_path / 'other')
    audio = [path for path in first if path.endswith('.wav')]
    assert all(first[path] != other.get(path) for path in audio)


def test_files_of_each_clip(small, rows):
    assert list(rows[0]) == ['vid', 'uid', 's_min', 's_sec', 'a_obj', 'split', 'label']
    folders = {str(p.relative_to(small)) for subset in NUM_FRAMES for p in (small / subset).iterdir()}
    assert folders == {f'{row["label"]}/{row["uid"]}' for row in rows}
    for row in rows:
        folder = small / row['label'] / row['uid']
        seconds = 10 if row['label'] == 'v2' else 5
        frames = sorted((folder / 'frames').iterdir())
        assert [int(path.stem) for path in frames] == list(range(seconds))
        assert all(cv2.imread(str(path)).shape == (96, 128, 3) for path in frames)
        labelled = 1 if (row['split'], row['label']) == ('train', 'v1s') else seconds
        assert sorted(p.name for p in (folder / 'labels_rgb').iterdir()) == [f'{i}.png' for i in range(labelled)]
        with wave.open(str(folder / 'audio.wav')) as file:
            assert file.getparams()[:4] == (1, 2, 16000, seconds * 16000)


def test_labels_agree_with_the_tables(small, rows):
    index = json.loads((small / 'label2idx.json').read_text())
    assert list(index) == ['background', *NAMES] and list(index.values()) == list(range(21))
    for row in rows:
        listed = {index[name] for name in row['a_obj'].split('_')}
        labels = read_labels(small, row)
        assert set(np.unique(labels)) - {0} <= listed
        if row['label'] == 'v2' or row['split'] != 'train':
            # Each sounding object sounds, and is seen, in some second.
            assert set(np.unique(labels)) - {0} == listed
        else:
            assert labels.any(), 'the one label of a training clip must show something'


def test_rule_keeps_the_training_clips_asked_for(small, rows):
    base = (small / 'base_names.txt').read_text().split('\n')[:-1]
    assert base == sorted(BASE_NAMES)
    kept = select_clips(read_metadata(str(small / 'metadata.csv')), 'train', base=base)
    assert len(kept) == PARAMS.train
    dropped = [row for row in rows if row['split'] == 'train' and row not in kept]
    assert Counter(row['label'] == 'v1m' for row in dropped) == {True: 2, False: 1}
    # What is kept shows no novel name, not even a silent one.
    plans = {plan.uid: plan for plan in world.plan_world(PARAMS)}
    shown = {n for row in kept for n in plans[row['uid']].sounding + plans[row['uid']].silent}
    assert shown <= set(BASE_NAMES)


@pytest.mark.parametrize(('split', 'count'), [('train', 8), ('val', 3), ('test', 6)])
def test_dataset_reads_it(small, split, count):
    dataset = AVSBenchOVDataset(data_root=str(small), split=split, base_names='base_names.txt', pipeline=[])
    assert len(dataset) == count
    assert dataset.metainfo['classes'] == ('background', *NAMES)
    assert dataset.metainfo['novel_names'] == NOVEL_NAMES


def test_default_plan_is_balanced():
    plans = world.plan_world(world.WorldParams())
    assert len({plan.uid for plan in plans}) == len(plans)
    train = [p for p in plans if p.split == 'train']
    kept = [p for p in train if p.subset != 'v1m' and set(p.sounding) <= set(BASE_NAMES)]
    assert (len(kept), len(train)) == (480, 544)
    assert Counter(p.subset for p in kept) == {'v1s': 240, 'v2': 240}
    ms3 = {s: [p for p in plans if p.split == s and p.subset == 'v1m'] for s in ('train', 'val', 'test')}
    assert {s: len(found) for s, found in ms3.items()} == dict(train=54, val=8, test=24)
    assert all(len(p.sounding) == 2 for s in ('val', 'test') for p in ms3[s])
    test = [p for p in plans if p.split == 'test' and p.subset != 'v1m']
    assert Counter(p.subset for p in test) == {'v1s': 64, 'v2': 32}
    heard = Counter(name for plan in test for name in plan.sounding)
    assert set(heard) == set(NAMES) and min(heard.values()) >= 6
    assert Counter(len(p.sounding) for p in test) == {1: 72, 2: 24}
    with_silent = sum(bool(p.silent) for p in plans)
    assert with_silent > 0.6 * len(plans), 'most clips must show a silent object'


def test_complete_world_is_left_alone(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob('*')}
    assert world.build_world(small, PARAMS) is False
    assert {path: path.stat().st_mtime_ns for path in small.rglob('*')} == before


def test_other_world_is_replaced_by_force_only(tmp_path):
    tiny = world.WorldParams(train=1, val=0, test=0)
    world.build_world(tmp_path / 'mini', tiny)
    with pytest.raises(FileExistsError, match='--force'):
        world.build_world(tmp_path / 'mini', dataclasses.replace(tiny, seed=1))
    assert world.build_world(tmp_path / 'mini', dataclasses.replace(tiny, seed=1), force=True)
    assert json.loads((tmp_path / 'mini' / world.STAMP).read_text())['seed'] == 1


def test_other_folders_are_never_replaced(tmp_path):
    (tmp_path / 'thesis.txt').write_text('years of work')
    with pytest.raises(SystemExit, match='no mini world'):
        run_tool('--out', tmp_path, '--force', *ARGS)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


def test_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(world, '_write_tables', fail)
    with pytest.raises(OSError, match='disk full'):
        world.build_world(tmp_path / 'mini', world.WorldParams(train=1, val=0, test=0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('args', [dict(train=-1), dict(seed=-5)])
def test_negative_parameters_are_refused(args):
    with pytest.raises(ValueError, match='must not be negative'):
        world.WorldParams(**args)


# ---- scenes


def test_objects_sound_in_enough_seconds():
    rng = np.random.default_rng(0)
    patterns = [scene.sample_sounding(rng, 5) for _ in range(200)]
    assert min(map(sum, patterns)) >= 2 and any(sum(p) < 5 for p in patterns)
    for seed in range(20):
        names = ('red-disc', 'blue-star')
        made = scene.sample_scene(np.random.default_rng(seed), names, ('green-square',), sound_at_start=True)
        heard = [obj.name for obj in made.objects if any(obj.sounding)]
        assert sorted(heard) == sorted(names)
        first = next(obj for obj in made.objects if obj.name == names[0])
        silent = next(obj for obj in made.objects if obj.name == 'green-square')
        assert first.sounding[0] and not any(silent.sounding)


def test_objects_stay_in_the_frame():
    rng = np.random.default_rng(0)
    for _ in range(50):
        obj = scene.sample_object(rng, 'red-star')
        centres = np.array([obj.centre_at(time) for time in np.arange(0, 60, 0.5)])
        assert (centres > 0).all() and (centres < (128, 96)).all()
        assert abs(np.diff(centres, axis=0)).max() <= scene.MAX_SPEED / 2 + 1e-9


def test_scene_refuses_repeated_names_and_no_time():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match='once'):
        scene.sample_scene(rng, ('red-disc',), ('red-disc',))
    with pytest.raises(ValueError, match='num_seconds'):
        scene.sample_scene(rng, ('red-disc',), num_seconds=0)


# ---- pictures


@pytest.mark.parametrize('name', ['red-disc', 'blue-square', 'green-triangle', 'purple-star'])
def test_label_is_where_the_paint_is(name):
    obj = make_object(name, start=(60.0, 50.0), radius=20.0, pulse=(0, 0, 0), texture='plain', outline=False)
    canvas = np.zeros((96, 128, 3), dtype=np.float32)
    coverage = drawing.draw_object(canvas, obj)
    colour = drawing.object_colour(obj)
    np.testing.assert_allclose(canvas, coverage[..., None] * colour, atol=1e-3)
    corners = drawing.shape_outline(name.split('-')[1])
    x, y = corners.T
    area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 * obj.radius**2
    assert coverage.sum() == pytest.approx(area, rel=0.03)
    assert (coverage >= 0.5).sum() == pytest.approx(area, rel=0.04)
    rows, columns = np.nonzero(coverage >= 0.5)
    assert abs(columns.mean() + 0.5 - 60) < 0.6 and abs(rows.mean() + 0.5 - 50) < 0.6


def test_silent_seconds_and_silent_objects_have_no_label():
    place = dict(start=(64.0, 48.0), velocity=(0.0, 0.0), radius=20.0)
    pattern = (True, False, True, True, False)
    behind = make_object('red-disc', **place, sounding=pattern)
    alone = scene.Scene((behind,), num_seconds=5, seed=0)
    labels = drawing.render_pictures(alone)[1]
    index = NAMES.index('red-disc') + 1
    assert [set(np.unique(label)) for label in labels] == [{0, index} if on else {0} for on in pattern]
    nearer = make_object('blue-square', **(place | dict(radius=10.0)), sounding=(False,) * 5)
    both = scene.Scene((behind, nearer), num_seconds=5, seed=0)
    hidden = drawing.render_pictures(both)[1]
    assert (hidden[:, 48, 64] == 0).all() and hidden[0].any()
    behind_it = scene.Scene((nearer, behind), num_seconds=5, seed=0)
    np.testing.assert_array_equal(drawing.render_pictures(behind_it)[1], labels)


def test_more_frames_a_second_show_the_same_scene():
    made = scene.sample_scene(np.random.default_rng(1), ('red-disc',), ('blue-star',), 3)
    frames, labels = drawing.render_pictures(made)
    many, many_labels = drawing.render_pictures(made, fps=4)
    assert frames.shape == (3, 96, 128, 3) and many.shape == (12, 96, 128, 3)
    assert frames.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(many[::4], frames)
    np.testing.assert_array_equal(many_labels[::4], labels)
    assert (many[1] != many[0]).any()
    with pytest.raises(ValueError, match='fps'):
        drawing.render_pictures(made, fps=0)


def test_colours_are_unmistakable():
    """Any two names' colours differ more than any two pictures of one name."""
    rng = np.random.default_rng(0)
    hues = {}
    for colour in drawing.COLOUR_HSV:
        objects = [scene.sample_object(rng, f'{colour}-square') for _ in range(30)]
        rgb = np.stack([drawing.object_colour(obj) for obj in objects])
        hsv = cv2.cvtColor((rgb[None] / 255).astype(np.float32), cv2.COLOR_RGB2HSV)
        hues[colour] = np.deg2rad(hsv[0, :, 0])
    for one in hues:
        for two in hues:
            apart = np.cos(hues[one][:, None] - hues[two][None])
            assert apart.min() > np.cos(np.deg2rad(15)) if one == two else apart.max() < np.cos(np.deg2rad(35))


# ---- sounds


def peak_frequency(audio):
    spectrum = abs(np.fft.rfft(audio))
    return np.argmax(spectrum) * sound.SAMPLE_RATE / len(audio)


@pytest.mark.parametrize('colour', list(sound.COLOUR_PITCH))
@pytest.mark.parametrize('shape', ['disc', 'square', 'star'])
def test_colour_sets_the_pitch(colour, shape):
    obj = make_object(f'{colour}-{shape}')
    assert peak_frequency(sound.object_sound(obj)) == pytest.approx(sound.COLOUR_PITCH[colour] * obj.pitch, rel=0.02)
    assert abs(obj.pitch - 1) <= scene.PITCH_JITTER


def test_shape_sets_the_timbre():
    time = np.arange(16000) / 16000

    def energy(shape, low, high):
        spectrum = abs(np.fft.rfft(sound.timbre(shape, 400.0, time))) ** 2
        return spectrum[low:high].sum() / spectrum.sum()  # 1 Hz a bin

    assert energy('disc', 395, 406) > 0.999
    assert energy('square', 1195, 1206) == pytest.approx(1 / 9, rel=0.2)
    assert energy('square', 795, 806) < 1e-6 and energy('square', 7001, 8001) < 1e-6
    assert energy('triangle', 345, 456) > 0.7 and energy('triangle', 395, 406) < 0.5
    loud = np.sqrt((sound.timbre('star', 400.0, time) ** 2).reshape(-1, 80).mean(1))
    assert np.argmax(abs(np.fft.rfft(loud - loud.mean()))) == sound.PULSE_RATE
    with pytest.raises(ValueError, match='cube'):
        sound.timbre('cube', 400.0, time)


def test_sound_is_in_the_sounding_seconds_only():
    pattern = (False, True, True, False, True)
    heard = make_object('green-square', sounding=pattern, amplitude=0.1)
    silent = make_object('red-disc', sounding=(False,) * 5)
    audio = sound.render_sound(scene.Scene((heard, silent), num_seconds=5, seed=7))
    assert audio.shape == (80000,) and abs(audio).max() <= 1
    level = 10 * np.log10((audio.astype(np.float64) ** 2).reshape(5, -1).mean(1))
    assert (level[list(pattern)] > -30).all() and (level[~np.array(pattern)] < -45).all()
    assert level.min() > -60, 'silence has a noise floor'
    curve = sound.envelope(pattern)
    assert curve[31999:32001].tolist() == [1, 1], 'no fade between two sounding seconds'
    assert abs(np.diff(curve)).max() < 0.02, 'no clicks'
