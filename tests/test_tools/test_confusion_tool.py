# SPDX-License-Identifier: Apache-2.0
"""The tool that draws a test's confusion matrix: from a work dir to two pictures."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovavss_mm.evaluation.confusion import FILE_NAME, Confusion, write_confusion

SCRIPT = Path(__file__).parents[2] / 'tools/analysis_tools/confusion.py'
PICTURES = {'confusion_matrix.png', 'class_iou.png'}


@pytest.fixture(scope='module')
def script():
    spec = importlib.util.spec_from_file_location('confusion_tool', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def work_dir(tmp_path) -> Path:
    """A work dir with two tests."""
    for run, wrong in (('20260101_000000', 1), ('20260102_000000', 3)):
        (tmp_path / 'work' / run).mkdir(parents=True)
        counts = np.array([[10, 0, 0], [0, 6, 0], [0, wrong, 9]])
        confusion = Confusion(counts, ('background', 'ant', 'bee'), ('ant',), ('bee',))
        write_confusion(confusion, str(tmp_path / 'work' / run / FILE_NAME))
    return tmp_path / 'work'


def test_newest_run_of_a_work_dir(script, work_dir, capsys):
    script.main([str(work_dir)])
    newest = work_dir / '20260102_000000'
    assert {path.name for path in newest.iterdir()} == {FILE_NAME, *PICTURES}
    assert {path.name for path in (work_dir / '20260101_000000').iterdir()} == {FILE_NAME}
    out = capsys.readouterr().out
    assert f'from {newest / FILE_NAME}: 28 pixels' in out and 'bee as ant: 25.0' in out
    for name in PICTURES:
        with Image.open(newest / name) as image:
            assert min(image.size) > 200


def test_a_file_and_another_folder(script, work_dir, tmp_path, capsys):
    out_dir = tmp_path / 'new' / 'pictures'
    script.main([str(work_dir / '20260101_000000' / FILE_NAME), '--out-dir', str(out_dir)])
    assert {path.name for path in out_dir.iterdir()} == PICTURES
    assert 'bee as ant: 10.0' in capsys.readouterr().out


@pytest.mark.parametrize('content', [None, '{"mIoU": 50.0}', 'text'], ids=['none', 'json', 'text'])
def test_missing_and_foreign_files(script, tmp_path, content):
    path = tmp_path / 'result.json'
    if content is not None:
        path.write_text(content)
    match = 'error: there is no file' if content is None else 'error: .*result.json is no confusion'
    with pytest.raises(SystemExit, match=match):
        script.main([str(path)])
    with pytest.raises(SystemExit, match='error: .* has no confusion.json'):
        script.main([str(tmp_path)])
