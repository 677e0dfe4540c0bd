# SPDX-License-Identifier: Apache-2.0
"""The benchmark runs and prints its figures; what they are is not tested."""

import importlib.util
import re
from pathlib import Path

import archive
import pytest

SCRIPT = Path(__file__).parents[2] / 'tools/analysis_tools/loader_benchmark.py'


@pytest.fixture(scope='module')
def script():
    spec = importlib.util.spec_from_file_location('loader_benchmark', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_clips_that_it_makes(script, capsys):
    script.main('--clips 2 --size 36 64 --short-side 24 --workers 1 --passes 1'.split())
    out = capsys.readouterr().out
    assert 'made: 2 clips of 10 frames, 64 x 36 pixels' in out
    for step in ('LoadClipFrames', 'LoadClipLabels', 'LoadClipAudio', 'ResizeClip'):
        assert re.search(rf'  {step} +\d+\.\d ms', out)
    assert re.search(r'lookup [\d.]+ ms, 71 comparisons [\d.]+ ms, \d+ times as long', out)
    assert re.search(r'the main process: [\d.]+ clips a second\n1 workers: [\d.]+ clips', out)


def test_an_archive(script, tmp_path, capsys):
    root = archive.write_archive(tmp_path / 'own', archive.CLIPS[:3])
    script.main(['--root', str(root), '--workers', '1', '--passes', '1'])
    out = capsys.readouterr().out
    assert '; 3 clips' in out and '7 comparisons' in out
    with pytest.raises(SystemExit, match='error: .*gone'):
        script.main(['--root', str(tmp_path / 'gone')])
    with pytest.raises(SystemExit):
        script.main(['--clips', '0'])
    assert '--clips must be at least 1' in capsys.readouterr().err
