# SPDX-License-Identifier: Apache-2.0
"""Feed mutated mp4, mkv and wav files to what reads videos for the inferencer, and to what writes the labelled mp4.

Example: ``python tests/fuzz_videos.py --cases 10000``. A process reads a batch; one that crashes is a finding.
"""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

CASE_SECONDS = 10  # that a case may take
MEMORY = 12 * 2**30  # bytes of addresses that a process may have: libraries take the most of it
NUMBERS = (0, 1, 127, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cases', type=int, default=10_000, help='(default: 10000)')
    parser.add_argument('--batch', type=int, default=500, help='cases of a process (default: 500)')
    parser.add_argument('--keep', help='folder for files that were findings')
    parser.add_argument('--first', type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def good_files(folder: Path) -> list[Path]:
    """Small files of several kinds."""
    import av
    import soundfile
    from video_files import clicks, numbered, write_mp4

    frames, sound = numbered(12, (32, 48)), clicks(2, [0.5, 1.2])
    files = [
        write_mp4(folder / 'a.mp4', frames, 6.0, sound),
        write_mp4(folder / 'b.mkv', frames, 6.0, sound),
        write_mp4(folder / 'c.mp4', frames, 6.0, sound, rotation=90, options={'movflags': 'frag_keyframe'}),
        folder / 'd.wav',
        folder / 'e.avi',
    ]  # fmt: skip
    soundfile.write(files[3], sound, 16000)
    with av.open(str(files[4]), 'w') as file:
        stream = file.add_stream('mpeg4', rate=6)
        stream.height, stream.width, stream.pix_fmt = 32, 48, 'yuv420p'
        for image in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
        file.mux(stream.encode(None))
    return files


def mutate(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Change a file in a few places, its header more often than the rest."""
    content = bytearray(content)
    tables = [i for kind in (b'moov', b'moof', b'Tracks', b'hdrl', b'fmt ') if (i := content.find(kind)) >= 0]
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(content) or 1)
        if tables and chance.random() < 0.6:
            at = min(len(content) - 1, chance.choice(tables) + chance.randrange(900))
        at, kind = max(at, 0), chance.randrange(7)
        to = min(len(content), at + chance.randrange(1, 64))
        if kind == 0 and content:
            content[at] ^= 1 << chance.randrange(8)
        elif kind <= 2:
            size = chance.choice((1, 2, 4, 8))
            content[at : at + size] = (chance.choice(NUMBERS) % 256**size).to_bytes(
                size, chance.choice(('big', 'little'))
            )
        elif kind == 3:
            del content[at:to]
        elif kind == 4:
            content[at:at] = content[at:to] if chance.random() < 0.5 else chance.randbytes(to - at)
        elif kind == 5 and chance.random() < 0.3:
            del content[at:]
        elif kind == 6 and chance.random() < 0.3:
            content[at:] = other[chance.randrange(len(other)) :]
    return bytes(content)


def read(path: Path, out: Path) -> str:
    """Read a file as the inferencer does, and write the labelled video."""
    import av
    import numpy as np

    from ovavss_mm.apis.video.base import frames_at
    from ovavss_mm.apis.video.outputs import Outputs
    from ovavss_mm.apis.video.overlay import OverlayVideo
    from ovavss_mm.apis.video.request import InferenceRequest, LabelledFrame
    from ovavss_mm.apis.video.sound import SoundReader
    from ovavss_mm.apis.video.sources import open_source
    from ovavss_mm.datasets.vocabulary import Vocabulary

    try:
        item = dict(frames=np.zeros((2, 8, 8, 3), np.uint8), sound=str(path))
        source = open_source(item if path.suffix == '.wav' else str(path))
        reader = SoundReader(source.sound, 16000)
        request = InferenceRequest(Vocabulary(['dog']))
        labels = np.zeros(source.size, np.uint8)
        with Outputs() as outputs:
            writer = outputs.closing(OverlayVideo(outputs.add(out / 'a.mp4'), source, request))
            for number, (time_, rgb) in enumerate(frames_at(source, 1)):
                if rgb.dtype != np.uint8 or rgb.shape != (*source.size, 3):
                    raise AssertionError(f'a frame is {rgb.dtype} {rgb.shape}')
                samples = reader.span(round(time_ * 16000), 16000)
                if samples.shape != (16000,) or not np.isfinite(samples).all():
                    raise AssertionError(f'sound is {samples.shape} or not finite')
                writer.write(LabelledFrame(time_, labels, {}), time_ + 1)
                if number > 300:  # a still picture of an hour is no finding
                    return 'long'
            writer.write(LabelledFrame(time_, labels, {}), None)
    except (OSError, ValueError, av.FFmpegError):  # the recorder makes the last a ValueError
        return 'refused'
    return 'read'


def batch(args: argparse.Namespace) -> None:
    """Run the cases of one process."""
    import av

    import ovavss_mm.apis  # noqa: F401

    av.logging.set_level(None)
    warnings.simplefilter('ignore')

    def too_long(*_: object) -> None:
        raise RuntimeError('it took too long')

    signal.signal(signal.SIGALRM, too_long)
    results: Counter = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'good').mkdir()
        files = good_files(folder / 'good')
        contents = [file.read_bytes() for file in files]
        read(files[0], folder / 'out')
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for case in range(args.first, args.first + args.batch):
            chance = random.Random(case)
            which = chance.randrange(len(files))
            content = mutate(contents[which], contents[chance.randrange(len(files))], chance)
            path = folder / f'x{files[which].suffix}'
            path.write_bytes(content)
            print(f'case {case}', file=sys.stderr, flush=True)
            start = time.perf_counter()
            signal.alarm(4 * CASE_SECONDS)
            try:
                outcome = read(path, folder / 'out')
            except Exception as error:
                outcome = 'finding'
                print(f'FINDING {case} {type(error).__name__}: {str(error)[:200]}', flush=True)
            signal.alarm(0)
            took = time.perf_counter() - start
            left = {p.name for p in folder.rglob('*') if p.is_file()}
            wrong = left - {file.name for file in files} - {path.name, 'a.mp4'}
            if took > CASE_SECONDS or wrong:
                outcome = 'finding'
                print(f'FINDING {case} took {took:.1f} s, left {wrong}', flush=True)
            if outcome == 'finding' and args.keep:
                Path(args.keep, f'{case}{path.suffix}').write_bytes(content)
            results[outcome] += 1
            path.unlink()
    print('RESULTS', *(f'{k}={v}' for k, v in results.items()), flush=True)


def main(argv: list[str] | None = None) -> None:
    """Run batches, one after the other."""
    args = parse_args(argv)
    if args.first is not None:
        batch(args)
        return
    if args.keep:
        Path(args.keep).mkdir(parents=True, exist_ok=True)
    results: Counter = Counter()
    start = time.perf_counter()
    root = str(Path(__file__).parents[1])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get('PYTHONPATH')])])
    for first in range(0, args.cases, args.batch):
        size = min(args.batch, args.cases - first)
        command = [sys.executable, __file__, '--first', str(first), '--batch', str(size)]
        command += ['--keep', os.path.abspath(args.keep)] if args.keep else []
        result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {'PYTHONPATH': paths})
        for line in result.stdout.splitlines():
            if line.startswith('FINDING'):
                print(line, flush=True)
            elif line.startswith('RESULTS'):
                results.update({k: int(v) for k, v in (pair.split('=') for pair in line.split()[1:])})
        if result.returncode:
            last = [line for line in result.stderr.splitlines() if line.startswith('case')][-1:]
            print(f'FINDING a process ended with {result.returncode} at {last}', flush=True)
            print(result.stderr[-1500:] if not last else '', flush=True)
            results['finding'] += 1
        done = results.total()
        print(f'{done} cases, {time.perf_counter() - start:.0f} s', file=sys.stderr, flush=True)
    print(
        f'{results.total()} cases, {time.perf_counter() - start:.0f} s: {results["read"]} read, {results["refused"]} '
        f'refused, {results["long"]} long, {results["finding"]} findings'
    )


if __name__ == '__main__':
    main()
