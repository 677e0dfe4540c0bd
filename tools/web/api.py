# SPDX-License-Identifier: Apache-2.0
"""What the page does, over HTTP: ``POST /api/label``, and results by GET while they are kept (docs/serving.md)."""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter, move_on_after, to_thread
from fastapi import FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Mount, Route

from ovavss_mm.apis.video.listing import safe_name
from ovavss_mm.utils.text import one_line, shorten
from ovavss_mm.version import __version__

from .limits import (
    DEFAULTS,
    FAILED,
    FPS,
    MAX_LETTERS,
    MAX_MEGAPIXELS,
    MAX_NAMES,
    MEGABYTE,
    OPACITY,
    InputError,
    QueueFullError,
    TooLargeError,
)
from .runner import Cancelled, CancelToken, DemoRunner, Result

PREFIX = '/api'
KEEP_SECONDS = 3600
KEEP_RESULTS = 20
RETRY_SECONDS = 10  # after which a client that was sent away may ask again
GRACE_SECONDS = 1  # for who is about to be sent a file that goes
DRAIN_SECONDS = 5
ENDS = 'The job was stopped: the server ends.'
FIELDS = ('video', 'names', 'fps', 'opacity')


# ---------------------------------------------------------------------- answers
class Files(BaseModel):
    """Paths on this server, for GET."""

    video: str = Field(description='the video with its sound, masks and names drawn on it, mp4')
    timeline: str = Field(description='`timeline` as a file, JSON')
    labels: str = Field(description='zip of MILLISECONDS.png: 0 background, i the i-th name of `vocabulary`')


class Timeline(BaseModel):
    """What pred/NAME.json of tools/infer.py holds."""

    model_config = ConfigDict(extra='allow')
    video: str = Field(description='name of the file')
    vocabulary: list[str]
    fps: int = Field(description='labelled frames a second')
    size: list[int] = Field(description='height and width in pixels')
    num_frames: int = Field(description='labelled frames')
    duration: float = Field(description='in seconds')
    names: dict[str, Any] = Field(description='what sounds: seconds, their intervals, scores')
    objects: list[Any] = Field(description='the sounding objects, with their ids')
    silent: dict[str, Any] = Field(description='when nothing visible sounds: seconds, their intervals')
    notes: list[str] = Field(description='what was odd with the video')
    frames: list[dict[str, Any]] = Field(description='names and objects of each labelled frame')


class Labelled(BaseModel):
    """A labelled video."""

    id: str = Field(description='of the result; whoever knows it can fetch and delete the files')
    kept_seconds: float = Field(description='how long, at most, the files are kept')
    files: Files
    timeline: Timeline


class Problem(BaseModel):
    """Why there is no answer."""

    error: str = Field(description='what was wrong and what to do')


