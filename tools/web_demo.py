# SPDX-License-Identifier: Apache-2.0
"""Open a page in the browser: upload or record a video, give names, see and hear what was found.

The page is served on this computer, for this computer alone. It works without internet, tells nobody anything,
runs one video at a time and keeps none. Press Ctrl+C in the terminal to end it.
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
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The arguments, by name.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', metavar='CONFIG', help='config: path, or bare name (ovavss_r50_release)')
    parser.add_argument('--weights', metavar='CHECKPOINT', help='checkpoint of this model')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen at (default: %(default)s)')
    parser.add_argument('--port', type=int, default=7860, help='port (default: %(default)s)')
    parser.add_argument('--max-size', type=float, default=200, metavar='MB', help='of a file (default: %(default)s)')
    parser.add_argument('--max-seconds', type=float, default=120, metavar='S', help='of a video (default: %(default)s)')
    parser.add_argument('--queue', type=int, default=10, metavar='N', help='jobs that wait (default: %(default)s)')
    parser.add_argument(
        '--share',
        choices=('yes', 'no'),
        default='no',
        help="whether a public link over Gradio's servers is made (default: no)",
    )
    args = parser.parse_args(argv)
    if (args.model is None) != (args.weights is None):
        parser.error('--model and --weights go together')
    return args


def main(argv: list[str] | None = None) -> None:
    """Serve the page until it is ended.

    Args:
        argv: the arguments; None: those of the process.
    """
    args = parse_args(argv)
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    # Imported here, as torch takes seconds.
    from ovavss_mm.compat import import_quietly

    apis = import_quietly('ovavss_mm.apis')
    loading = import_quietly('ovavss_mm.apis.loading')
    if importlib.util.find_spec('gradio') is None:
        sys.exit("error: the page needs Gradio: pip install 'gradio>=6,<7'")
    server = import_quietly('ovavss_mm.apis.web.server')
    limits = import_quietly('ovavss_mm.apis.web.limits')
    warnings.showwarning = lambda message, *_, **__: print(f'note: {message}', file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that temporary files are removed
    try:
        bounds = limits.Limits(megabytes=args.max_size, seconds=args.max_seconds)
        address = server.Address(args.host, args.port, args.share == 'yes')
        if not address.is_local:
            print(
                'warning: the page has no log-in, and others than this computer can reach it now: '
                'they can upload videos and use the machine',
                file=sys.stderr,
            )
        if args.model is None:
            args.model, args.weights = loading.find_default_model()
        print(f'model: {args.model}, weights: {args.weights}', flush=True)
        inferencer = apis.AVSegInferencer(args.model, args.weights, args.device, show_progress=False)
        with server.serving(inferencer, bounds, address, args.queue) as blocks:
            print(f'open {blocks.share_url or blocks.local_url} in a browser', flush=True)
            print('Ctrl+C ends it', flush=True)
            blocks.block_thread()
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        print()


if __name__ == '__main__':
    main()
