# SPDX-License-Identifier: Apache-2.0
"""Audio embeddings that are computed once and kept in a file, tied to the weights that made them.

All clips share one safetensors file, a tensor (frames, Da) a clip, some 30 MB for AVSBench-OV: one file is quick to
copy and to open, and all workers map the same memory.
"""

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

FORMAT = 'ovavss_mm audio features 1, weights sha256'
SILENCE = 'silence'  # key of the embedding of silence, (1, Da); clips have keys with a slash
EXTRACT = 'tools/dataset_converters/extract_vggish.py'


def audio_key(audio_path: str) -> str:
    """Key of a sound, ``<subset>/<uid>``, from its path ``.../<subset>/<uid>/audio.wav`` (or another name)."""
    return '/'.join(Path(audio_path).parts[-3:-1])


def features_meta(weights: str | Path) -> dict[str, str]:
    """Metadata of a file of embeddings: its format to the sha256 of the weights; FileNotFoundError without these."""
    if not Path(weights).is_file():
        raise FileNotFoundError(f'no weights at {weights}: see data/README.md for where to get them')
    digest = hashlib.sha256()
    with open(weights, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return {FORMAT: digest.hexdigest()}  # one entry: of several, safetensors writes now this one first, now that one


def open_features(path: str | Path, weights: str | Path | None = None) -> safe_open:
    """Open a file of embeddings that ``weights``, a file too, must have made (None: any).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is no file of embeddings, or was made with other weights.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no audio embeddings at {path}; {EXTRACT} makes them')
    try:
        file = safe_open(path, framework='np')
    except SafetensorError as err:
        raise ValueError(f'{path} is no safetensors file: {err}') from err
    found = (file.metadata() or {}).get(FORMAT)
    if found is None:
        raise ValueError(f'{path} is no file of audio embeddings of this version ({FORMAT})')
    if weights is not None and found != (expected := features_meta(weights)[FORMAT]):
        raise ValueError(
            f'the audio embeddings in {path} were made with other weights (sha256 {found[:12]}...) than those in '
            f'{weights} (sha256 {expected[:12]}...). Extract them again: {EXTRACT}'
        )
    return file


class AudioFeatures:
    """Reads embeddings of sounds from a file; see :func:`open_features` for arguments and errors."""

    def __init__(self, path: str, weights: str):
        self.path, self.weights = str(path), str(weights)
        self._file = open_features(path, weights)

    def __getstate__(self) -> dict:
        # a handle cannot be pickled: each process opens the file for itself
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
        self._file = self._file or open_features(self.path)
        try:
            rows = self._file.get_tensor(SILENCE if key is None else key)
        except SafetensorError:
            what = 'silence' if key is None else f'the sound of clip {key}'
            raise LookupError(f'{self.path} has no embeddings of {what}: extract them again ({EXTRACT})') from None
        if rows.dtype != np.float32 or rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
            raise ValueError(
                f'{self.path}: the embeddings {key or SILENCE} are {rows.dtype} {rows.shape}, or not finite; expected '
                'finite float32 (frames, channels): extract them again'
            )
        if key is None:
            return rows[:1].repeat(num_frames, axis=0)
        if len(rows) < num_frames:
            raise ValueError(
                f'{self.path} has {len(rows)} rows for clip {key}, {num_frames} frames need as many: the clip has '
                'changed, extract the embeddings again'
            )
        return rows[:num_frames]