def _problem(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The one shape of all errors."""
    return JSONResponse(dict(error=message), status, headers)


def _refused(_: Request, error: Exception) -> JSONResponse:
    """The answer to what the job or its form raised."""
    if isinstance(error, AnyHTTPException):
        return _problem(error.status_code, str(error.detail), error.headers)
    if isinstance(error, QueueFullError | Cancelled):
        return _problem(503, str(error) or ENDS, {'Retry-After': str(RETRY_SECONDS)})
    if isinstance(error, RequestValidationError):
        return _problem(422, '; '.join(map(_words, error.errors())))
    if isinstance(error, InputError):
        return _problem(413 if isinstance(error, TooLargeError) else 422, str(error))
    return _problem(500, FAILED)


def _words(error: dict[str, Any]) -> str:
    """What is wrong with a field, of an entry of pydantic's list."""
    field = str(error['loc'][1])
    if field == 'video':
        return 'video: send the file as multipart/form-data, as `curl -F video=@clip.mp4` does'
    got = '' if error['type'] == 'missing' else f', got {one_line(repr(error["input"]), 40)}'
    return f'{field}: {error["msg"]}{got}'


# ---------------------------------------------------------------------- uploads
class Upload(Request):
    """A request whose body is read up to a number of bytes."""

    limit = 0.0  # megabytes

    async def stream(self) -> Any:
        """The body; raises TooLargeError as soon as it is known to be too large."""
        most = (self.limit + 1) * MEGABYTE  # one for the other fields
        seen = int(self.headers.get('content-length', 0))
        if seen <= most:
            seen = 0
            async for chunk in super().stream():
                seen += len(chunk)
                if seen > most:
                    break
                yield chunk
        if seen > most:
            error = TooLargeError('The upload is too large', self.limit)
            raise HTTPException(413, str(error)) from error  # what else is raised here, FastAPI takes for a bad form

    def form(self, **_: Any) -> Any:
        """The fields: one video, and no more others than there can be."""
        return super().form(max_files=1, max_fields=MAX_NAMES + len(FIELDS))

    async def drain(self) -> None:
        """Read what still comes, for a while: many clients look for an answer when they have sent all."""
        if 'expect' not in self.headers:  # such a client waits before it sends
            with move_on_after(DRAIN_SECONDS), suppress(ClientDisconnect, RuntimeError):  # or is read
                async for _ in super().stream():
                    pass


# ---------------------------------------------------------------------- the interface
class Api:
    """Answers HTTP requests. A job and its result are a session of the runner, whose name nobody can guess.

    Args:
        runner (DemoRunner): runs the jobs, those of the page, too.
    """

    def __init__(self, runner: DemoRunner) -> None:
        self.runner = runner
        self._threads = CapacityLimiter(runner.line.size + 1)
        self._requests = 0  # that are read, wait or run
        self._results: dict[str, Result] = {}  # by id, the oldest first

    def routes(self) -> list[BaseRoute]:
        """For the page's app: the interface below /api, and its description in the place where it is looked for."""
        app = self._app()
        document = app.openapi()
        (form,) = (body for name, body in document['components']['schemas'].items() if name.startswith('Body_'))
        form['additionalProperties'] = False  # FastAPI knows no way to say it

        async def describe(_: Request) -> JSONResponse:
            """The description."""
            return JSONResponse(document)

        return [Mount(PREFIX, app), Route('/openapi.json', describe)]

    def _app(self) -> FastAPI:
        """The interface as an app of its own."""
        limits = self.runner.limits
        app = FastAPI(
            title='What sounds, and where',
            version=__version__,
            description=(
                f'Videos have up to {limits.megabytes:g} MB, {limits.seconds:g} s, and frames of {MAX_MEGAPIXELS} '
                f'million pixels; one is labelled at a time, while {self.runner.line.size} wait. Results are kept for '
                f'{KEEP_SECONDS} s, the last {KEEP_RESULTS} at most. All errors are `{{"error": "what was wrong"}}`.'
            ),
            servers=[dict(url=PREFIX)],
            root_path_in_servers=False,
            openapi_url=None,  # and no pages that load from elsewhere
        )
        for kind in (AnyHTTPException, RequestValidationError, InputError, Cancelled, Exception):
            app.add_exception_handler(kind, _refused)
        app.router.route_class = self._route_class()
        problems = {status: dict(model=Problem, description=why) for status, why in PROBLEMS.items()}
        some = {status: problems[status] for status in (403, 404)}
        app.post('/label', response_model=Labelled, responses=problems)(self.label)
        app.get('/results/{id}/{file}', response_class=FileResponse, responses=some | {200: FILE})(self.fetch)
        app.delete('/results/{id}', status_code=204, response_class=Response, responses=some)(self.remove)
        return app

    def _route_class(self) -> type[APIRoute]:
        """Routes whose uploads are limited, also in number."""
        api = self

        class LimitedRoute(APIRoute):
            def get_route_handler(self) -> Callable:
                """Answers a request."""
                handle = super().get_route_handler()
                return partial(api._limited, handle) if 'POST' in self.methods else handle

        return LimitedRoute

    async def _limited(self, handle: Callable, request: Request) -> Response:
        """Read and answer an upload, unless too many are on their way."""
        upload = Upload(request.scope, request.receive)
        upload.limit = self.runner.limits.megabytes
        self._requests += 1
        try:
            self.runner.line.check_room()
            if self._requests > self.runner.line.size + 1:
                raise QueueFullError(self.runner.line.size)
            return await handle(upload)
        except (QueueFullError, HTTPException):
            await upload.drain()
            raise
        finally:
            self._requests -= 1

    async def label(
        self,
        request: Request,
        video: Annotated[UploadFile, File(description='any video with sound that FFmpeg reads')],
        names: Annotated[
            list[str],
            Form(
                min_length=1,
                description=f'what to look for, up to {MAX_NAMES} names of up to {MAX_LETTERS} letters: commas between '
                'them, or the field several times',
            ),
        ],
        fps: Annotated[int, Form(ge=FPS[0], le=FPS[1], description='labelled frames a second')] = DEFAULTS['fps'],
        opacity: Annotated[
            float, Form(ge=OPACITY[0], le=OPACITY[1], description='of the colours in the labelled video')
        ] = DEFAULTS['opacity'],
    ) -> Response:
        """Label a video. The connection stays open while the job waits and runs; closing it cancels the job."""
        if unknown := sorted(set(await request.form()) - set(FIELDS)):
            raise InputError(f'unknown field {shorten(map(repr, unknown))}; there are {", ".join(FIELDS)}')
        job = secrets.token_urlsafe(16)
        token = self.runner.session(job, new_job=True).token
        watch = asyncio.create_task(_stop_if_gone(request, token))
        try:
            work = partial(self._work, job, video, '\n'.join(names), fps=fps, opacity=opacity)
            result = await to_thread.run_sync(work, limiter=self._threads)
            token.check()  # nobody is there for the result of one who left at the last moment
            answer = self._answer(job, result, request.scope['root_path'])
        except BaseException:
            self.runner.close(job)
            raise
        finally:
            watch.cancel()
        self._keep(job, result)
        return answer

    def _answer(self, job: str, result: Result, root: str) -> Response:
        """A result as :class:`Labelled`."""
        files = {kind: f'{root}/results/{job}/{name}' for kind, name in FILES.items()}
        return JSONResponse(dict(id=job, kept_seconds=KEEP_SECONDS, files=files, timeline=result.prediction))

    def _work(self, job: str, video: UploadFile, names: str, **settings: Any) -> Result:
        """Run a job in a thread."""
        path = Path(tempfile.mkdtemp(prefix='http_', dir=self.runner.root)) / safe_name(video.filename or 'video')
        self.runner.hold_upload(job, str(path))  # it is removed with the job
        with video.file, path.open('wb') as file:
            shutil.copyfileobj(video.file, file)
        result = self.runner.run(job, str(path), names, lambda *_: None, labels=True, **settings)
        self.runner.hold_upload(job, None)
        return result

    # ------------------------------------------------------------------ results
    def _keep(self, job: str, result: Result) -> None:
        """Keep a result for a while, and only so many."""
        self._results[job] = result
        asyncio.get_running_loop().call_later(KEEP_SECONDS, self._drop, job)
        while len(self._results) > KEEP_RESULTS:
            self._drop(next(iter(self._results)))

    def _drop(self, job: str) -> None:
        """Remove a result, if it is there."""
        if self._results.pop(job, None) is not None:
            asyncio.get_running_loop().call_later(GRACE_SECONDS, self.runner.close, job)

    def _result(self, job: str) -> Result:
        """The result of an id."""
        if job not in self._results:
            raise HTTPException(404, 'There is no such result (any more): label the video again.')
        return self._results[job]

    async def fetch(self, id: str, file: str) -> FileResponse:
        """A file of a result; `file` is labelled.mp4, timeline.json or labels.zip."""
        result = self._result(id)
        kinds = {name: kind for kind, name in FILES.items()}
        if file not in kinds:
            raise HTTPException(404, f'There is no such file; there are {", ".join(kinds)}.')
        path = getattr(result, kinds[file])
        return FileResponse(path, filename=Path(path).name)

    async def remove(self, id: str) -> None:
        """Remove the files of a result before its time."""
        self._result(id)
        self._drop(id)


FILES = dict(video='labelled.mp4', timeline='timeline.json', labels='labels.zip')  # by the attribute of a result
BINARY = dict(schema=dict(type='string', format='binary'))
FILE = dict(
    description='the file',
    content={'video/mp4': BINARY, 'application/json': dict(schema={}), 'application/zip': BINARY},
)
PROBLEMS = {
    400: 'the body cannot be read as a form',
    403: 'another web site asked, or the server was addressed by a name that is not its own',
    404: 'there is no such result, or it is not kept any more',
    413: 'the file is too large',
    422: 'a field is missing or wrong, or the video cannot be used',
    500: 'the job failed; the terminal says why',
    503: f'too many videos wait: try again after `Retry-After` ({RETRY_SECONDS}) seconds',
}


async def _stop_if_gone(request: Request, token: CancelToken) -> None:
    """Stop a job when its client disconnects."""
    while (await request.receive())['type'] != 'http.disconnect':
        pass
    token.set()
