# SPDX-License-Identifier: Apache-2.0
"""The layout of the page and what its buttons do."""

import logging
import threading
from typing import Any

import gradio as gr

from ovavss_mm.mini_world.names import NAMES as MINI_NAMES
from ovavss_mm.mini_world.video import video_scenes, write_video

from .chart import message_html, timeline_html
from .limits import DEFAULTS, FAILED, FPS, OPACITY, InputError
from .runner import EXAMPLE_FOLDER, Cancelled, DemoRunner

TITLE = 'What sounds, and where'
INTRO = """# What sounds, and where
Give a video with sound and any names. Each second, every pixel of what is **heard** gets the colour of its name."""
DEFAULT_NAMES = ('man', 'woman', 'dog', 'cat', 'car', 'guitar', 'piano', 'violin')
EXAMPLE = dict(seconds=12, seed=4, sounding=('blue-triangle', 'red-square'), silent=('green-star',))
EXAMPLE_FPS = 12
# Uploads that no tab shows are looked for every 300 s, and removed when they are an hour old.
DELETE_CACHE = (300, 3600)
HINT = 'Choose a video and names, then press "Label the video".'
MINI_HINT = (
    ' This model knows the mini world only, coloured shapes that sound: press "Show me an example" to see it at work.'
)
logger = logging.getLogger(__name__)


