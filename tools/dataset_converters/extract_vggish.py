# SPDX-License-Identifier: Apache-2.0
"""Compute the VGGish embeddings of all clips once, so that training need not.

VGGish is frozen, so a clip's embeddings never change. They go into one file of about 30 MB for
AVSBench-OV: a safetensors file with a tensor (frames, 128) of float32 a clip. One file, because
8,000 small ones are slow to copy and to open, and because it is mapped into memory: workers share
it, and a clip's rows are there in microseconds. It notes the sha256 of the weights, and is refused
where other weights are in use. A run that was stopped, in whatever way, goes on where it was.

In a config, LoadClipAudioFeatures(features=FILE, weights=CHECKPOINT) takes the place of
LoadClipAudio; configs/ovavss/ovavss_r50_vggish-features.py is one that does.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

EXAMPLES = """examples:
  every clip of v1s and v2, whatever its names: the file serves any division into base and novel
    python tools/dataset_converters/extract_vggish.py data/AVSBench-semantic

  only the clips of some indices, on a GPU
    python tools/dataset_converters/extract_vggish.py data/AVSBench-semantic --device cuda \\
        --index data/avsbench_ov/train.txt data/avsbench_ov/val.txt data/avsbench_ov/test.txt

  train with it
    mim train ovavss_mm ovavss_r50_vggish-features.py
