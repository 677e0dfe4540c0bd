# SPDX-License-Identifier: Apache-2.0
"""Temporary files of the page, and stopping jobs."""

import pytest
from web.workspace import EXAMPLE_FOLDER, Cancelled, Workspace


@pytest.fixture
def workspace():
    with Workspace() as workspace:
        yield workspace


def upload(workspace, folder, name='a.mp4'):
    """What Gradio does with an upload."""
    path = workspace.root / folder / name
    path.parent.mkdir()
    path.touch()
    return path


def test_all_goes_at_the_end():
    with Workspace() as workspace:
        upload(workspace, 'x')
        ticket = workspace.ticket('s')
    assert not workspace.root.exists()
    with pytest.raises(Cancelled):
        ticket.check()


def test_a_session_has_one_folder(workspace):
    first = workspace.new_folder('s')
    (first / 'file').touch()
    other = workspace.new_folder('t')
    second = workspace.new_folder('s')
    assert not first.exists() and second.is_dir() and other.is_dir()
    workspace.close('s')
    assert not second.exists() and other.is_dir()
    workspace.close('s')  # twice does no harm


def test_uploads_go_when_no_session_shows_them(workspace):
    shared, own = upload(workspace, 'x'), upload(workspace, 'y')
    workspace.hold_upload('s', str(shared))
    workspace.hold_upload('t', str(shared))
    workspace.hold_upload('s', str(own))
    assert shared.exists() and own.exists()
    workspace.hold_upload('s', str(own))
    assert own.exists()
    workspace.close('t')
    assert not shared.parent.exists() and own.exists()
    workspace.hold_upload('s', None)
    assert not own.parent.exists()


def test_nothing_else_is_removed(workspace, tmp_path):
    """Not the example, no results, nothing outside."""
    outside = tmp_path / 'folder' / 'a.mp4'
    outside.parent.mkdir()
    outside.touch()
    result = workspace.new_folder('t') / 'a.mp4'
    result.touch()
    kept = [outside, result, upload(workspace, EXAMPLE_FOLDER), workspace.root / 'b.mp4']
    kept[-1].touch()
    for path in kept:
        workspace.hold_upload('s', str(path))
        workspace.hold_upload('s', None)
        assert path.exists()


def test_tickets_stop_the_job_they_were_made_for(workspace):
    ticket = workspace.ticket('s')
    assert workspace.ticket('s') is ticket
    ticket.check()
    ticket.cancel()
    workspace.ticket('s', new=True).check()
    with pytest.raises(Cancelled):
        ticket.check()
    last = workspace.ticket('s')
    workspace.close('s')
    with pytest.raises(Cancelled):
        last.check()
