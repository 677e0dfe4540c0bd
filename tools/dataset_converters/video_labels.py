# SPDX-License-Identifier: Apache-2.0
"""Labels of video files, and the command line of the converters that read them."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from own_archive import SPLITS, Mask, make_parser, run

MAX_FPS = 60  # as of labels of a model
MAX_SECONDS = 3600  # of a clip: more sound is not read


class VideoLabels:
    """What a file says of a video; subclasses say where things are.

    Args:
        where (str): the file, for messages.
        video (str): name or path of the video there.

    Attributes:
        names (set[str]): in the form of :func:`own_archive.archive_name`.
        size (tuple[int, int]): (H, W) of the labelled frames, None if that is not known.
        grid (range): numbers of the frames that were looked at by people.
    """

    def __init__(self, where: str, video: str) -> None:
        self.where, self.video = where, video
        self.names: set[str] = set()
        self.size: tuple[int, int] | None = None
        self.grid = range(sys.maxsize)

    def masks(self, time: float, number: int, shape: tuple[int, int]) -> list[Mask] | None:
        """What sounds in a frame.

        Args:
            time (float): that it is taken for, in seconds from the first frame of the video.
            number (int): of the frame in the video, from 0; one of ``grid``.
            shape (tuple[int, int]): (H, W) of the frame, and of the masks.

        Returns:
            list[Mask]: none where nothing sounds; None where nobody looked.

        Raises:
            ValueError: something is malformed; the message says where.
        """
        raise NotImplementedError

    def notes(self) -> list[str]:
        """What people should know, once all masks were asked for."""
        return []


Reader = Callable[[str, argparse.Namespace], list[VideoLabels]]


# ---------------------------------------------------------------------- command line
def make_video_parser(doc: str, kind: str) -> argparse.ArgumentParser:
    """The parser of a converter of video files."""
    parser = make_parser(doc, kind)
    parser.add_argument('--videos', required=True, help='folder of the video files, also in folders below it')
    parser.add_argument('--fps', type=int, default=1, help='label maps a second (default: 1)')
    cut = 'cut videos into clips of at most SECONDS (default: a clip a video)'
    parser.add_argument('--seconds', type=int, help=cut)
    return parser


def convert_videos(parser: argparse.ArgumentParser, argv: list[str] | None, read: Reader) -> None:
    """Do what the command line asks for; the process ends with 1 if something is wrong."""
    args = parser.parse_args(argv)
    if not (args.train or args.val or args.test):
        parser.error('one of --train, --val, --test must be given')
    if not 1 <= args.fps <= MAX_FPS:
        parser.error(f'--fps must be from 1 to {MAX_FPS}, got {args.fps}')
    args.seconds = MAX_SECONDS if args.seconds is None else args.seconds
    if not 1 <= args.seconds <= MAX_SECONDS:
        parser.error(f'--seconds must be from 1 to {MAX_SECONDS}, got {args.seconds}')

    def convert(args: argparse.Namespace, root: Path) -> str:
        from video_clips import write_archive  # here, as torch takes seconds

        found = [(split, labels) for split in SPLITS for path in getattr(args, split) for labels in read(path, args)]
        return write_archive(args, root, found)

    run(args, ('videos',), convert)
