# SPDX-License-Identifier: Apache-2.0
"""Temporary files of the page: each belongs to a browser tab and goes when the tab does, all go at the end."""

import shutil
import tempfile
import threading
from pathlib import Path

PREFIX = 'ovavss_web_'


class Cancelled(Exception):
    """Raised in a job that was told to stop."""


class Ticket:
    """Lets one job be stopped from outside."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def cancel(self) -> None:
        """Have the job stop at its next frame."""
        self._stop.set()

    def check(self) -> None:
        """Raise :class:`Cancelled` if the job was told to stop."""
        if self._stop.is_set():
            raise Cancelled


class Workspace:
    """A temporary folder with what the tabs (sessions) of the page hold in it; a context manager.

    Attributes:
        root: the folder. Uploads lie in it, too.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        self._lock = threading.Lock()
        self._tickets: dict[str, Ticket] = {}
        self._folders: dict[str, Path] = {}  # of the last job of a session
        self._uploads: dict[str, Path] = {}

    def __enter__(self) -> 'Workspace':
        return self

    def __exit__(self, *_: object) -> None:
        for ticket in list(self._tickets.values()):
            ticket.cancel()
        shutil.rmtree(self.root, ignore_errors=True)

    def ticket(self, session: str, new: bool = False) -> Ticket:
        """The ticket of a session's job.

        Args:
            session: of which.
            new: whether a new one is made.
        """
        with self._lock:
            if new or session not in self._tickets:
                self._tickets[session] = Ticket()
            return self._tickets[session]

    def new_folder(self, session: str) -> Path:
        """An empty folder for a job; that of the session's last job is removed."""
        self.drop_folder(session)
        with self._lock:
            folder = Path(tempfile.mkdtemp(prefix='job_', dir=self.root))
            self._folders[session] = folder
        return folder

    def drop_folder(self, session: str) -> None:
        """Remove the folder of the session's last job."""
        with self._lock:
            folder = self._folders.pop(session, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def hold_upload(self, session: str, path: str | None) -> None:
        """Note which upload a session shows; the one that it showed before is removed.

        Args:
            session: of which.
            path: of the upload; None for none.
        """
        with self._lock:
            before = self._uploads.pop(session, None)
            if path is not None and self._is_upload(Path(path).resolve()):
                self._uploads[session] = Path(path).resolve()
            # tabs that upload the same file share it
            if before is not None and before not in self._uploads.values():
                shutil.rmtree(before.parent, ignore_errors=True)

    def close(self, session: str) -> None:
        """Forget a session whose tab was closed: stop its job, remove its files."""
        with self._lock:
            ticket = self._tickets.pop(session, None)
        if ticket is not None:
            ticket.cancel()
        self.drop_folder(session)
        self.hold_upload(session, None)

    def _is_upload(self, path: Path) -> bool:
        """Whether a file lies in a folder of its own that an upload made."""
        folder = path.parent
        known = folder.name == EXAMPLE_FOLDER or folder.name.startswith('job_')
        return folder.parent == self.root and not known


EXAMPLE_FOLDER = 'example'
