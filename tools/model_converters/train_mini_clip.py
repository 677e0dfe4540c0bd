# SPDX-License-Identifier: Apache-2.0
"""Train a small CLIP of the mini world on captioned pictures of all its names.

Like web-scale CLIP it has seen the novel names; the segmentor that uses it has not. It takes a few
minutes on one CPU core:
``python tools/model_converters/train_mini_clip.py --out ovavss_mm/mini_world/clip_mini.safetensors``
and, with a ResNet that sees the pictures, where both share one tokenizer:
``python tools/model_converters/train_mini_clip.py --vision resnet --out OUT.safetensors``
"""

import argparse
import gzip
import io
import json
import math
import os
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

try:
    import ovavss_mm  # noqa: F401  (checks versions before anything imports mmseg)
except ModuleNotFoundError as error:
    if error.name != 'ovavss_mm':
        raise
    # Run from a checkout in which the package is not installed.
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..'))
    import ovavss_mm  # noqa: F401

import numpy as np
import open_clip
import torch
from mmengine.utils import track_progress_rich
from mmseg.utils import get_predefined_templates
from open_clip.loss import ClipLoss
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save
from torch import Tensor

from ovavss_mm.mini_world.names import NAMES
from ovavss_mm.models.classifiers.square_crop import crop_squares, square_boxes
from ovavss_mm.models.classifiers.text_embeddings import embed_names

TEMPLATES = tuple(get_predefined_templates('vild'))
# By kind of image tower. A ResNet has stride 32: 64 pixels leave 2 x 2 positions to attend to.
VISION = dict(
    vit=dict(image_size=32, patch_size=8, width=96, layers=3, head_width=32),
    resnet=dict(image_size=64, layers=[1, 1, 1, 1], width=8, head_width=32),
)
CONTEXT_LENGTH = 40
MAX_LOGIT_SCALE = 100.0
TEST_SEED = 1_000_003  # of held-out crops; training crops use small numbers
BPE_HEADER = '#version: 0.2 - words of the mini world'


def learn_merges(texts: list[str]) -> list[tuple[str, str]]:
    """Learn the byte pair merges that make each word of the texts one token.

    Args:
        texts (list[str]): lower-case text in ASCII.

    Returns:
        list[tuple[str, str]]: Pairs in order of rank. The commonest pair comes first, equally
        common ones in alphabetical order, until no word has two parts.
    """
    words = Counter(word for text in texts for word in _words(text))
    parts = {word: [*word[:-1], word[-1] + '</w>'] for word in words}
    merges = []
    while True:
        pairs = Counter()
        for word, count in words.items():
            for pair in pairwise(parts[word]):
                pairs[pair] += count
        if not pairs:
            return merges
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        parts = {word: _merge(split, merges[-1]) for word, split in parts.items()}


def _words(text: str) -> list[str]:
    """Split a text the way the tokenizer does: runs of letters and runs of signs."""
    spaced = ''.join(c if c.isalpha() else f' {c} ' for c in text.lower())
    return spaced.split()


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """Join each occurrence of a pair, from left to right."""
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def tokenizer_file() -> bytes:
    """Make the merges file of open_clip's ``SimpleTokenizer`` for captions of the mini world.

    Words that do not occur in these captions are spelled in bytes, so that any text has tokens.

    Returns:
        bytes: gzip of a header line and one merge a line, without a newline at the end, which the
        tokenizer would read as one more merge.
    """
    captions = [template.replace('{}', name) for template in TEMPLATES for name in NAMES]
    lines = [BPE_HEADER, *(' '.join(pair) for pair in learn_merges(captions))]
    buffer = io.BytesIO()
    with gzip.GzipFile(filename='', mode='wb', fileobj=buffer, mtime=0) as file:
        file.write('\n'.join(lines).encode('utf-8'))
    return buffer.getvalue()


def model_config(vocab_size: int, vision: str = 'vit') -> dict:
    """Return the arguments of ``open_clip.CLIP``.

    Args:
        vocab_size (int): number of tokens.
        vision (str): kind of image tower, ``'vit'`` or ``'resnet'``; the text tower is the same for
            both. Defaults to 'vit'.

    Returns:
        dict: Keyword arguments.
    """
    return dict(
        embed_dim=64,
        vision_cfg=dict(VISION[vision]),
        text_cfg=dict(
            context_length=CONTEXT_LENGTH, vocab_size=vocab_size, width=64, heads=2, layers=2
        ),
    )


