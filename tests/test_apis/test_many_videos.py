# SPDX-License-Identifier: Apache-2.0
"""Lists of videos that go on after an interruption, beside other starts, and with a bar over all."""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovavss_mm import from_pretrained
from ovavss_mm.apis.video import record
from ovavss_mm.apis.video.many import claimed
from ovavss_mm.apis.video.progress import ListProgress

NAMES = ['dog', 'violin']


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


@pytest.fixture
def inputs(tmp_path_factory) -> list[str]:
    """Folders of two pictures."""
    folder, rng = tmp_path_factory.mktemp('inputs'), np.random.default_rng(0)
    for i in range(4):
        (folder / f'clip{i}').mkdir()
        for j in range(2):
            Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(folder / f'clip{i}/{j}.png')
    return [str(folder / f'clip{i}') for i in range(4)]


def states(out: Path) -> dict[str, str]:
    return {row['output']: row['state'] for row in json.loads((out / 'summary.json').read_text())}


def test_what_is_complete_is_left_out(inferencer, inputs, tmp_path, monkeypatch):
    """After an error in the third of four, for the same names; results are those of one call."""
    call = dict(classes=NAMES, out_dir=str(tmp_path / 'out'), no_save_vis=True)
    whole = inferencer(inputs, NAMES, out_dir=str(tmp_path / 'whole'), no_save_vis=True)['predictions']
    write = record.LabelPictures.write

    def full(self, *args):
        if 'clip2' in str(self.folder):
            raise OSError(28, 'No space left on device')
        write(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(record.LabelPictures, 'write', full)
        with pytest.raises(OSError, match='No space'):
            inferencer(inputs, **call)
    assert sorted(path.name for path in (tmp_path / 'out/pred').iterdir()) == [
        'clip0', 'clip0.json', 'clip1', 'clip1.json'
    ]  # fmt: skip
    found = inferencer(inputs, **call, resume=True)['predictions']
    assert states(tmp_path / 'out') == dict(clip0='complete', clip1='complete', clip2='labelled', clip3='labelled')
    assert [dict(x, files=None) for x in found] == [dict(x, files=None) for x in whole]
    assert inferencer(inputs, **call, resume=True)['predictions'] == found
    assert set(states(tmp_path / 'out').values()) == {'complete'}
    inferencer(inputs, **dict(call, classes=NAMES[::-1]), resume=True)
    assert set(states(tmp_path / 'out').values()) == {'labelled'}
    inferencer(inputs, **dict(call, classes=NAMES[::-1]))
    assert set(states(tmp_path / 'out').values()) == {'labelled'}, 'not asked to resume'


def test_what_has_changed_is_labelled_anew(inferencer, inputs, tmp_path):
    """Another picture, sound or sound track; and arrays, which nothing tells apart."""
    call = dict(classes=NAMES, out_dir=str(tmp_path / 'out'), no_save_vis=True)
    inferencer(inputs[:2], **call)
    Image.new('RGB', (32, 24)).save(Path(inputs[1]) / '1.png')
    inferencer(inputs[:2], **call, resume=True)
    assert states(tmp_path / 'out') == dict(clip0='complete', clip1='labelled')
    inferencer(inputs[:2], **call, resume=True, audio_track=2)
    assert set(states(tmp_path / 'out').values()) == {'labelled'}
    for seed in range(2):
        frames = np.random.default_rng(seed).integers(0, 256, (2, 24, 32, 3), np.uint8)
        inferencer([frames, dict(frames=frames)], **call, resume=True)
        assert set(states(tmp_path / 'out').values()) == {'labelled'}


def test_another_model_in_the_folder_labels_anew(inferencer, inputs, tmp_path):
    """Of other preprocessing, for example."""
    path = inferencer.save_pretrained(tmp_path / 'model') / 'preprocessing.json'
    call = dict(classes=NAMES, out_dir=str(tmp_path / 'out'), no_save_vis=True, resume=True)
    for state in ('labelled', 'complete', 'labelled'):
        from_pretrained(path.parent, show_progress=False)(inputs[:2], **call)
        assert set(states(tmp_path / 'out').values()) == {state}
        if state == 'complete':
            path.write_text(path.read_text() + '\n')


def test_what_goes_wrong_with_one_video_does_not_end_the_others(inferencer, inputs, tmp_path, monkeypatch):
    def stream(source, request):
        if source.name == 'clip1':
            raise RuntimeError('CUDA out of memory')
        return type(inferencer).stream(inferencer, source, request)

    monkeypatch.setattr(inferencer, 'stream', stream)
    inferencer(inputs, NAMES, out_dir=str(tmp_path), no_save_vis=True, on_error='skip')
    assert states(tmp_path) == dict(clip0='labelled', clip1='failed', clip2='labelled', clip3='labelled')


def test_what_another_start_labels_is_left_to_it(inferencer, inputs, tmp_path):
    call = dict(classes=NAMES, out_dir=str(tmp_path), no_save_vis=True)
    with claimed(str(tmp_path), 'clip1'):
        found = inferencer(inputs, **call, resume=True)['predictions']
        assert found[1] == dict(video=inputs[1], busy='another process is labelling it')
        assert states(tmp_path)['clip1'] == 'busy'
    inferencer(inputs, **call, resume=True)
    assert states(tmp_path)['clip1'] == 'labelled'


def test_resume_needs_what_it_reads(inferencer, inputs, tmp_path):
    for options in (dict(), dict(out_dir=str(tmp_path), no_save_pred=True)):
        with pytest.raises(ValueError, match='resume reads the JSON files in out_dir'):
            inferencer(inputs, NAMES, resume=True, **options)


def test_results_come_one_by_one(inferencer, inputs, tmp_path):
    stream = inferencer.each(inputs, NAMES, out_dir=str(tmp_path), no_save_vis=True)
    next(stream)
    assert (tmp_path / 'pred/clip0.json').is_file() and not (tmp_path / 'pred/clip1.json').exists()
    assert len(list(stream)) == 3


def test_the_bar_of_all_counts_what_other_processes_do(tmp_path):
    bar = ListProgress({0: 4, 1: 6, 2: 10}, {1: tmp_path / 'one', 2: tmp_path / 'two'}, disable=True)
    overall = bar.tasks[0]
    assert overall.total == 20
    task = bar.add_task('video', total=3)
    bar.advance(task)
    assert overall.completed == 1
    (tmp_path / 'two').write_text('')
    bar.end_video(0)
    assert overall.completed == 4
    bar.see_others()
    assert overall.completed == 14 and [x.id for x in bar.tasks] == [overall.id]
    single = ListProgress({0: 4}, {}, disable=True)
    assert single.tasks == []


# ------------------------------------------------------------------ clips
def test_clips_are_cut_of_new_and_of_complete_videos(inferencer, inputs, tmp_path):
    """As often as they are asked for anew, and not again."""
    call = dict(classes=NAMES, out_dir=str(tmp_path), no_save_vis=True, resume=True)
    predictions = inferencer(inputs[:3], **call)['predictions']
    tables = [tmp_path / 'clips' / Path(prediction['files']['json']).stem / 'clips.csv' for prediction in predictions]
    inferencer(inputs, **call, clips=['violin'])
    assert list(states(tmp_path).values()) == ['complete'] * 3 + ['labelled']
    for prediction, table in zip(predictions, tables, strict=True):
        with open(table, newline='') as file:
            rows = list(csv.DictReader(file))
        stretches = prediction['names'].get('violin', dict(intervals=[]))['intervals']
        found = [[float(row['start']), float(row['end'])] for row in rows if row['file']]
        assert found == stretches and {row['name'] for row in rows} == {'violin'}
        files = {row['file'] for row in rows if row['file']}
        assert files | {'clips.csv'} == {path.name for path in table.parent.iterdir()}
    assert any((tmp_path / 'clips').rglob('*.mp4'))
    before = [table.stat().st_mtime_ns for table in tables]
    inferencer(inputs, **call, clips=['violin'])
    assert [table.stat().st_mtime_ns for table in tables] == before
    inferencer(inputs, **call, clips=['violin'], pad=0.25)
    assert all(table.stat().st_mtime_ns > old for table, old in zip(tables, before, strict=True))


def test_wrong_clips_are_named_before_anything_is_labelled(inferencer, inputs, tmp_path):
    for options, words in (
        (dict(out_dir=str(tmp_path), clips=['cow']), "clips must be of names that are looked for, got 'cow'"),
        (dict(clips=['dog']), r"clips \['dog'\] needs out_dir"),
        (dict(out_dir=str(tmp_path), clips=['dog'], pad=-1), 'pad must be from 0 to 3600 seconds, got -1'),
    ):
        with pytest.raises(ValueError, match=words):
            inferencer(inputs, NAMES, **options)
    assert list(tmp_path.iterdir()) == []
