# SPDX-License-Identifier: Apache-2.0
"""Measure how fast training clips are loaded, and what bounds it.

Without --root the clips are made in a temporary folder: 10 frames of 1280 x 720 with the spectrum
of photographs, a label map each with three objects, and 10 s of sound. That is an assumption, and
on the large side; --size changes it, --root measures your own archive. Stages are timed one after
the other in one process, in milliseconds of CPU time a clip (other programs disturb it less than
real time), and the whole in clips a second of real time with 0 and --workers processes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

EXAMPLES = """examples:
  what this machine can do
    python tools/analysis_tools/loader_benchmark.py --workers 2

  small frames, sound of 44.1 kHz in stereo
    python tools/analysis_tools/loader_benchmark.py --size 360 640 --rate 44100 --channels 2

  an archive that is there
    python tools/analysis_tools/loader_benchmark.py --root data/AVSBench-semantic --workers 8
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--root', help='archive in the layout of AVSBench-semantic')
    parser.add_argument('--base-names', default='all', help='of --root (default: %(default)s)')
    parser.add_argument('--clips', type=int, default=20, help='how many (default: %(default)s)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(720, 1280),
        metavar=('H', 'W'),
        help='of the frames that are made, in pixels (default: 720 1280)',
    )
    parser.add_argument('--rate', type=int, default=16000, help='of the sound, Hz (default: 16000)')
    parser.add_argument('--channels', type=int, default=1, help='of the sound (default: 1)')
    parser.add_argument('--short-side', type=int, default=360, help='of the loaded clips (default: %(default)s)')
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, help='default: %(default)s')
    parser.add_argument('--passes', type=int, default=3, help='over the clips (default: 3)')
    args = parser.parse_args(argv)
    for name in ('clips', 'rate', 'channels', 'short_side', 'workers', 'passes'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.datasets')
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.root is None:
            make_archive(Path(folder), args)
        try:
            dataset = make_dataset(args, args.root or folder)
        except (OSError, ValueError) as error:
            sys.exit(f'error: {error}')
        print(f'{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}; {len(dataset)} clips')
        report_labels(dataset)
        report_stages(dataset, args.passes)
        report_rate(dataset, 0, args.passes)
        report_rate(dataset, args.workers, args.passes)


# ------------------------------------------------------------------ clips
def make_archive(root: Path, args: argparse.Namespace) -> None:
    """Write clips of the subset v2 into a folder."""
    import json

    import numpy as np
    import soundfile
    from PIL import Image

    from ovavss_mm.datasets import voc_palette
    from ovavss_mm.datasets.vocabulary import PACKAGED_NAMES, read_names

    rng = np.random.default_rng(0)
    names = read_names(str(PACKAGED_NAMES))
    labels = {name: i for i, name in enumerate(('background', *names))}
    (root / 'label2idx.json').write_text(json.dumps(labels))
    palette = np.array(voc_palette(len(labels)), np.uint8)
    rows = ['uid,a_obj,split,label']
    sizes = defaultdict(list)
    for clip in range(args.clips):
        folder = root / 'v2' / f'clip{clip}'
        (folder / 'frames').mkdir(parents=True)
        (folder / 'labels_rgb').mkdir()
        shown = rng.choice(len(names), 3, replace=False)
        picture = photograph(rng, *args.size)
        for t in range(10):
            frame, label = folder / 'frames' / f'{t}.jpg', folder / 'labels_rgb' / f'{t}.png'
            Image.fromarray(np.roll(picture, 7 * t, axis=1)).save(frame, quality=90)
            Image.fromarray(palette[ellipses(rng, args.size, shown + 1)]).save(label)
            sizes['frame'].append(frame.stat().st_size)
            sizes['label map'].append(label.stat().st_size)
        wave = rng.uniform(-0.5, 0.5, (10 * args.rate, args.channels))
        soundfile.write(folder / 'audio.wav', wave, args.rate)
        rows.append(f'clip{clip},{"_".join(names[i] for i in shown)},train,v2')
    (root / 'metadata.csv').write_text('\n'.join(rows) + '\n')
    means = ', '.join(f'a {kind} {np.mean(v) / 1e3:.0f} KB' for kind, v in sizes.items())
    print(
        f'made: {args.clips} clips of 10 frames, {args.size[1]} x {args.size[0]} pixels, {means}; '
        f'sound of {args.rate} Hz, {args.channels} channels'
    )


def photograph(rng: object, height: int, width: int) -> object:
    """Noise with the spectrum of photographs, about 1 / frequency: uint8 (H, W, 3)."""
    import numpy as np

    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = 1
    waves = np.fft.fft2(rng.standard_normal((3, height, width))) / frequency**1.4
    picture = np.fft.ifft2(waves).real  # (3, H, W)
    picture = (picture - picture.mean()) / picture.std() * 50 + 120
    return picture.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def ellipses(rng: object, size: tuple[int, int], labels: object) -> object:
    """A label map with an ellipse a label, uint8 (H, W)."""
    import cv2
    import numpy as np

    height, width = size
    out = np.zeros((height, width), np.uint8)
    for label in labels:
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(width // 12, width // 4)), int(rng.integers(height // 8, height // 3)))
        cv2.ellipse(out, centre, axes, float(rng.uniform(0, 180)), 0, 360, int(label), -1)
    return out


def make_dataset(args: argparse.Namespace, root: str) -> object:
    """Training clips with the pipeline of training."""
    from ovavss_mm.datasets import AVSBenchOVDataset

    steps = [
        dict(type='SampleClipFrames', num_frames=5),
        dict(type='LoadClipFrames'),
        dict(type='LoadClipLabels'),
        dict(type='LoadClipAudio'),
        dict(type='ResizeClip', short_side=args.short_side),
        dict(type='FlipClip', prob=0.5),
        dict(type='PackAVSegInputs'),
    ]
    pipeline = [dict(step, _scope_='mmseg') for step in steps]
    return AVSBenchOVDataset(root, 'train', base_names=args.base_names, indices=args.clips, pipeline=pipeline)


# ------------------------------------------------------------------ measurements
def report_labels(dataset: object, times: int = 5) -> None:
    """Print how much faster the lookup of colours is than a comparison for each of the names."""
    import numpy as np

    from ovavss_mm.datasets.palette import voc_labels
    from ovavss_mm.datasets.transforms.loading import read_rgb

    palette = np.array(dataset.metainfo['palette'], np.uint8)
    labels = dataset.get_data_info(0)['label_paths']
    colors = read_rgb(next(path for path in labels if path))

    def compare() -> np.ndarray:
        out = np.zeros(colors.shape[:2], np.uint8)
        for index, color in enumerate(palette):
            out[(colors == color).all(-1)] = index
        return out

    assert np.array_equal(compare(), voc_labels(colors))
    slow, fast = cpu_ms(compare, 2), cpu_ms(lambda: voc_labels(colors), times)
    print(
        f'decoding the colours of a label map, {colors.shape[1]} x {colors.shape[0]}: lookup '
        f'{fast:.2f} ms, {len(palette)} comparisons {slow:.0f} ms, {slow / fast:.0f} times as long'
    )


def cpu_ms(function: object, times: int) -> float:
    """Shortest of some calls, in milliseconds of CPU time."""
    function()
    spent = []
    for _ in range(times):
        start = time.process_time()
        function()
        spent.append(time.process_time() - start)
    return 1e3 * min(spent)


def report_stages(dataset: object, passes: int) -> None:
    """Print the CPU time of each step of the pipeline, and which takes most."""
    spent = defaultdict(list)
    steps = dataset.pipeline.transforms
    steps[3](dataset.get_data_info(0))  # the first sound compiles the resampler
    for index in list(range(len(dataset))) * passes:
        results = dataset.get_data_info(index)
        for step in steps:
            start = time.process_time()
            results = step(results)
            spent[type(step).__name__].append(1e3 * (time.process_time() - start))
    means = {name: sum(ms) / len(ms) for name, ms in spent.items()}
    total = sum(means.values())
    print(f'a training clip of 5 frames, CPU time of one process: {total:.0f} ms')
    for name, ms in sorted(means.items(), key=lambda item: -item[1]):
        print(f'  {name:18}{ms:8.1f} ms {100 * ms / total:4.0f} %')
    most = max(means, key=means.get)
    print(f'bound by {most}: without it {1e3 / (total - means[most]):.1f} clips a second and core,')
    print(f'with it {1e3 / total:.1f}')


def report_rate(dataset: object, workers: int, passes: int) -> None:
    """Print clips a second through a data loader."""
    from mmengine.dataset import InfiniteSampler, pseudo_collate
    from torch.utils.data import DataLoader

    loader = DataLoader(
        dataset,
        batch_size=1,
        num_workers=workers,
        sampler=InfiniteSampler(dataset, seed=0),
        collate_fn=pseudo_collate,
        worker_init_fn=one_thread,
    )
    batches = iter(loader)
    for _ in range(2 * max(workers, 1)):  # workers start, and compile
        next(batches)
    count = len(dataset) * passes
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    rate = count / (time.perf_counter() - start)
    where = f'{workers} workers' if workers else 'the main process'
    print(f'{where}: {rate:.1f} clips a second')


def one_thread(_: int) -> None:
    """Keep a worker to one thread, as training does."""
    import cv2

    cv2.setNumThreads(0)


if __name__ == '__main__':
    main()
