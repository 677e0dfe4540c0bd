# SPDX-License-Identifier: Apache-2.0
"""The notebook of the documentation: kept without outputs, and runs from start to end."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / 'docs/quickstart.ipynb'


@pytest.fixture(scope='module')
def notebook() -> nbformat.NotebookNode:
    """Read the notebook."""
    return nbformat.read(NOTEBOOK, as_version=4)


def test_outputs_are_stripped(notebook):
    """What a run leaves is not kept: no output, no number of execution."""
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert cells and all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_links_lead_somewhere(notebook):
    """Every relative link of its text is there."""
    text = '\n'.join(cell.source for cell in notebook.cells if cell.cell_type == 'markdown')
    links = re.findall(r'\]\(([^):#]+)\)', text)
    assert links and [link for link in links if not (NOTEBOOK.parent / link).exists()] == []


def test_it_runs(notebook, tmp_path, monkeypatch):
    """In an empty folder, with this Python: names are found, pictures and videos shown, and the training labels."""
    monkeypatch.setenv('JUPYTER_DATA_DIR', str(tmp_path / 'jupyter'))  # no kernel of the user's goes first
    monkeypatch.setenv('IPYTHONDIR', str(tmp_path / 'ipython'))
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('MPLCONFIGDIR', str(tmp_path / 'matplotlib'))
    work = tmp_path / 'work'
    work.mkdir()
    notebook.cells.append(nbformat.v4.new_code_cell('print(PYTHON)'))
    NotebookClient(notebook, timeout=600, resources=dict(metadata=dict(path=str(work)))).execute()
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
    text = ''.join(output.text for output in outputs if output.output_type == 'stream')
    shown = [item for output in outputs for item in output.get('data', {}).items()]
    assert text.endswith(f'{sys.executable}\n')
    assert 'blue-triangle: 7 s [[0.0, 1.0], [2.0, 8.0]]' in text
    assert "'warm': [[" in text and "'cold': [[" in text
    assert '\ngreen-star: ' not in text  # it is silent
    assert sum(kind == 'image/png' for kind, _ in shown) == 4
    assert sum('<video' in content for kind, content in shown if kind == 'text/html') == 2
    assert (work / 'work_dirs/mine/iter_50.pth').is_file() and (work / 'out_mine/pred/mini.json').is_file()
