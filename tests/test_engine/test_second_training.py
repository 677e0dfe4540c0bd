# SPDX-License-Identifier: Apache-2.0
"""``tools/train.py`` started in a work directory in which it is running."""

import os
import subprocess
import sys
import time
from pathlib import Path

import small_training


def test_it_is_refused_in_a_line_while_the_first_goes_on(tmp_path: Path) -> None:
    """Whether it is to start anew or to resume; the files of the first stay as they are."""
    config = small_training.write_config(tmp_path, 4)
    undisturbed, work_dir = tmp_path / 'undisturbed', tmp_path / 'work'
    small_training.Training(config, undisturbed).finish()
    first = small_training.Training(config, work_dir, slow=60)
    seconds: list[subprocess.Popen] = []
    try:
        end = time.monotonic() + small_training.PATIENCE
        while not (writing := list(work_dir.glob('.*.pth*'))):  # a checkpoint is half written
            assert first.poll() is None and time.monotonic() < end, first.printed()[-3000:]
            time.sleep(0.05)
        before = sorted(work_dir.rglob('*'))
        tool = [sys.executable, small_training.ROOT / 'tools/train.py', config]
        env = os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join(map(str, Path(__file__).parents[1:3])))
        seconds = [
            subprocess.Popen(
                [*tool, '--work-dir', work_dir, *args],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for args in ([], ['--resume'])
        ]
        for second in seconds:
            out, err = second.communicate(timeout=small_training.PATIENCE)
            assert second.returncode == 1 and 'Traceback' not in out + err
            (line,) = [line for line in err.splitlines() if line.startswith('error: ')]
            assert err.rstrip().endswith(line)
            assert f'process {first.pid} is training in {work_dir}' in line
            assert 'another --work-dir' in line
        assert first.poll() is None and writing[0].exists(), 'the first ended too early'
        assert sorted(work_dir.rglob('*')) == before
    finally:
        for process in (first, *seconds):
            process.kill()
            process.wait()
    small_training.Training(config, work_dir, '--resume').finish()  # a kill frees the folder
    small_training.check_folder(work_dir)
    assert small_training.same(undisturbed / 'iter_4.pth', work_dir / 'iter_4.pth')
