# SPDX-License-Identifier: Apache-2.0
"""Files that ship in the package."""

from pathlib import Path

from ovavss_mm.utils.known_weights import package_file


def test_files_of_the_package_by_their_own_scheme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(package_file('ovavss_mm://mini_world/clip_mini.safetensors')).is_file()
    for path in ('data/weights/ViT-B-16.pt', '/a/b.pth', 's3://bucket/c.pth'):
        assert package_file(path) == path
