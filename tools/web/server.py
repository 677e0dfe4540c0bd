# SPDX-License-Identifier: Apache-2.0
"""Serves the page on this computer."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..inferencer import AVSegInferencer
from .jobs import Labeller
from .limits import MEGABYTE, Limits
from .workspace import Workspace

LOCAL = ('127.0.0.1', 'localhost', '::1')
# The browser loads from this server alone, whatever Gradio's page names besides.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
FONTS = dict(font=('system-ui', 'Segoe UI', 'Roboto', 'sans-serif'), font_mono=('ui-monospace', 'monospace'))


class ContentPolicy:
    """Adds the header that keeps a browser from asking any other server.

    Args:
        app: that answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_policy(message: Message) -> None:
            if message['type'] == 'http.response.start':
                headers = MutableHeaders(scope=message)
                headers['Content-Security-Policy'] = POLICY
                headers['Referrer-Policy'] = 'no-referrer'
                headers['X-Content-Type-Options'] = 'nosniff'
            await send(message)

        await self.app(scope, receive, send_with_policy)


@dataclass
class Address:
    """Where the page is served.

    Args:
        host: address of this computer's that is listened at.
        port: of it.
        share: whether a public link by Gradio's servers is asked for.

    Raises:
        ValueError: the port is out of range.
    """

    host: str = '127.0.0.1'
    port: int = 7860
    share: bool = False

    def __post_init__(self) -> None:
        """Check the port."""
        if not isinstance(self.port, int) or not 1 <= self.port <= 65535:
            raise ValueError(f'port must be from 1 to 65535, got {self.port!r}')

    @property
    def is_local(self) -> bool:
        """Whether only this computer reaches it."""
        return self.host in LOCAL and not self.share


def keep_quiet(folder: Path) -> None:
    """Set, in this process, that Gradio tells nobody anything and puts its files into a folder.

    To be called before Gradio is imported.

    Args:
        folder: for uploads.
    """
    os.environ.update(GRADIO_ANALYTICS_ENABLED='False', HF_HUB_DISABLE_TELEMETRY='1', GRADIO_TEMP_DIR=str(folder))


@contextmanager
def serving(inferencer: AVSegInferencer, limits: Limits, address: Address, queue: int = 10) -> Iterator[Any]:
    """Serve the page while the block runs; its temporary files are gone afterwards.

    Args:
        inferencer: with the model.
        limits: of a job.
        address: where.
        queue: jobs that may wait.

    Yields:
        Gradio's ``Blocks``, served: ``local_url``, ``block_thread()``.

    Raises:
        OSError: the port is taken.
        ValueError: the queue is not above 0.
    """
    with Workspace() as workspace:
        keep_quiet(workspace.root)
        import gradio as gr  # what it reads of the environment is set now

        from .page import Page

        mini = inferencer.config_name.startswith('ovavss_mini')
        blocks = Page(Labeller(inferencer, limits), workspace, mini, queue).build()
        here = Path(__file__).parent
        try:
            blocks.launch(
                server_name=address.host,
                server_port=address.port,
                share=address.share,
                max_file_size=round(limits.megabytes * MEGABYTE),
                theme=gr.themes.Soft(primary_hue='teal', **FONTS),
                css=(here / 'page.css').read_text(encoding='utf-8'),
                js=(here / 'page.js').read_text(encoding='utf-8'),
                footer_links=[],
                run_history=False,
                ssr_mode=False,
                mcp_server=False,
                quiet=True,
                prevent_thread_lock=True,
                app_kwargs=dict(middleware=[Middleware(ContentPolicy)]),
            )
        except OSError as error:
            raise OSError(
                f'port {address.port} of {address.host} cannot be had, it may be taken: name another'
            ) from error
        try:
            yield blocks
        finally:
            blocks.close(verbose=False)
