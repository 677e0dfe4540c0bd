# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests of the data side."""

import sys
from pathlib import Path

import pytest

# For `import archive` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parents[1]))

import archive  # noqa: E402


@pytest.fixture(scope='session')
def root(tmp_path_factory) -> Path:
    """An archive to read; tests that change one write their own."""
    return archive.write_archive(tmp_path_factory.mktemp('data') / 'archive')


@pytest.fixture
def clip_results(tmp_path):
    """Function that writes a clip and gives the results dict a pipeline starts from."""
    from ovavss_mm.datasets import AVSBenchOVDataset

    def make(**kwargs) -> dict:
        clip = archive.Clip(**({'uid': 'c', 'a_obj': 'dog', 'split': 'test', 'subset': 'v2'} | kwargs))
        folder = archive.write_archive(tmp_path / 'one', (clip,))
        dataset = AVSBenchOVDataset(str(folder), clip.split, base_names='base_names.txt')
        return dataset.get_data_info(0)

    return make
