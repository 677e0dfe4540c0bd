# SPDX-License-Identifier: Apache-2.0
"""Compute the VGGish embeddings of all clips once, so that training need not.

VGGish is frozen, so a clip's embeddings never change. They go into one file of about 30 MB for
AVSBench-OV: a safetensors file with a tensor (frames, 128) of float32 a clip, which workers map into
memory. It notes the sha256 of the weights, and is refused where other weights are in use. A run that
was stopped, in whatever way, goes on where it was. In a config, LoadClipAudioFeatures takes the place
of LoadClipAudio: configs/ovavss/ovavss_r50_vggish-features.py does so.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

EXAMPLES = """examples:
  every clip of v1s and v2, whatever its names: the file serves any division into base and novel
    python tools/dataset_converters/extract_vggish.py data/AVSBench-semantic --device cuda
  only the clips of some indices
    python tools/dataset_converters/extract_vggish.py data/AVSBench-semantic --index TRAIN.txt VAL.txt
"""
NAME = 'vggish.safetensors'
PART = 32  # clips that are written, and lost when a run is killed, together
CHUNK = 32  # patches that go through the network together: more is no faster, and takes memory


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=layout)
    add, out, cores = parser.add_argument, f'data/avsbench_ov/{NAME}', min(4, os.cpu_count() or 1)
    weights = 'data/weights/vggish-10086976.pth'
    add('root', metavar='ROOT', help='folder with metadata.csv, v1s, v2')
    add('--out', default=out, help=f'file, or folder for {NAME} (default: %(default)s)')
    add('--checkpoint', default=weights, help='weights of VGGish (default: %(default)s)')
    add('--index', nargs='+', metavar='FILE', help='only the clips of these indices')
    add('--device', default='cpu', help="such as 'cuda' (default: %(default)s)")
    add('--workers', type=int, default=cores, help='processes that read (default: %(default)s)')
    args = parser.parse_args(argv)
    if args.workers < 0:
        parser.error(f'--workers must be 0 or more, got {args.workers}')
    if os.path.isdir(args.out) or args.out.endswith(os.sep):
        args.out = os.path.join(args.out, NAME)
    return args


def main(argv: list[str] | None = None) -> None:
    """Extract what the command line asks for; the process ends with 1 if something is wrong."""
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly  # here, as torch takes seconds

    import_quietly('ovavss_mm.models')
    try:
        run(args)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('\nstopped; the same command goes on from there')


def run(args: argparse.Namespace) -> None:
    """Extract, and say what there is."""
    from ovavss_mm.models import VGGishEncoder

    keys = clip_keys(args.root, args.index)
    writer = FeatureWriter(args.out, args.checkpoint)
    encoder = VGGishEncoder(dict(type='Pretrained', checkpoint=args.checkpoint))
    encoder.init_weights()
    try:
        encoder.to(args.device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f'--device {args.device} cannot be used: {error}') from error
    extract(args.root, keys, encoder, writer, args.workers)
    size = writer.finish() / 1e6
    print(f'{args.out}: {len(writer.done) - 1} clips, {size:.2f} MB')


def clip_keys(root: str, indices: Sequence[str] | None) -> list[str]:
    """``subset/uid`` of the clips to extract; ValueError if there is none."""
    from ovavss_mm.datasets.metadata import OV_SUBSETS, IndexedClip, read_index, read_metadata

    if indices:
        clips = [clip for path in indices for clip in read_index(path)]
    else:
        rows = read_metadata(os.path.join(root, 'metadata.csv'))
        clips = [IndexedClip.from_row(row) for row in rows if row['label'] in OV_SUBSETS]
    if not clips:
        raise ValueError(f'no clips in {", ".join(indices or [root])}')
    return sorted({clip.key for clip in clips})


def read_sound(root: str, key: str | None) -> np.ndarray | str:
    """Sound of a clip (None: a second of silence), float32 (frames, 1, 96, 64), or what is wrong."""
    from ovavss_mm.datasets import LoadClipAudio
    from ovavss_mm.datasets.files import find_audio, find_frames

    try:
        clip = dict(audio_path=None, num_frames=1)
        if key is not None:
            folder = os.path.join(root, key)
            clip = dict(audio_path=find_audio(folder), num_frames=len(find_frames(folder)))
        return LoadClipAudio(front_end=dict(type='VGGishLogMel'))(clip)['audio']
    except (OSError, ValueError) as err:
        return str(err)


def extract(root: str, keys: Sequence[str], encoder: object, writer: 'FeatureWriter', workers: int) -> None:
    """Embed the sounds that the FeatureWriter does not have yet, and a second of silence.

    Raises:
        ValueError: sounds cannot be read; the message names the first few.
    """
    from rich.console import Console
    from rich.progress import track
    from torch.utils.data import DataLoader

    from ovavss_mm.datasets.audio_features import SILENCE
    from ovavss_mm.utils.text import shorten

    todo = [key for key in keys if key not in writer.done]
    print(f'{len(keys) - len(todo)} of {len(keys)} clips are there already')
    if SILENCE not in writer.done:
        writer.add({SILENCE: embed(encoder, read_sound(root, None))})
    read, problems, rows = partial(read_sound, root), [], {}
    loader = DataLoader(todo, batch_size=None, num_workers=workers, collate_fn=read)
    bar = track(loader, f'{len(todo)} clips', total=len(todo), console=Console(stderr=True))
    for key, audio in zip(todo, bar, strict=True):
        if isinstance(audio, str):
            problems.append(audio)
        else:
            rows[key] = embed(encoder, audio)
        if rows and (len(rows) == PART or key == todo[-1]):
            writer.add(rows)
            rows = {}
    if problems:
        raise ValueError(
            f'{len(problems)} of {len(todo)} sounds cannot be read, such as:\n  '
            f'{shorten(problems, sep=chr(10) + "  ")}\nThe others are kept. Repair these, or leave '
            'them out: --index, and tools/dataset_converters/avsbench_ov.py --fix-index'
        )


def embed(encoder: object, patches: np.ndarray) -> np.ndarray:
    """Embed patches, float32 (M, 1, 96, 64), as float32 (M, Da)."""
    import torch

    device = next(encoder.parameters()).device
    # TF32, which cuDNN uses by itself, is wrong in the fourth digit.
    torch.backends.cudnn.allow_tf32 = False
    with torch.no_grad():
        chunks = [encoder(x.to(device)).cpu() for x in torch.from_numpy(patches).split(CHUNK)]
    return torch.cat(chunks).numpy()


class FeatureWriter:
    """Writes a file of embeddings in parts, so that a run that is killed goes on where it was.

    Parts lie in the folder ``<path>.parts`` until :meth:`finish` joins them. All writes are atomic. A file that is
    there already is added to.

    Args:
        path (str | Path): of the file.
        weights (str | Path): file of the weights that make the embeddings.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: the file or parts of it are there and were made with other weights.
    """

    def __init__(self, path: str | Path, weights: str | Path):
        from ovavss_mm.datasets.audio_features import features_meta, open_features

        self.path = Path(path)
        self.folder = self.path.with_name(f'{self.path.name}.parts')
        self.meta = features_meta(weights)
        self.done = {key for part in self._parts() for key in open_features(part, weights).keys()}

    def _parts(self) -> list[Path]:
        """What has been written so far."""
        return [self.path] * self.path.exists() + sorted(self.folder.glob('[0-9]*.safetensors'))

    def _save(self, path: Path, rows: Mapping[str, np.ndarray]) -> None:
        """Write keys to float32 (frames, Da)."""
        from safetensors.numpy import save_file

        from ovavss_mm.utils.files import atomic_path

        with atomic_path(path) as beside:
            save_file({key: np.ascontiguousarray(value) for key, value in rows.items()}, beside, self.meta)

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Write a part: keys to float32 (frames, Da)."""
        self._save(self.folder / f'{len(self._parts()):06d}.safetensors', rows)
        self.done.update(rows)

    def finish(self) -> int:
        """Join the parts into the file, remove them, and return the number of bytes of the file."""
        from safetensors.numpy import load_file

        if self.folder.exists():
            joined = {key: value for part in self._parts() for key, value in load_file(part).items()}
            self._save(self.path, dict(sorted(joined.items())))
            shutil.rmtree(self.folder)
        return self.path.stat().st_size


if __name__ == '__main__':
    main()