"""
NAME = 'vggish.safetensors'
PART = 32  # clips that are written, and lost when a run is killed, together
CHUNK = 32  # patches that go through the network together: more is no faster, and takes memory


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', metavar='ROOT', help='folder with metadata.csv, v1s, v2')
    parser.add_argument(
        '--out',
        default=f'data/avsbench_ov/{NAME}',
        help=f'file, or folder for {NAME} (default: %(default)s)',
    )
    parser.add_argument(
        '--checkpoint',
        default='data/weights/vggish-10086976.pth',
        metavar='FILE',
        help='weights of VGGish (default: %(default)s); data/README.md says where to get them',
    )
    parser.add_argument(
        '--index',
        nargs='+',
        metavar='FILE',
        help='only the clips of these indices (default: all of v1s and v2 in metadata.csv)',
    )
    parser.add_argument('--device', default='cpu', help="such as 'cuda' (default: %(default)s)")
    parser.add_argument(
        '--workers',
        type=int,
        default=min(4, os.cpu_count() or 1),
        help='processes that read sounds (default: %(default)s)',
    )
    args = parser.parse_args(argv)
    if args.workers < 0:
        parser.error(f'--workers must be 0 or more, got {args.workers}')
    if os.path.isdir(args.out) or args.out.endswith(os.sep):
        args.out = os.path.join(args.out, NAME)
    return args


def main(argv: list[str] | None = None) -> None:
    """Extract what the command line asks for; the process ends with 1 if something is wrong."""
    args = parse_args(argv)
    # Imported late, as torch takes seconds; without what other libraries print on being imported.
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.datasets')
    import_quietly('ovavss_mm.models')
    try:
        run(args)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('\nstopped; the same command goes on from there')


def run(args: argparse.Namespace) -> None:
    """Extract, and say what there is."""
    from ovavss_mm.datasets.audio_features import FeatureWriter
    from ovavss_mm.models import VGGishEncoder

    keys = clip_keys(args.root, args.index)
    writer = FeatureWriter(args.out, args.checkpoint)
    encoder = None
    if not writer.done.issuperset(keys):
        encoder = VGGishEncoder(dict(type='Pretrained', checkpoint=args.checkpoint))
        encoder.init_weights()
        try:
            encoder.to(args.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f'--device {args.device} cannot be used: {error}') from error
    padded = extract(args.root, keys, encoder, writer, args.workers)
    size = writer.finish()
    if padded:
        print(f'{padded} clips had less sound than frames: padded with silence')
    print(f'{args.out}: {len(writer.done) - 1} clips, {size / 1e6:.2f} MB')


def clip_keys(root: str, indices: Sequence[str] | None) -> list[str]:
    """``subset/uid`` of the clips to extract.

    Raises:
        FileNotFoundError: metadata.csv or an index is missing.
        ValueError: one of them is malformed, or there is no clip.
    """
    from ovavss_mm.datasets.metadata import OV_SUBSETS, IndexedClip, read_index, read_metadata

    if indices:
        clips = [clip for path in indices for clip in read_index(path)]
    else:
        rows = read_metadata(os.path.join(root, 'metadata.csv'))
        clips = [IndexedClip.from_row(row) for row in rows if row['label'] in OV_SUBSETS]
    if not clips:
        raise ValueError(f'no clips in {", ".join(indices or [root])}')
    return sorted({clip.key for clip in clips})


class ClipPatches:
    """Sounds of clips; item i is the key of clip i, its patches, whether padded, and its problem.

    Args:
        root (str): folder of the archive.
        keys (Sequence[str]): ``subset/uid`` of the clips.
    """

    def __init__(self, root: str, keys: Sequence[str]):
        from ovavss_mm.datasets import LoadClipAudio

        self.root = Path(root)
        self.keys = keys
        self.load = LoadClipAudio(on_short='pad')

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple:
        """Key, float32 (frames, 1, 96, 64) or None, whether padded, and what is wrong or None."""
        from ovavss_mm.datasets.files import find_audio, find_frames
        from ovavss_mm.datasets.sound_lengths import is_short

        key = self.keys[index]
        folder = str(self.root / key)
        try:
            path, frames = find_audio(folder), len(find_frames(folder))
            audio = self.load(dict(audio_path=path, num_frames=frames))['audio']
        except (OSError, ValueError) as err:
            return key, None, False, str(err)
        return key, audio, is_short(path, frames), None


def extract(root: str, keys: Sequence[str], encoder: object, writer: object, workers: int) -> int:
    """Embed the sounds that the writer does not have yet, and silence.

    Args:
        root: folder of the archive.
        keys: ``subset/uid`` of the clips.
        encoder: a module from log-mel patches (M, 1, 96, 64) to (M, Da).
        writer: FeatureWriter; what it has already is left out.
        workers: processes that read sounds; 0 for this one alone.

    Returns:
        How many of the sounds were padded with silence.

    Raises:
        ValueError: sounds cannot be read; the message names the first few.
    """
    todo = [key for key in keys if key not in writer.done]
    if not todo:
        return 0
    if len(todo) < len(keys):
        print(f'{len(keys) - len(todo)} of {len(keys)} clips are there already')
    add_silence(encoder, writer)
    problems, rows, num_padded = [], {}, 0
    for key, patches, padded, problem in load_all(ClipPatches(root, todo), workers):
        if problem:
            problems.append(problem)
            continue
        rows[key] = embed(encoder, patches)
        num_padded += padded
        if len(rows) == PART:
            writer.add(rows)
            rows = {}
    if rows:
        writer.add(rows)
    if problems:
        raise ValueError(
            f'{len(problems)} of {len(todo)} sounds cannot be read, such as:\n  '
            + '\n  '.join(problems[:5])
            + '\nThe others are kept. Repair these, or name indices without them (--index); '
            'tools/dataset_converters/avsbench_ov.py --fix-index makes such'
        )
    return num_padded


def add_silence(encoder: object, writer: object) -> None:
    """Embed a second of silence, for clips without sound."""
    from ovavss_mm.datasets import LoadClipAudio
    from ovavss_mm.datasets.audio_features import SILENCE

    if SILENCE not in writer.done:
        silence = LoadClipAudio()(dict(audio_path=None, num_frames=1))['audio']
        writer.add({SILENCE: embed(encoder, silence)})


def load_all(patches: ClipPatches, workers: int) -> Iterable[tuple]:
    """The items in order, read side by side, with a progress bar."""
    from rich.console import Console
    from rich.progress import track
    from torch.utils.data import DataLoader

    loader = DataLoader(patches, batch_size=None, num_workers=workers, collate_fn=lambda item: item)
    bar = dict(total=len(patches), console=Console(stderr=True))
    return track(loader, f'{len(patches)} clips', **bar)


def embed(encoder: object, patches: object) -> object:
    """Embed patches.

    Args:
        encoder: see :func:`extract`.
        patches: ndarray float32 (M, 1, 96, 64).

    Returns:
        ndarray float32 (M, Da).
    """
    import torch

    device = next(encoder.parameters()).device
    # TF32, which cuDNN uses by itself, is wrong in the fourth digit.
    torch.backends.cudnn.allow_tf32 = False
    with torch.no_grad():
        chunks = [encoder(x.to(device)).cpu() for x in torch.from_numpy(patches).split(CHUNK)]
    return torch.cat(chunks).numpy()


if __name__ == '__main__':
    main()