class Page:
    """Builds the page, and answers its buttons.

    Args:
        runner (DemoRunner): runs the jobs.
        mini (bool): whether the model is that of the mini world, whose names and clips are then offered.
    """

    def __init__(self, runner: DemoRunner, mini: bool) -> None:
        self.runner, self.mini = runner, mini
        self._example_lock = threading.Lock()

    # ------------------------------------------------------------------ layout
    def build(self) -> gr.Blocks:
        """The page, not yet served."""
        with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=DELETE_CACHE) as blocks:
            gr.Markdown(INTRO, elem_id='ov-intro')
            with gr.Row(elem_id='ov-columns'):
                with gr.Column(scale=4, min_width=320):
                    inputs = self._inputs()
                    buttons = self._buttons()
                with gr.Column(scale=6, min_width=320):
                    outputs = self._outputs()
            self._connect(blocks, inputs, outputs, buttons)
            gr.Markdown('For programs there is the same [over HTTP](openapi.json).', elem_id='ov-http')
        # jobs wait in the runner's queue, where those of other programs wait, too
        return blocks.queue(max_size=None, default_concurrency_limit=None, api_open=False)

    def _inputs(self) -> list[Any]:
        """Video, names and settings."""
        limits = self.runner.limits
        video = gr.Video(
            label=f'Video, up to {limits.seconds:g} s and {limits.megabytes:g} MB',
            sources=['upload', 'webcam'],
            include_audio=True,
            webcam_options=gr.WebcamOptions(mirror=False),
            elem_id='ov-video',
        )
        known = self.runner.inferencer.own_names  # of a closed-set model
        names = gr.Textbox(
            ', '.join(known or (MINI_NAMES if self.mini else DEFAULT_NAMES)),
            label='Names, with commas between them',
            lines=4,
            max_lines=8,
            elem_id='ov-names',
        )
        with gr.Accordion('Settings', open=False, elem_id='ov-settings'):
            fps = gr.Slider(*FPS, DEFAULTS['fps'], step=1, label='Labelled frames a second')
            opacity = gr.Slider(*OPACITY, DEFAULTS['opacity'], step=0.1, label='Opacity of the colours')
        return [video, names, fps, opacity]

    def _buttons(self) -> list[gr.Button]:
        """Run, cancel and the example."""
        off = dict(variant='stop', interactive=False, scale=1)
        with gr.Row():
            run = gr.Button('Label the video', variant='primary', elem_id='ov-run', scale=2)
            cancel = gr.Button('Cancel', elem_id='ov-cancel', **off)
        example = gr.Button('Show me an example', elem_id='ov-example', visible=self.mini)
        return [run, cancel, example]

    def _outputs(self) -> list[Any]:
        """Message, labelled video, timeline and its file."""
        hint = message_html(HINT + (MINI_HINT if self.mini else ''))
        status = gr.HTML(hint, elem_id='ov-status')
        result = gr.Video(
            label='Labelled video',
            interactive=False,
            autoplay=False,
            elem_id='ov-result',
            buttons=['download'],
            height=400,
        )
        chart = gr.HTML('', elem_id='ov-timeline')
        file = gr.DownloadButton('Timeline as JSON', visible=False, elem_id='ov-json', size='sm')
        return [status, result, chart, file]

    def _connect(self, blocks: gr.Blocks, inputs: list, outputs: list, buttons: list[gr.Button]) -> None:
        """Bind the handlers to the events."""
        run, cancel, example = buttons
        video, names = inputs[:2]
        free = dict(queue=False, api_visibility='private', show_progress='hidden')
        job = dict(fn=self.work, inputs=inputs, outputs=[video, *outputs])
        job |= dict(api_visibility='private', show_progress='full', show_progress_on=outputs[0])
        filled = example.click(self.fill, None, [video, names], **free)
        for event in (run.click, filled.success):
            begun = event(self.begin, None, [*buttons, *outputs], **free)
            begun.then(**job).then(lambda: _buttons(busy=False), None, buttons, **free)
        cancel.click(self.cancel, None, cancel, **free)
        video.change(self.hold, video, None, **free)
        blocks.unload(self.close)

    # ------------------------------------------------------------------ what the buttons do
    def begin(self, request: gr.Request) -> list[Any]:
        """Before a job is queued: swap the buttons, empty the results."""
        self.runner.session(_session(request), new_job=True)
        message = message_html('\u00a0', 'wait')  # the bar lies over it
        return [*_buttons(busy=True), message, None, '', gr.DownloadButton(visible=False)]

    def work(
        self,
        video: str | None,
        names: str | None,
        fps: int,
        opacity: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (that is how Gradio finds it)
    ) -> list[Any]:
        """Run a job, and show its result or why there is none."""

        def report(seconds: float, total: float | None, left: float | None) -> None:
            of = f' of {total:.0f}' if total else ''
            then = f', {left:.0f} s left' if left is not None else ''
            share = min(1.0, seconds / total) if total else None
            progress(share, desc=f'Labelled: {seconds:.0f}{of} s{then}')

        def waits(before: int) -> None:
            progress(0, desc=f'Waiting: {before} video{"" if before == 1 else "s"} before this one')

        settings = dict(fps=int(fps), opacity=float(opacity))
        try:
            result = self.runner.run(_session(request), video, names, report, waits, **settings)
        except Exception as error:
            return _failed(error)
        prediction = result.prediction
        count = len(prediction['names'])
        heard = f'{count} name{"" if count == 1 else "s"} heard.'
        text = f'{prediction["video"]}: {prediction["duration"]:g} s, {heard}'
        return [
            gr.skip(),
            message_html(text, 'done', prediction['notes']),
            result.video,
            timeline_html(prediction),
            gr.DownloadButton(value=result.timeline, visible=True),
        ]

    def cancel(self, request: gr.Request) -> gr.Button:
        """Stop the job of this tab."""
        self.runner.session(_session(request)).token.set()
        return gr.Button(interactive=False)

    def hold(self, video: str | None, request: gr.Request) -> None:
        """Note which upload is shown."""
        self.runner.hold_upload(_session(request), video)

    def close(self, request: gr.Request) -> None:
        """The tab was closed."""
        self.runner.close(_session(request))

    def fill(self) -> tuple[str, str]:
        """The example: a clip of the mini world, made when it is first asked for, and its names."""
        path = self.runner.root / EXAMPLE_FOLDER / 'mini_world.mp4'
        with self._example_lock:
            if not path.is_file():
                write_video(path, list(video_scenes(**EXAMPLE)), fps=EXAMPLE_FPS)
        return str(path), ', '.join(MINI_NAMES)


def _failed(error: Exception) -> list[Any]:
    """What the page shows of an error; a video that is of no use goes."""
    shown: Any = gr.skip()
    if isinstance(error, Cancelled):
        message = message_html('Cancelled.')
    elif isinstance(error, InputError):
        message = message_html(str(error), 'error')
        shown = None if error.video else shown
    else:
        logger.error('a job failed', exc_info=error)
        message = message_html(FAILED, 'error')
    return [shown, message, None, '', gr.DownloadButton(visible=False)]


def _session(request: gr.Request) -> str:
    """The browser tab of a request."""
    return str(request.session_hash or '')


def _buttons(busy: bool) -> list[gr.Button]:
    """Run, cancel and example while a job runs, or not."""
    return [gr.Button(interactive=on) for on in (not busy, busy, not busy)]
