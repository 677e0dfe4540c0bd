# SPDX-License-Identifier: Apache-2.0
"""Names of sounds by CLAP."""

from collections.abc import Mapping, Sequence

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...datasets.vocabulary import Vocabulary
from ..classifiers.text_embeddings import RemembersText, TextEmbeddings
from .base import FoundationModel

TOKENS = 77  # of a text that CLAP reads
TEMPLATES = ('{}',)  # the bare name


@MODELS.register_module()
class SoundNamer(RemembersText, FoundationModel):
    """Compares the sound of each frame with names, by a frozen CLAP.

    Args:
        config (dict): arguments of the library's ``ClapConfig``.
        init_cfg (dict, optional): as of :class:`FoundationModel`. Defaults to None.
        tokenizer (str, optional): as of :class:`FoundationModel`. Defaults to None.
        dtype (str): as of :class:`FoundationModel`. Defaults to 'float32'.
        name_map (Mapping[str, str], optional): what is replaced in names before a text tower reads them, for Grounding
            DINO too. Defaults to a hyphen by a space.
        chunk_size (int): frames whose sound is embedded at a time; bounds memory, never the result. Defaults to 16.

    Raises:
        ValueError: a value out of range, or see :class:`FoundationModel`.
    """

    model_name = 'ClapModel'
    open_vocabulary = True

    def __init__(
        self,
        config: dict,
        init_cfg: dict | None = None,
        tokenizer: str | None = None,
        dtype: str = 'float32',
        name_map: Mapping[str, str] | None = None,
        chunk_size: int = 16,
    ) -> None:
        super().__init__(config, init_cfg, tokenizer, dtype)
        if chunk_size < 1:
            raise ValueError(f'chunk_size must be at least 1, got {chunk_size}')
        self.name_map = {'-': ' '} if name_map is None else dict(name_map)
        self.chunk_size = chunk_size

    # ------------------------------------------------------------------ names
    def spoken(self, name: str) -> str:
        """A name as text towers read it."""
        for old, new in self.name_map.items():
            name = name.replace(old, new)
        return name

    def text_embeddings(self, names: Sequence[str], show_progress: bool = False) -> Tensor:
        """Text embeddings of class names; each word is embedded once.

        Args:
            names (Sequence[str]): N names; a :class:`Vocabulary` may bring synonyms and templates, by default the bare
                name is read.
            show_progress (bool): whether a bar is shown where many are new. Defaults to False.

        Returns:
            Tensor: (N, D) float32, of length 1.

        Raises:
            ValueError: see :class:`Vocabulary`.
        """
        vocabulary = names if isinstance(names, Vocabulary) else Vocabulary(names)
        if self._text is None:
            self._text = TextEmbeddings(self, self._tokenize)
        return self._text(vocabulary, vocabulary.templates or TEMPLATES, show_progress).to(self.device)

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Embeddings (M, D) of what the tokenizer gives for M texts."""
        return self.model.get_text_features(**tokens).pooler_output

    def truncated_words(self, vocabulary: Vocabulary) -> list[str]:
        """Names and synonyms whose ends are beyond what CLAP reads and have no effect."""
        ids = self.tokenizer([self.spoken(word) for word in vocabulary.words])['input_ids']
        return [word for word, row in zip(vocabulary.words, ids, strict=True) if len(row) > TOKENS]

    def _tokenize(self, texts: Sequence[str]) -> Mapping[str, Tensor]:
        """Token ids and masks (M, up to 77) of texts; padding has no effect."""
        texts = [self.spoken(text) for text in texts]
        return self.tokenizer(texts, padding=True, truncation=True, max_length=TOKENS, return_tensors='pt')

    # ------------------------------------------------------------------ sound
    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """Embed the sound of frames.

        Args:
            audio (Tensor): (T, 1, frames, mels) float32, log-mels in dB of
                :class:`~ovavss_mm.datasets.transforms.CLAPLogMel`.

        Returns:
            Tensor: (T, D) float32, of length 1.
        """
        parts = [self.model.get_audio_features(part.to(self.dtype)) for part in audio.split(self.chunk_size)]
        return F.normalize(torch.cat([part.pooler_output.float() for part in parts]), dim=-1)

    @torch.no_grad()
    def scores(self, audio: Tensor, names: Sequence[str]) -> Tensor:
        """Cosines (T, N) float32 in [-1, 1] of sound, as of :meth:`forward`, and N names."""
        return self(audio) @ self.text_embeddings(names).T

    @torch.no_grad()
    def probabilities(self, audio: Tensor, names: Sequence[str], logit_scale: float | None = None) -> Tensor:
        """Probabilities of names: softmax of scaled cosines.

        Args:
            audio (Tensor): as of :meth:`forward`.
            names (Sequence[str]): N names.
            logit_scale (float, optional): factor of cosines. Defaults to None, the model's own.

        Returns:
            Tensor: (T, N) float32, of sum 1.
        """
        scale = self.model.logit_scale_a.float().exp() if logit_scale is None else logit_scale
        return (scale * self.scores(audio, names)).softmax(-1)
