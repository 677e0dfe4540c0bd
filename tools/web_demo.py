# SPDX-License-Identifier: Apache-2.0
"""Open a page in the browser: upload or record a video, give names, see and hear what was found.

The page is served on this computer, for this computer alone. It works without internet, tells nobody anything,
runs one video at a time and keeps none. Programs get the same over HTTP (docs/serving.md). Press Ctrl+C in the
terminal to end it.
"""

import argparse
import importlib.util
import os
import signal
import sys
import warnings

EXAMPLES = """examples:
  the best model that is there: released (data/weights), of `make demo`, else the mini model of the package
    python tools/web_demo.py

  a model of your own on a GPU, videos up to ten minutes
    python tools/web_demo.py --model CONFIG --weights CHECKPOINT --device cuda:0 --max-seconds 600 --max-size 1000

  a video labelled over HTTP, from another terminal: JSON with the timeline and where the files are
    curl -F video=@clip.mp4 -F names='violin, dog' http://127.0.0.1:7860/api/label
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, of the process by default."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, default = parser.add_argument, '(default: %(default)s)'
    config = 'config: path, or bare name (ovavss_r50_release); or a model in a folder, or its id on the hub: org/name'
    add('--model', metavar='MODEL', help=config)
    add('--weights', metavar='CHECKPOINT', help='checkpoint of a config (a folder has its own, sam4avs_mini none)')
    add('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    add('--host', default='127.0.0.1', help=f'address to listen at {default}')
    add('--port', type=int, default=7860, help=f'port {default}')
    add('--max-size', type=float, default=200, metavar='MB', help=f'of a file {default}')
    add('--max-seconds', type=float, default=120, metavar='S', help=f'of a video {default}')
    add('--queue', type=int, default=10, metavar='N', help=f'jobs that wait {default}')
    share = "whether a public link over Gradio's servers is made (default: no)"
    add('--share', choices=('yes', 'no'), default='no', help=share)
    args = parser.parse_args(argv)
    if args.weights is not None and args.model is None:
        parser.error('--weights goes with --model')
    return args


def main(argv: list[str] | None = None) -> None:
    """Serve the page until it is ended."""
    args = parse_args(argv)
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    # Imported here, as torch takes seconds.
    from ovavss_mm.compat import import_quietly

    apis = import_quietly('ovavss_mm.apis')
    loading = import_quietly('ovavss_mm.apis.loading')
    if importlib.util.find_spec('gradio') is None:
        sys.exit("error: the page needs Gradio: pip install 'gradio>=6,<7'")
    from web import limits, server

    warnings.showwarning = lambda message, *_, **__: print(f'note: {message}', file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that temporary files are removed
    try:
        bounds = limits.Limits(megabytes=args.max_size, seconds=args.max_seconds)
        if not 1 <= args.port <= 65535:
            raise ValueError(f'port must be from 1 to 65535, got {args.port}')
        share = args.share == 'yes'
        if args.host not in server.LOCAL or share:
            print(
                'warning: the page has no log-in, and others than this computer can reach it now: '
                'they can upload videos and use the machine',
                file=sys.stderr,
            )
        if args.model is None:
            args.model, args.weights = loading.find_default_model()
        print(f'model: {args.model}' + (f', weights: {args.weights}' if args.weights else ''), flush=True)
        inferencer = apis.AVSegInferencer(args.model, args.weights, args.device, show_progress=False)
        with server.serving(inferencer, bounds, args.host, args.port, share, args.queue) as blocks:
            print(f'open {blocks.share_url or blocks.local_url} in a browser', flush=True)
            print('Ctrl+C ends it', flush=True)
            blocks.block_thread()
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        print()


if __name__ == '__main__':
    main()
