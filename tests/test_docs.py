# SPDX-License-Identifier: Apache-2.0
"""Documents: links and pictures exist, and lists are those of the code."""

import re
from pathlib import Path

import pytest

from ovavss_mm.utils.known_weights import known_weights

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / 'README.md', ROOT / 'data/README.md', *sorted((ROOT / 'docs').glob('*.md'))]


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link and picture is there."""
    targets = re.findall(r'\]\(([^)#:]+)\)', document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_named_files_exist(document: Path) -> None:
    """Scripts, modules and configs of commands are there, under these names."""
    text = document.read_text()
    paths = set(re.findall(r'\b(?:tools|configs|ovavss_mm|tests)/[\w./-]+\.(?:py|csv|txt)\b', text))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    configs = {path.name for path in (ROOT / 'configs').rglob('*.py')}
    named = set(re.findall(r'\bovavss_[\w.-]+\.py\b', text))
    tools = {path.name for path in (ROOT / 'tools').rglob('*.py')}
    assert sorted(named - configs - tools) == []


def test_every_weight_is_in_the_guide() -> None:
    """The table of weights has each file of the list, its size and licence."""
    lines = (ROOT / 'data/README.md').read_text().splitlines()
    for weights in known_weights().values():
        (row,) = [line for line in lines if line.startswith(f'| `{weights.file}` |')]
        assert f'{weights.size_mib} MiB' in row and weights.licence in row
