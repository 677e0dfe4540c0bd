# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import pytest
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

from ovavss_mm.engine.parameters import Count, count_parameters  # noqa: E402

tool = published.load_tool('analysis_tools/get_params.py')
FOLDER = published.ROOT / 'configs/ovavss'
R50 = FOLDER / 'ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py'
SWIN = FOLDER / 'ovavss_swin-b_clip-vit-l14-336_1xb1-82k_avsbench-ov.py'


def rows(text: str) -> dict[str, list[float]]:
    """The table, by stage."""
    lines = [line.strip('| ').split('|') for line in text.splitlines() if line.startswith('| ')]
    return {line[0].strip(): [float(cell) for cell in line[1:]] for line in lines[1:]}


@pytest.mark.parametrize(
    ('path', 'total', 'trainable'),
    [
        (R50, 1029.6, 183.6),
        (SWIN, 2331.4, 423.7),
        (FOLDER / 'ovavss_r50_release.py', 1029.6, 183.6),
        (FOLDER / 'ovavss_swin-b_release.py', 2331.4, 423.7),
    ],
    ids=lambda value: getattr(value, 'stem', value),
)
def test_main_configs_have_the_sizes_of_the_paper(path, total, trainable, capsys):
    tool.main([str(path)])
    table = rows(capsys.readouterr().out)
    assert list(table) == ['backbone', 'neck', 'decode_head', 'audio_encoder', 'classifier', 'all']
    assert table['all'][1::2] == [total, trainable, round(total - trainable, 1)]
    for frozen in ('audio_encoder', 'classifier'):
        assert table[frozen][2:4] == [0, 0] and table[frozen][:2] == table[frozen][4:]
    for i in range(6):
        stages = sum(values[i] for name, values in table.items() if name != 'all')
        assert stages == pytest.approx(table['all'][i], abs=0.3)


def test_numbers_are_parameters_and_frozen_norms_are_constants():
    model = nn.Module()
    model.a = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm2d(5), nn.BatchNorm2d(7), nn.ReLU())
    model.a[1].requires_grad_(False)
    model.b = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(4)).requires_grad_(False)
    model.c = nn.ReLU()
    counts = count_parameters(model)
    assert counts == dict(a=(20 + 14, 0), b=(0, 6 + 8), all=(34, 14))
    assert counts['all'].total == 48


def test_table_is_in_millions_and_mebibytes_of_float32():
    (row,) = rows(tool.table(dict(all=Count(2**20, 3 * 2**20)))).values()
    assert row == [4.19, 16, 1.05, 4, 3.15, 12]


def test_options_change_the_config(capsys):
    options = ['--cfg-options', 'model.decode_head.num_queries=1000000']
    tool.main([str(R50), *options])
    with_queries = rows(capsys.readouterr().out)['decode_head'][0]
    assert with_queries == pytest.approx(22.58 + 2 * 256, abs=0.1)


def test_missing_config_is_named():
    assert 'there is no config gone.py' in published.error_of(tool.main, ['gone.py'])
