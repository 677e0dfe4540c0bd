# SPDX-License-Identifier: Apache-2.0
import json
import time

import pytest
import torch

from ovavss_mm.engine.benchmark import memory


def test_a_peak_that_is_gone_is_seen(monkeypatch):
    looks = []

    def resident():
        looks.append(len(looks))
        return 900 if len(looks) == 2 else 100

    monkeypatch.setattr(memory, 'resident', resident)
    with memory.ResidentPeak(interval=0.001) as peak:
        while len(looks) < 3:  # until the thread has looked twice
            time.sleep(0.001)
    assert peak.peak == 900
    assert not peak._thread.is_alive()


def test_memory_that_is_held_counts():
    with memory.ResidentPeak() as peak:
        block = torch.ones(16 * memory.MIB // 4)
    assert peak.peak >= block.numel() * 4
    assert memory.held('cpu') > 16 * memory.MIB
    with pytest.raises(ValueError, match='positive, got 0'):
        memory.ResidentPeak(0)


def test_spans_that_overlap_count_once():
    assert memory.covered([(5, 7), (0, 2), (1, 3), (1, 2), (7, 8)]) == 6
    assert memory.covered([]) == 0


def test_a_gpu_is_busy_in_kernels_and_copies_only():
    events = [
        dict(cat='kernel', ts=0, dur=1e6),
        dict(cat='gpu_memcpy', ts=5e5, dur=1e6),
        dict(cat='gpu_user_annotation', ts=0, dur=9e6),
        dict(cat='cpu_op', ts=0, dur=9e6),
        dict(name='no times', cat='kernel'),
    ]
    assert memory.busy_seconds(json.loads(json.dumps(events))) == pytest.approx(1.5)
