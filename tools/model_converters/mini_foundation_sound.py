# SPDX-License-Identifier: Apache-2.0
"""A small CLAP of the mini world: its front end, its data and its loss."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmseg.registry import TRANSFORMS
from open_clip.loss import ClipLoss
from torch import Tensor
from torch.nn import functional as F
from train_mini_clip import TEMPLATES, caption

from ovavss_mm.mini_world.names import NAMES
from ovavss_mm.mini_world.scene import sample_object
from ovavss_mm.mini_world.sound import SAMPLE_RATE, noise_floor, object_sound

SPOKEN = tuple(name.replace('-', ' ') for name in NAMES)  # what both towers of text read
SPECIAL_TOKENS = ('<s>', '<pad>', '</s>', '<unk>')  # ids 0 to 3, as RoBERTa's
TEXT_LENGTH = 77
MINI = Config.fromfile(Path(__file__).parents[2] / 'configs/_base_/models/foundation_mini.py')  # its sizes
CLAP = MINI.mini_clap.config.to_dict()
AMPLITUDES = (0.07, 0.4)  # wider than the world's
SINGLES, MIXTURES = 200, 4000  # seconds of each name, and of two or three


def sample_second(rng: np.random.Generator, names: list[str]) -> np.ndarray:
    """One second of some names' sounds over the noise floor, some with a fade at either end.

    Returns:
        np.ndarray: float32 (16000,) in -1..1, quantised to 16 bit as the sound of a clip is.
    """
    wave = noise_floor(rng, SAMPLE_RATE) * rng.uniform(0.5, 2)
    for name in names:
        before, after = (bool(flag) for flag in rng.random(2) < 0.6)
        obj = sample_object(rng, name, (before, True, after))
        obj = dataclasses.replace(obj, amplitude=rng.uniform(*AMPLITUDES))
        wave += object_sound(obj)[SAMPLE_RATE : 2 * SAMPLE_RATE]
    return (np.trunc(np.clip(wave, -1, 1) * 32767) / 32767).astype(np.float32)


class MiniClap:
    """CLAP that is trained on seconds of sound and captions of all that sounds in them.

    Args:
        seed (int): of all chance in the data.
        scale (float): of the sizes of the training set. Defaults to 1.
    """

    iters, lr = 2500, 1e-3

    def __init__(self, seed: int, scale: float = 1.0):
        from transformers import ClapConfig, ClapModel

        self.mels, self.tokenizer = TRANSFORMS.build(MINI.mini_clap_front).extractor, make_tokenizer()
        self.model = ClapModel(ClapConfig(**CLAP))
        self.processors = (self.mels, self.tokenizer)
        self.rng = np.random.default_rng((seed, 1))
        self.singles, self.mixtures = max(2, round(SINGLES * scale)), max(2, round(MIXTURES * scale))
        self.criterion, self.data = ClipLoss(), None

    def prepare(self) -> None:
        """Make the training set: mels of single sources (N, M, 1, 201, 64), mixtures (K, 1, 201, 64), their names."""
        singles = [[name] for name in NAMES for _ in range(self.singles)]
        mixed = [[str(n) for n in self.rng.permutation(NAMES)[: self.rng.integers(2, 4)]] for _ in range(self.mixtures)]
        features = self.features(singles + mixed, self.rng)
        single = features[: len(singles)].unflatten(0, (len(NAMES), self.singles))  # (N, M, 1, frames, mels)
        self.data = single, features[len(singles) :], mixed

    def features(self, names: list[list[str]], rng: np.random.Generator) -> Tensor:
        """Log-mels float32 (n, 1, 201, 64) of a second of each list of names."""
        waves = (sample_second(rng, chosen) for chosen in names)  # one by one, for the sake of memory
        mels = [self.mels(wave, sampling_rate=SAMPLE_RATE, return_tensors='pt')['input_features'] for wave in waves]
        return torch.cat([each.float() for each in mels])

    def loss(self) -> Tensor:
        """Contrast a second of each name, told apart by name, and as many mixtures with captions of all in them.

        A mixture is told from all names, too: a caption may name only one of its sources.
        """
        single, mixed, names = self.data
        alone = single[np.arange(len(NAMES)), self.rng.integers(single.shape[1], size=len(NAMES))]
        chosen = self.rng.integers(len(mixed), size=len(NAMES))
        heard = [[name.replace('-', ' ') for name in names[i]] for i in chosen]
        audio = self.audio(torch.cat([alone, mixed[chosen]])).split(len(NAMES))
        captions = [self.caption([name]) for name in SPOKEN] + [self.caption(each) for each in heard]
        text = self.text([*SPOKEN, *captions]).split(len(NAMES))
        scale = self.model.logit_scale_a.exp().clamp(max=100)
        sources = torch.tensor([[name in each for name in SPOKEN] for each in heard]).float()
        loss = sum(self.criterion(audio[0], each, scale) for each in text[:2]) / 2
        loss = loss + self.criterion(audio[1], text[2], scale)
        return loss + F.cross_entropy(scale * audio[1] @ text[0].T, sources / sources.sum(1, keepdim=True))

    def caption(self, names: list[str]) -> str:
        """The bare names, or a sentence with them."""
        return ', '.join(self.rng.permutation(names)) if self.rng.random() < 0.5 else caption(self.rng, names)

    def audio(self, features: Tensor) -> Tensor:
        """Embeddings of unit length (n, 64) of log-mels (n, 1, 201, 64)."""
        return self.model.get_audio_features(input_features=features).pooler_output

    def text(self, texts: list[str]) -> Tensor:
        """Embeddings of unit length (n, 64) of texts."""
        tokens = self.tokenizer(texts, padding=True, return_tensors='pt')
        return self.model.get_text_features(**tokens).pooler_output

    @torch.no_grad()
    def report(self, seed: int, count: int = 20) -> dict[str, float]:
        """Accuracy of new seconds: of one source, of the better of two, and of both of two among the best two."""
        rng = np.random.default_rng((seed, 1))
        pairs = [[str(name) for name in rng.permutation(NAMES)[:2]] for _ in range(count * 10)]
        text, truth = self.text(list(SPOKEN)), torch.arange(len(NAMES)).repeat_interleave(count)
        best = (self.audio(self.features([[NAMES[i]] for i in truth], rng)) @ text.T).argmax(1)
        two = (self.audio(self.features(pairs, rng)) @ text.T).topk(2).indices
        hits = [[NAMES[i] in names for i in row] for row, names in zip(two, pairs, strict=True)]
        hits = torch.tensor(hits).float()
        single = (best == truth).float()
        return dict(single=single.mean().item(), first_of_two=hits[:, 0].mean().item(), both=hits.prod(1).mean().item())


def make_tokenizer():
    """RoBERTa's kind of tokenizer, in which words of captions are one token; others are spelled in bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import RobertaTokenizer

    texts = [template.replace('{}', name) for template in ('{}', *TEMPLATES) for name in SPOKEN]
    bare = RobertaTokenizer(vocab={token: i for i, token in enumerate(SPECIAL_TOKENS)}, merges=[])
    return bare.train_new_from_iterator(
        texts, CLAP['text_config']['vocab_size'], initial_alphabet=sorted(ByteLevel.alphabet()), show_progress=False
    )
