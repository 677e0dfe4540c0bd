# SPDX-License-Identifier: Apache-2.0
"""The split, the check of an archive and the indices, from the command line."""

import csv
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import archive
import numpy as np
import pytest
from PIL import Image

from ovavss_mm.datasets import AVSBenchOVDataset, read_index

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'tools/dataset_converters/avsbench_ov.py'
COUNTS = ROOT / 'tests/data/avsbench_semantic_counts.csv'


@pytest.fixture(scope='module')
def script():
    sys.path.insert(0, str(SCRIPT.parent))  # as of a script that is run
    spec = importlib.util.spec_from_file_location('avsbench_ov_tool', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def call(script, capsys, tmp_path):
    """Function that runs the tool with --out tmp_path/out; gives exit status, stdout and stderr."""

    def run(*args) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            script.main([*map(str, args), '--out', str(tmp_path / 'out')])
        status = stop.value.code
        if isinstance(status, str):  # what sys.exit prints is printed by the interpreter
            return 1, capsys.readouterr().out, status
        printed = capsys.readouterr()
        return status or 0, printed.out, printed.err

    return run


@pytest.fixture
def own(tmp_path) -> Path:
    """An archive that a test may spoil."""
    return archive.write_archive(tmp_path / 'own')


def state(folder: Path) -> dict:
    return {
        p: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob('*'))
        if p.is_file()
    }


def row_of(table: str, name: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f'| {name} ')]
    return [cell.strip() for cell in line.strip('|').split('|')][1:]