def make_crops(name: str, count: int, seed: int, size: int = VISION['vit']['image_size']) -> Tensor:
    """Make pictures of a name as the classifier of masks sees them.

    Args:
        name (str): one of the mini world's names.
        count (int): number of pictures.
        seed (int): of all chance, together with the name.
        size (int): side of the pictures in pixels; their content does not depend on it. Defaults to
            VISION['vit']['image_size'].

    Returns:
        Tensor: uint8 (count, 3, size, size) RGB: squares around masks, black outside them.
    """
    from mini_clip_crops import sample_masked_object  # beside this script

    rng = np.random.default_rng((seed, NAMES.index(name)))
    samples = [sample_masked_object(rng, name) for _ in range(count)]
    pictures, masks = zip(*samples, strict=True)
    frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)  # (M, 3, 96, 128)
    masks = torch.from_numpy(np.stack(masks))
    boxes = square_boxes(masks > 0.5)
    crops = crop_squares(frames, torch.arange(count), masks, boxes, size)
    return crops.round().clamp(0, 255).to(torch.uint8)


def normalise(crops: Tensor) -> Tensor:
    """Turn crops in 0..255 (M, 3, h, w) into CLIP's input, float32."""
    mean, std = (
        torch.tensor(values).view(3, 1, 1) * 255
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    return (crops - mean) / std


def turn(crops: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror and turn each crop (M, 3, s, s) by chance into one of its 8 positions."""
    views = (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2))
    for view in views:
        chosen = torch.from_numpy(rng.random((len(crops), 1, 1, 1)) < 0.5)
        crops = torch.where(chosen, view(crops), crops)
    return crops


def train(
    model: torch.nn.Module,
    tokenizer: SimpleTokenizer,
    crops: Tensor,
    iters: int,
    lr: float,
    seed: int,
    groups: int = 2,
    log_every: int = 200,
) -> None:
    """Train a CLIP; each iteration sees each name ``groups`` times, under one caption.

    The contrast is within a group, in which each name is there once: two pictures of one name are
    never told apart.

    Args:
        model (torch.nn.Module): open_clip's CLIP, trained in place.
        tokenizer (SimpleTokenizer): of the model.
        crops (Tensor): uint8 (N, M, 3, s, s), M crops of each of the N names, s the side of the
            model's input.
        iters (int): iterations.
        lr (float): highest learning rate; it rises over the first 5 % and falls along a cosine.
        seed (int): of the choice of crops and captions.
        groups (int): crops of each name in an iteration. Defaults to 2.
        log_every (int): iterations between two lines of output. Defaults to 200.
    """
    rng = np.random.default_rng((seed, len(NAMES)))
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [dict(params=decayed, weight_decay=0.05), dict(params=others, weight_decay=0.0)],
        lr=lr,
        fused=True,
    )
    warmup = max(1, iters // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / iters)),
    )
    tokens = tokenizer([t.replace('{}', name) for name in NAMES for t in TEMPLATES])
    tokens = tokens.unflatten(0, (len(NAMES), len(TEMPLATES)))  # (N, templates, context)
    names, criterion = np.arange(len(NAMES)), ClipLoss()
    model.train()
    for step in range(iters):
        chosen = rng.integers(crops.shape[1], size=(groups, len(NAMES)))
        images = crops[names, chosen]  # (groups, N, 3, s, s)
        images = turn(images.flatten(0, 1), rng)  # (groups * N, 3, s, s)
        captions = tokens[names, rng.integers(len(TEMPLATES), size=len(NAMES))]
        text = model.encode_text(captions, normalize=True)
        image = model.encode_image(normalise(images), normalize=True)
        scale = model.logit_scale.exp()
        loss = torch.stack([criterion(part, text, scale) for part in image.chunk(groups)]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))
        if step % log_every == 0 or step == iters - 1:
            print(f'iteration {step}: loss {loss.item():.4f}, logit scale {scale.item():.1f}')


@torch.no_grad()
def classify(model: torch.nn.Module, tokenizer: SimpleTokenizer, crops: Tensor) -> Tensor:
    """Classify crops among all names, zero-shot, with the model in evaluation mode.

    Args:
        model (torch.nn.Module): open_clip's CLIP.
        tokenizer (SimpleTokenizer): of the model.
        crops (Tensor): uint8 (M, 3, s, s), s the side of the model's input.

    Returns:
        Tensor: float32 (M, N) probabilities: softmax of 100 times the cosine between a crop and the
        mean of the templates' text embeddings.
    """
    model.eval()
    text = embed_names(model, tokenizer, NAMES, TEMPLATES)
    image = model.encode_image(normalise(crops), normalize=True)
    return (100 * image @ text.T).softmax(-1)


def report(probabilities: Tensor) -> str:
    """Describe the zero-shot accuracy of crops (N * M, N), M of each name in turn."""
    truth = torch.arange(len(NAMES)).repeat_interleave(len(probabilities) // len(NAMES))
    top, guess = probabilities.max(1)
    right = (guess == truth).float()
    by_name = right.unflatten(0, (len(NAMES), -1)).mean(1)
    worst = int(by_name.argmin())
    return (
        f'held-out crops: {len(truth)}, accuracy {right.mean():.4f} '
        f'(lowest {by_name[worst]:.3f}, {NAMES[worst]}), median top probability {top.median():.4f}'
    )


def serialise(state: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Make a safetensors file, the same bytes each time.

    Args:
        state (dict[str, Tensor]): tensors by name.
        metadata (dict[str, str]): strings of the header; safetensors writes them in an order that
            changes from process to process, here it is alphabetical.

    Returns:
        bytes: The file's content.
    """
    data = save({key: value.contiguous() for key, value in state.items()}, metadata)
    size = int.from_bytes(data[:8], 'little')
    header = json.loads(data[8 : 8 + size])
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    text = json.dumps(header, separators=(',', ':')).encode('utf-8')
    text += b' ' * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return len(text).to_bytes(8, 'little') + text + data[8 + size :]


def write_file(path: Path, data: bytes) -> None:
    """Write a file that is whole whenever it is there."""
    beside = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        help='the weights, *.safetensors; the tokenizer goes beside them as *_bpe.txt.gz',
    )
    parser.add_argument(
        '--vision', choices=tuple(VISION), default='vit', help='kind of image tower'
    )
    parser.add_argument('--iters', type=int, default=5000, help='training iterations')
    parser.add_argument('--crops', type=int, default=800, help='training pictures of each name')
    parser.add_argument(
        '--test-crops', type=int, default=50, help='held-out pictures of each name for the report'
    )
    parser.add_argument('--lr', type=float, default=1e-3, help='highest learning rate')
    parser.add_argument('--seed', type=int, default=0, help='seed of all chance')
    args = parser.parse_args(argv)
    if args.out.suffix != '.safetensors':
        parser.error(f'--out must end in .safetensors, got {args.out}')
    for key in ('iters', 'crops', 'test_crops'):
        if getattr(args, key) < 1:
            option = key.replace('_', '-')
            parser.error(f'--{option} must be at least 1, got {getattr(args, key)}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Train the model, say how good it is and write it with its tokenizer."""
    args = parse_args(argv)
    # More threads would add numbers in another order and gain little at this size.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(args.seed)
    start = time.perf_counter()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    bpe_path = args.out.with_name(f'{args.out.stem}_bpe.txt.gz')
    write_file(bpe_path, tokenizer_file())
    tokenizer = SimpleTokenizer(bpe_path=str(bpe_path), context_length=CONTEXT_LENGTH)
    config = model_config(tokenizer.vocab_size, args.vision)
    model = open_clip.CLIP(**config)
    size = config['vision_cfg']['image_size']
    tasks = [(name, args.crops, args.seed, size) for name in NAMES]
    crops = torch.stack(track_progress_rich(make_crops, tasks, description='Pictures'))
    train(model, tokenizer, crops, args.iters, args.lr, args.seed)
    test_crops = torch.cat([make_crops(name, args.test_crops, TEST_SEED, size) for name in NAMES])
    print(report(classify(model, tokenizer, test_crops)))
    vision = '' if args.vision == 'vit' else f'--vision {args.vision} '
    command = (
        f'python tools/model_converters/train_mini_clip.py {vision}'
        f'--iters {args.iters} --crops {args.crops} --lr {args.lr} --seed {args.seed}'
    )
    metadata = dict(model_cfg=json.dumps(config), command=command, seed=str(args.seed))
    data = serialise(model.state_dict(), metadata)
    write_file(args.out, data)
    seconds = time.perf_counter() - start
    print(f'{args.out}: {len(data) / 2**20:.2f} MiB, {bpe_path}, {seconds:.0f} s')


if __name__ == '__main__':
    main()
