# SPDX-License-Identifier: Apache-2.0
"""Audio embeddings that are computed once and kept in a file, tied to the weights that made them.

All clips share one safetensors file, a tensor (frames, Da) a clip, some 30 MB for AVSBench-OV: one
file is quick to copy and to open, and all workers map the same memory.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from ..utils.files import atomic_path

FORMAT = 'ovavss_mm audio features 1, weights sha256'
# Key of the embedding of silence, (1, Da). Clips have keys with a slash.
SILENCE = 'silence'
EXTRACT = 'tools/dataset_converters/extract_vggish.py'


def audio_key(audio_path: str) -> str:
    """Key of a sound, ``<subset>/<uid>``, from its path ``.../<subset>/<uid>/audio.wav``."""
    return '/'.join(Path(audio_path).parts[-3:-1])


def file_sha256(path: str | Path) -> str:
    """Sha256 of a file as 64 hexadecimal digits; FileNotFoundError if there is none."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'no weights at {path}: see data/README.md for where to get them')
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def features_meta(weights: str | Path) -> dict[str, str]:
    """Metadata of a file of embeddings: its format, and the sha256 of the weights that made them."""
    # One entry: of several, safetensors writes now this one first, now that one.
    return {FORMAT: file_sha256(weights)}


def check_meta(path: str | Path, found: Mapping[str, str] | None, weights: str | Path) -> None:
    """Check that a file of embeddings was made with some weights.

    Args:
        path (str | Path): of the file, for messages.
        found (Mapping[str, str], optional): its metadata.
        weights (str | Path): file of the weights.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: it was made with others, or is another kind of file.
    """
    if FORMAT not in (found or {}):
        raise ValueError(f'{path} is no file of audio embeddings of this version ({FORMAT})')
    expected = file_sha256(weights)
    if found[FORMAT] != expected:
        raise ValueError(
            f'the audio embeddings in {path} were made with other weights (sha256 '
            f'{found[FORMAT][:12]}...) than those in {weights} (sha256 {expected[:12]}...). '
            f'Extract them again: {EXTRACT}'
        )


class AudioFeatures:
    """Reads embeddings of sounds from a file.

    Args:
        path (str): the file.
        weights (str): file of the weights that the embeddings must have been made with.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: see :func:`check_meta`.
    """

    def __init__(self, path: str, weights: str):
        self.path, self.weights = str(path), str(weights)
        self._file = None
        check_meta(self.path, self._open().metadata(), self.weights)

    def _open(self) -> safe_open:
        """The open file; a handle cannot be pickled, so each process opens it for itself."""
        if self._file is None:
            self._file = _open_features(self.path)
        return self._file

    def __getstate__(self) -> dict:
        """Leave the open file behind."""
        return self.__dict__ | {'_file': None}

    def rows(self, key: str | None, num_frames: int) -> np.ndarray:
        """Embeddings of a sound.

        Args:
            key (str | None): ``subset/uid`` of its clip, None for silence.
            num_frames (int): T.

        Returns:
            np.ndarray: float32 (T, Da).

        Raises:
            LookupError: there is no such sound in the file.
            ValueError: it has fewer rows, or is no table of finite float32.
        """
        try:
            rows = self._open().get_tensor(SILENCE if key is None else key)
        except SafetensorError:
            what = 'silence' if key is None else f'the sound of clip {key}'
            raise LookupError(f'{self.path} has no embeddings of {what}: extract them again ({EXTRACT})') from None
        fits = rows.dtype == np.float32 and rows.ndim == 2 and rows.size
        if not fits or not np.isfinite(rows).all():
            raise ValueError(
                f'{self.path}: the embeddings {key or SILENCE} are {rows.dtype} {rows.shape}, '
                'or not finite; expected finite float32 (frames, channels): extract them again'
            )
        if key is None:
            return rows[:1].repeat(num_frames, axis=0)
        if len(rows) < num_frames:
            raise ValueError(
                f'{self.path} has {len(rows)} rows for clip {key}, {num_frames} frames need as '
                'many: the clip has changed, extract the embeddings again'
            )
        return rows[:num_frames]


class FeatureWriter:
    """Writes a file of embeddings in parts, so that a run that is killed goes on where it was.

    Parts lie in the folder ``<path>.parts`` until :meth:`finish` joins them. All writes are atomic.
    A file that is there already is added to.

    Args:
        path (str | Path): the file.
        weights (str | Path): file of the weights that make the embeddings.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: the file or parts of it are there and were made with other weights.
    """

    def __init__(self, path: str | Path, weights: str | Path):
        self.path = Path(path)
        self.folder = self.path.with_name(f'{self.path.name}.parts')
        self.meta = features_meta(weights)
        self.done: set[str] = set()
        for part in self._parts():
            with _open_features(part) as file:
                check_meta(part, file.metadata(), weights)
                self.done.update(file.keys())

    def _parts(self) -> list[Path]:
        """What has been written so far."""
        whole = [self.path] if self.path.exists() else []
        return whole + sorted(self.folder.glob('[0-9]*.safetensors'))

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Write a part: keys to float32 (frames, Da)."""
        with atomic_path(self.folder / f'{len(self._parts()):06d}.safetensors') as beside:
            save_file({k: np.ascontiguousarray(v) for k, v in rows.items()}, beside, self.meta)
        self.done.update(rows)

    def finish(self) -> int:
        """Join the parts into the file, remove them, and return the number of bytes of the file."""
        if self.folder.exists():
            joined = {k: v for part in self._parts() for k, v in load_file(part).items()}
            with atomic_path(self.path) as beside:
                save_file({key: joined[key] for key in sorted(joined)}, beside, self.meta)
            shutil.rmtree(self.folder)
        return self.path.stat().st_size


def _open_features(path: str | Path) -> safe_open:
    """Open a safetensors file; FileNotFoundError or ValueError if it is none."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'no audio embeddings at {path}; {EXTRACT} makes them')
    try:
        return safe_open(path, framework='np')
    except SafetensorError as err:
        raise ValueError(f'{path} is no safetensors file: {err}') from err