# --- the split of the real metadata
def write_real_metadata(root: Path, leave_out: int = 0) -> Path:
    """Rows with the names, splits and subsets of the real file, as often as it has them."""
    root.mkdir()
    with open(COUNTS, newline='') as source:
        counts = list(csv.DictReader(source))
    rows = [c for c in counts for _ in range(int(c['clips']))]
    with open(root / 'metadata.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(archive.COLUMNS)
        for i, c in enumerate(rows[leave_out:]):
            writer.writerow((f'u{i}', f'u{i}', 0, 0, c['a_obj'], c['split'], c['label']))
    return root


def test_real_metadata_give_the_clips_of_the_paper(call, tmp_path):
    root = write_real_metadata(tmp_path / 'real')
    status, out, _ = call(root, '--metadata-only')
    assert status == 0
    lines = out.splitlines()
    for line in ('train 5184 clips 40095 frames', 'val 1240 clips', 'test 1490 clips'):
        assert line in lines
    assert 'These are the clips of AVSBench-OV.' in lines
    assert row_of(out, 'guitar') == ['base', '802', '99', '137']
    assert row_of(out, 'violin') == ['novel', '0', '47', '76']
    assert row_of(out, 'off-the-screen') == ['not a name', '0', '2', '4']
    assert 'h orse' not in out
    for split, clips, frames in (('train', 5184, 40095), ('val', 1240, 8700), ('test', 1490, 11200)):
        index = read_index(str(tmp_path / 'out' / f'{split}.txt'), split)
        assert (len(index), sum(c.num_frames for c in index)) == (clips, frames)
    before = state(tmp_path / 'out')
    call(root, '--metadata-only')
    assert {k: v[0] for k, v in state(tmp_path / 'out').items()} == {k: v[0] for k, v in before.items()}


def test_other_metadata_are_an_error_with_the_difference(call, tmp_path):
    # The first rows are 2 clips of accordion, a novel name, of the test split, then novel training
    # clips, which count nowhere.
    status, out, err = call(write_real_metadata(tmp_path / 'real', 3), '--metadata-only')
    assert status == 1
    assert 'test: 1488 clips instead of 1490 (v1s 740 instead of 740, v2 748 instead of 750)' in err
    assert 'train:' not in err and 'val:' not in err
    assert not (tmp_path / 'out').exists()


def test_other_rule_is_another_file(call, tmp_path):
    root = write_real_metadata(tmp_path / 'real', 3)
    base = tmp_path / 'base.txt'
    base.write_text('accordion\nguitar\n')
    status, out, _ = call(root, '--metadata-only', '--base-names', base)
    assert status == 0
    assert 'These are the clips of AVSBench-OV' not in out
    clips = read_index(str(tmp_path / 'out' / 'train.txt'))
    assert {name for clip in clips for name in clip.names} == {'accordion', 'guitar'}
    assert row_of(out, 'accordion')[0] == 'base'
    assert row_of(out, 'piano')[:2] == ['novel', '0']
    base.write_text('accordion\nfire-truck\n')
    status, _, err = call(root, '--metadata-only', '--base-names', base)
    assert status == 1 and "'fire-truck'" in err


# --- the archive
def test_whole_archive(call, own, tmp_path):
    before = state(own)
    status, out, _ = call(own, '--base-names', own / 'base_names.txt', '--workers', '2')
    assert status == 0
    lines = out.splitlines()
    assert 'train 3 clips 25 frames' in lines
    assert 'val 2 clips' in lines and 'test 3 clips' in lines
    assert '8 of 8 clips can be used' in lines
    assert 'errors (training cannot survive them): none' in lines
    assert any(line.startswith('  no sound: 1 in 1 clips') for line in lines)
    assert '  frames in pixels: 32 x 24 (8)' in lines
    assert '  sound: 16000 Hz, 1 channels (7)' in lines
    assert '  7 of 8 clips have sound' in lines
    assert row_of(out, 'dog') == ['base', '1', '0', '1']
    assert state(own) == before, 'the archive is not written to'
    out_files = {p.name for p in (tmp_path / 'out').iterdir()}
    assert out_files == {'train.txt', 'val.txt', 'test.txt', 'report.txt', 'check.jsonl'}


def test_indices_are_the_clips_of_the_data_set(call, own, tmp_path):
    call(own, '--base-names', own / 'base_names.txt', '--workers', '0')
    for split in ('train', 'val', 'test'):
        by_rule, by_index = (
            AVSBenchOVDataset(str(own), split, base_names='base_names.txt', index_file=index)
            for index in (None, str(tmp_path / 'out' / f'{split}.txt'))
        )
        ids = [sorted(d.get_data_info(i)['clip_id'] for i in range(len(d))) for d in (by_rule, by_index)]
        assert ids[0] == ids[1]


def spoil(own: Path) -> None:
    """Two clips that training cannot survive, one of them thrice, and one that it does."""
    path = own / 'v2' / 'dog_guitar' / 'labels_rgb' / '3.png'
    colors = np.array(Image.open(path))
    colors[0, 0] = (1, 2, 3)
    Image.fromarray(colors).save(path)
    (own / 'v2' / 'dog_guitar' / 'frames' / '0.jpg').write_bytes(b'no picture')
    (own / 'v2' / 'dog_guitar' / 'audio.wav').write_bytes(b'no sound')
    (own / 'v2' / 'test_horse' / 'labels_rgb' / '9.png').unlink()
    labels = np.full(archive.SIZE, archive.label_index('cat'), np.uint8)
    archive.save_labels(own / 'v1s' / 'bird_0' / 'labels_rgb' / '0.png', labels)


def test_bad_clips_are_reported_by_kind(call, own, tmp_path):
    spoil(own)
    status, out, _ = call(own, '--base-names', own / 'base_names.txt', '--workers', '0')
    assert status == 1
    report = (tmp_path / 'out' / 'report.txt').read_text()
    for text in (out, report):
        assert 'errors (training cannot survive them):' in text.splitlines()
        for kind in ('label colour', 'frame unreadable', 'sound unreadable', 'labels'):
            assert f'  {kind}: 1 in 1 clips' in text
        assert 'dog_guitar/labels_rgb/3.png: 1 pixels' in text
        assert '  label not listed: 1 in 1 clips' in text
        assert 'bird_0/labels_rgb/0.png: cat (768 pixels)' in text
        assert '6 of 8 clips can be used' in text
    assert 'No index was written' in out
    assert not list((tmp_path / 'out').glob('*.txt.*')) and not (tmp_path / 'out' / 'train.txt').exists()


def test_bad_clips_are_left_out_when_asked(call, own, tmp_path):
    spoil(own)
    rule = ('--base-names', own / 'base_names.txt', '--workers', '0')
    status, out, _ = call(own, *rule, '--fix-index')
    assert status == 0
    verdict = '2 bad clips are left out of the indices (--fix-index)'
    assert verdict in out and verdict in (tmp_path / 'out' / 'report.txt').read_text()
    assert 'train 2 clips 15 frames' in out.splitlines()
    index = str(tmp_path / 'out' / 'train.txt')
    assert [c.uid for c in read_index(index)] == ['bird_0', 'horse_1']
    # The rule alone meets the clip that is missing a label; the index does not.
    with pytest.raises(ValueError, match='test_horse'):
        AVSBenchOVDataset(str(own), 'test', base_names='base_names.txt')
    fixed = str(tmp_path / 'out' / 'test.txt')
    assert len(AVSBenchOVDataset(str(own), 'test', base_names='base_names.txt', index_file=fixed)) == 2


def test_first_offenders_of_many(call, own, tmp_path):
    for path in (own / 'v2' / 'dog_guitar' / 'frames').iterdir():
        path.write_bytes(b'no picture')
    _, out, _ = call(own, '--base-names', 'all', '--workers', '0')
    assert '  frame unreadable: 10 in 1 clips' in out
    assert 'and 7 more' in out
    report = (tmp_path / 'out' / 'report.txt').read_text()
    assert 'more' not in report and report.count('cannot read the picture') == 10


def test_frames_are_those_on_disk(call, own, tmp_path):
    """A set of one's own may have clips of any length."""
    for kind, suffix in (('frames', 'jpg'), ('labels_rgb', 'png')):
        (own / 'v2' / 'dog_guitar' / kind / f'9.{suffix}').unlink()
    status, out, _ = call(own, '--base-names', 'all', '--workers', '0')
    assert status == 0 and 'frame number' not in out
    clips = {c.uid: c for c in read_index(str(tmp_path / 'out' / 'train.txt'))}
    assert clips['dog_guitar'].num_frames == 9


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['ROOT'], 'does not have the 70 names'),
        (['ROOT/metadata.csv'], 'ROOT must be the folder'),
        (['ROOT', '--base-names', 'gone.txt'], 'gone.txt'),
    ],
)
def test_wrong_arguments(call, own, args, message):
    status, _, err = call(*(arg.replace('ROOT', str(own)) for arg in args))
    assert status == 1 and err.startswith('error: ') and message in err


