# SPDX-License-Identifier: Apache-2.0
"""The sound front end of Sam4AVS gives what its published code gave."""

import sys
from pathlib import Path

import numpy as np

# For `import published` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

tool = published.load_tool('analysis_tools/check_parity.py')

from parity import CHECKS  # noqa: E402  (the tool knows where it is)

FIXTURE = published.DATA / 'sam4avs_front.npz'


def test_pieces_are_equal_and_log_mels_agree():
    kind, lines = tool.check(str(FIXTURE))
    assert kind == 'sam4avs_front' and len(lines) == 4 and all(line.passed for line in lines)
    assert all(line.difference < 1e-3 for line in lines)


def test_what_differs_is_seen():
    with np.load(FIXTURE) as file:
        fixture = {key: file[key] for key in file.files}
    other = fixture | dict(short_wave=fixture['short_wave'][:-1])  # the last second begins a sample earlier
    failed = [line.name for line in CHECKS['sam4avs_front'].run(other) if not line.passed]
    assert failed == ['short_piece_sum', 'short_piece_crc32', 'short_piece_head', 'short_logmel']
    louder = fixture | dict(short_logmel=fixture['short_logmel'] + np.float32(0.02))
    assert [line.name for line in CHECKS['sam4avs_front'].run(louder) if not line.passed] == ['short_logmel']
