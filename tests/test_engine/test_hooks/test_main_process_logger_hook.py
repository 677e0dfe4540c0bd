# SPDX-License-Identifier: Apache-2.0
"""The file of a test's figures."""

import json
from types import SimpleNamespace

import pytest

from ovavss_mm.engine.hooks import MainProcessLoggerHook


@pytest.mark.parametrize('rank', [0, 1])
def test_only_the_main_process_writes_the_figures(tmp_path, monkeypatch, rank):
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: rank)
    said = []
    runner = SimpleNamespace(
        log_processor=SimpleNamespace(get_log_after_epoch=lambda *args, **kwargs: (dict(mIoU=rank), 'done')),
        logger=SimpleNamespace(info=said.append),
        test_dataloader=[0],
        log_dir=str(tmp_path),
    )
    hook = MainProcessLoggerHook(interval=1)
    hook.json_log_path = 'figures.json'
    hook.after_test_epoch(runner)
    written = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert written == ([dict(mIoU=0)] if rank == 0 else [])
    assert len(said) == len(written)