@pytest.mark.parametrize('more', [['--metadata-only'], ['--fix-index', '--workers', '0']])
def test_name_that_is_no_class(call, own, tmp_path, more):
    path = own / 'metadata.csv'
    path.write_text(path.read_text().replace(',violin_dog,', ',Violin_dog,'))
    status, _, err = call(own, '--base-names', 'all', *more)
    assert status == 1 and not (tmp_path / 'out').exists()
    assert (
        f"{path}, line 12: clip test_violin_dog has the name 'Violin', which is no class; the nearest is 'violin'"
        in err
    )


def test_blanks_around_names(call, own):
    path = own / 'metadata.csv'
    path.write_text(path.read_text().replace(',violin_dog,', ', violin _dog ,'))
    status, out, _ = call(own, '--base-names', 'all', '--metadata-only')
    assert status == 0 and row_of(out, 'violin') == ['base', '0', '0', '1']


def test_names_are_needed_for_the_check(call, own):
    (own / 'label2idx.json').unlink()
    status, _, err = call(own, '--base-names', 'all')
    assert status == 1 and 'label2idx.json' in err


@pytest.mark.parametrize('args', [['--fix-index', '--metadata-only'], ['--workers', '-1']])
def test_options_that_cannot_be(script, args, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(['x', *args])
    assert stop.value.code == 2 and args[0] in capsys.readouterr().err


# --- killed
SLOW = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location('tool', sys.argv[1])
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
sys.path.insert(0, sys.argv[1].rpartition('/')[0])
import archive_check
once = archive_check._check_sound
def slowly(*args):
    time.sleep(0.5)
    once(*args)
archive_check._check_sound = slowly
tool.main(sys.argv[2:])
"""


def test_killed_run_goes_on(call, own, tmp_path):
    """What was checked before SIGKILL is not checked again, and the result is that of one run."""
    spoil(own)
    rule = ('--base-names', str(own / 'base_names.txt'), '--workers', '0')
    cache = tmp_path / 'out' / 'check.jsonl'
    command = [sys.executable, '-c', SLOW, str(SCRIPT), str(own), *rule, '--out', str(cache.parent)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (cache.exists() and cache.read_text().count('\n') > 1):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, 'it ended before it could be killed'
    kept = cache.read_bytes()
    assert 2 <= kept.count(b'\n') < 8
    assert [p.name for p in cache.parent.iterdir()] == ['check.jsonl']
    status, out, _ = call(own, *rule)
    assert status == 1 and '6 of 8 clips can be used' in out
    whole = cache.read_bytes()
    assert whole.startswith(kept[: kept.rfind(b'\n') + 1])
    keys = [json.loads(line)['key'] for line in whole.splitlines()]
    assert len(keys) == len(set(keys)) == 8
