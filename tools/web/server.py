# SPDX-License-Identifier: Apache-2.0
"""Serves the page, and its HTTP interface, on this computer."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ovavss_mm.apis import AVSegInferencer

from .limits import MEGABYTE, Limits
from .runner import DemoRunner

# The browser loads from this server alone, whatever else Gradio's page names.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
LOCAL = ('127.0.0.1', 'localhost', '::1')
FONTS = dict(font=('system-ui', 'Segoe UI', 'Roboto', 'sans-serif'), font_mono=('ui-monospace', 'monospace'))


class ContentPolicy:
    """Adds the headers that keep a browser from asking any other server."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message['type'] == 'http.response.start':
                headers = MutableHeaders(scope=message)
                headers['Content-Security-Policy'] = POLICY
                headers['Referrer-Policy'] = 'no-referrer'
                headers['X-Content-Type-Options'] = 'nosniff'
            await send(message)

        await self.app(scope, receive, send_with_policy)


class OwnSite:
    """Refuses what other web sites send through a browser of this computer (CSRF, DNS rebinding).

    Browsers name the site that asks in ``Origin``, and the one that it takes this server for in ``Host``.

    Args:
        app (ASGIApp): what to guard.
        local (bool): whether the server is for this computer alone.
    """

    def __init__(self, app: ASGIApp, local: bool) -> None:
        self.app, self.local = app, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope['type'] == 'http' and (reason := self._reason(Headers(scope=scope))):
            app = JSONResponse(dict(error=reason), 403)
        await app(scope, receive, send)

    def _reason(self, headers: Headers) -> str | None:
        """Why a request is refused."""
        host, origin = headers.get('host', ''), headers.get('origin')
        try:
            if self.local and urlsplit(f'//{host}').hostname not in LOCAL:
                return 'This server is for this computer alone, at 127.0.0.1 or localhost.'
            if origin is None or urlsplit(origin).netloc in (host, headers.get('x-forwarded-host')):
                return None
        except ValueError:  # no address
            pass
        return 'Another web site must not use this server.'


@contextmanager
def serving(
    inferencer: AVSegInferencer,
    limits: Limits,
    host: str = '127.0.0.1',
    port: int = 7860,
    share: bool = False,
    queue: int = 10,
) -> Iterator[Any]:
    """Serve the page and its HTTP interface while the block runs; its temporary files are gone afterwards.

    Yields:
        gr.Blocks: the page, served: ``local_url``, ``block_thread()``.

    Raises:
        OSError: the port is taken.
        ValueError: the queue is not above 0.
    """
    with DemoRunner(inferencer, limits, queue) as runner:
        # Gradio reads these when it is imported: it tells nobody anything, uploads go to the runner's folder
        os.environ.update(GRADIO_ANALYTICS_ENABLED='False', HF_HUB_DISABLE_TELEMETRY='1')
        os.environ['GRADIO_TEMP_DIR'] = str(runner.root)
        import gradio as gr

        from .api import Api
        from .page import Page

        mini = inferencer.config_name.startswith('ovavss_mini')
        blocks = Page(runner, mini).build()
        guards = [Middleware(ContentPolicy)]
        if not share:  # a shared page is everybody's, by a name that is not known here
            guards.append(Middleware(OwnSite, local=host in LOCAL))
        here = Path(__file__).parent
        try:
            blocks.launch(
                server_name=host,
                server_port=port,
                share=share,
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
                max_threads=40 + queue,  # Gradio's own, and one for each job that waits
                app_kwargs=dict(middleware=guards, routes=Api(runner).routes()),
            )
        except OSError as error:
            raise OSError(f'port {port} of {host} cannot be had, it may be taken: name another') from error
        try:
            yield blocks
        finally:
            runner.stop()  # so that nobody is waited for
            blocks.close(verbose=False)
