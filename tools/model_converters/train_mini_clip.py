# SPDX-License-Identifier: Apache-2.0
"""Train a small CLIP of the mini world on captioned pictures of all its names.

Like web-scale CLIP it has seen the novel names, as single objects on black and in whole frames with
others; the segmentor that uses it has not. It takes 15 to 30 minutes on one CPU core:
``python tools/model_converters/train_mini_clip.py [--vision resnet] --out OUT.safetensors``
"""

import argparse
import gzip
import io
import json
import math
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import ovavss_mm  # noqa: F401  isort: skip  (checks versions before anything imports mmseg)
import cv2
import numpy as np
import open_clip
import torch
from mmengine.utils import track_progress_rich
from mmseg.utils import get_predefined_templates
from open_clip.loss import ClipLoss
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from ovavss_mm.mini_world import drawing
from ovavss_mm.mini_world.names import NAMES
from ovavss_mm.mini_world.scene import FRAME_SIZE, sample_object
from ovavss_mm.models.classifiers.square_crop import crop_squares, square_boxes
from ovavss_mm.utils.files import write_atomic

TEMPLATES = tuple(get_predefined_templates('vild'))
# By kind of image tower. A ResNet has stride 32: 96 pixels leave 3 x 3 positions to attend to.
VISION = dict(
    vit=dict(image_size=64, patch_size=8, width=96, layers=4, head_width=32),
    resnet=dict(image_size=96, layers=[1, 1, 2, 2], width=8, head_width=32),
)
CONTEXT_LENGTH = 40
TEST_SEED = 1_000_003  # of held-out crops; training crops use small numbers
JPEG_QUALITY = 92
LEAST_VISIBLE = 0.6  # of an object's area
LEAST_WINDOW = 0.4  # of the sides of a frame


def sample_masked_object(rng: np.random.Generator, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw a frame that shows an object among others, and a mask as imperfect as a segmentor's.

    Returns:
        tuple: frame uint8 (96, 128, 3) RGB and mask float32 (96, 128) in 0..1, some of it above 0.5.
    """
    while True:
        frame, visible = draw_frame(rng, name)
        if visible is not None:
            mask = perturb_mask(rng, visible)
            if (mask > 0.5).sum() > 0.5 * visible.sum():
                return frame, mask


def draw_frame(rng: np.random.Generator, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw an object and up to two others: frame as of a JPEG, and what is seen of it if enough is."""
    others = rng.permutation([other for other in NAMES if other != name])[: rng.integers(3)]
    place = int(rng.integers(len(others) + 1))
    frame, visible = draw_objects(rng, [*others[:place], name, *others[place:]])
    return frame, visible[place]


def draw_objects(rng: np.random.Generator, names: list[str]) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """Draw objects, the farthest first: frame as of a JPEG, and what is seen of each if enough is."""
    canvas = drawing.pan_background(drawing.make_background(rng), 0.0)
    covered = [drawing.draw_object(canvas, sample_object(rng, str(name))) >= 0.5 for name in names]
    frame = np.ascontiguousarray(drawing.to_uint8(canvas)[..., ::-1])
    data = cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    frame = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
    visible = [
        area & ~np.any([np.zeros(FRAME_SIZE, bool), *covered[place + 1 :]], axis=0)
        for place, area in enumerate(covered)
    ]
    enough = [
        seen.any() and seen.sum() >= LEAST_VISIBLE * area.sum() for seen, area in zip(visible, covered, strict=True)
    ]
    return frame, [seen if fine else None for seen, fine in zip(visible, enough, strict=True)]


def perturb_mask(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Shift, grow, bite and blur a mask, bool (H, W), not empty; gives float32 (H, W) in 0..1."""
    soft = mask.astype(np.float32)
    height, width = mask.shape
    if rng.random() < 0.5:
        size = 2 * int(rng.integers(1, 4)) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        soft = (cv2.dilate if rng.random() < 0.5 else cv2.erode)(soft, kernel)
    if rng.random() < 0.2:
        # A bite out of the mask, of up to a third of its diameter.
        rows, columns = np.nonzero(mask)
        place = int(rng.integers(len(rows)))
        cv2.circle(soft, (int(columns[place]), int(rows[place])), int(rng.integers(2, 6)), 0, -1)
    shift = rng.uniform(-2, 2, 2)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    soft = cv2.warpAffine(soft, matrix, (width, height), flags=cv2.INTER_LINEAR)
    if rng.random() < 0.7:
        # Models predict at a quarter of the size of their input.
        small = cv2.resize(soft, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        soft = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    sharpness = rng.uniform(4, 16)
    return (1 / (1 + np.exp(-sharpness * (soft - 0.5)))).astype(np.float32)


def make_crops(name: str, count: int, seed: int, size: int = VISION['vit']['image_size']) -> Tensor:
    """Pictures of a name as the classifier of masks sees them, uint8 (count, 3, size, size) RGB."""
    rng = np.random.default_rng((seed, NAMES.index(name)))
    samples = [sample_masked_object(rng, name) for _ in range(count)]
    pictures, masks = zip(*samples, strict=True)
    frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)  # (M, 3, 96, 128)
    masks = torch.from_numpy(np.stack(masks))
    boxes = square_boxes(masks > 0.5)
    crops = crop_squares(frames, torch.arange(count), masks, boxes, size)
    return crops.round().clamp(0, 255).to(torch.uint8)


def make_frames(count: int, seed: int, size: int) -> tuple[Tensor, list[list[str]]]:
    """Whole frames and windows of frames, with objects among others.

    Returns:
        tuple: pictures uint8 (count, 3, size, size) RGB, their sides stretched to be equal, and the names in each.
    """
    rng, pictures, shown = np.random.default_rng((seed, len(NAMES) + 1)), [], []
    while len(pictures) < count:
        names = [str(name) for name in rng.permutation(NAMES)[: rng.integers(1, 5)]]
        frame, visible = draw_objects(rng, names)
        rows, columns = sample_window(rng)
        seen = [
            name
            for name, mask in zip(names, visible, strict=True)
            if mask is not None and mask[rows, columns].sum() >= LEAST_VISIBLE * mask.sum()
        ]
        if seen:
            part = torch.from_numpy(frame[rows, columns]).permute(2, 0, 1)[None].float()  # (1, 3, h, w)
            part = F.interpolate(part, (size, size), mode='bicubic', align_corners=False)
            pictures.append(part[0].round().clamp(0, 255).to(torch.uint8))
            shown.append(seen)
    return torch.stack(pictures), shown


def sample_window(rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a window of a frame's shape: with a probability of one half all of it, else a part."""
    share = 1.0 if rng.random() < 0.5 else rng.uniform(LEAST_WINDOW, 1)
    sizes = [round(share * side) for side in FRAME_SIZE]
    starts = [int(rng.integers(side - size + 1)) for side, size in zip(FRAME_SIZE, sizes, strict=True)]
    return tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))


def normalise(crops: Tensor) -> Tensor:
    """Turn crops in 0..255 (M, 3, h, w) into CLIP's input, float32."""
    values = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    mean, std = (torch.tensor(value).view(3, 1, 1) * 255 for value in values)
    return (crops - mean) / std


def turn(crops: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror and turn each crop (M, 3, s, s) by chance into one of its 8 positions."""
    views = (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2))
    for view in views:
        chosen = torch.from_numpy(rng.random((len(crops), 1, 1, 1)) < 0.5)
        crops = torch.where(chosen, view(crops), crops)
    return crops


def learn_merges(texts: list[str]) -> list[tuple[str, str]]:
    """Learn the byte pair merges, by rank and alphabet, that make each word of texts one token."""
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
    return ''.join(c if c.isalpha() else f' {c} ' for c in text.lower()).split()


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
    """
    captions = [template.replace('{}', name) for template in TEMPLATES for name in NAMES]
    lines = ['#version: 0.2 - words of the mini world', *map(' '.join, learn_merges(captions))]
    buffer = io.BytesIO()
    with gzip.GzipFile(filename='', mode='wb', fileobj=buffer, mtime=0) as file:
        # without a newline at the end, which the tokenizer would read as one more merge
        file.write('\n'.join(lines).encode('utf-8'))
    return buffer.getvalue()


def model_config(vocab_size: int, vision: str = 'vit') -> dict:
    """Return the arguments of ``open_clip.CLIP``; the text tower is the same for both ``vision``."""
    text = dict(context_length=CONTEXT_LENGTH, vocab_size=vocab_size, width=64, heads=2, layers=2)
    return dict(embed_dim=64, vision_cfg=dict(VISION[vision]), text_cfg=text)


def train(model: open_clip.CLIP, tokenizer: SimpleTokenizer, crops: Tensor, frames: tuple, args) -> None:
    """Train a CLIP in place on captioned pictures.

    Each iteration sees two crops of each name, under one caption. The contrast is within a group, in
    which each name is there once: two pictures of one name are never told apart. As many whole frames
    have captions of all that they show, as pictures of the web have; one that shows a single name is told from
    all names, too, as colours alone tell most frames apart. The learning rate rises over the first 5 %
    and falls along a cosine.

    Args:
        model (CLIP): whose size of pictures is s.
        tokenizer (SimpleTokenizer): of captions.
        crops (Tensor): uint8 (N, M, 3, s, s), M of each of the N names.
        frames (tuple): of :func:`make_frames`.
        args (Namespace): of the command line.
    """
    iters, lr, seed = args.iters, args.lr, args.seed
    rng, groups = np.random.default_rng((seed, len(NAMES))), 2
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    parts = [dict(params=decayed, weight_decay=0.05), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(parts, lr=lr, fused=True)
    warmup = max(1, iters // 20)
    rate = lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / iters))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    tokens = tokenizer([t.replace('{}', name) for name in NAMES for t in TEMPLATES])
    tokens = tokens.unflatten(0, (len(NAMES), len(TEMPLATES)))  # (N, templates, context)
    names, criterion = np.arange(len(NAMES)), ClipLoss()
    model.train()
    for step in range(iters):
        chosen = rng.integers(crops.shape[1], size=(groups, len(NAMES)))
        images = crops[names, chosen]  # (groups, N, 3, s, s)
        images = turn(images.flatten(0, 1), rng)  # (groups * N, 3, s, s)
        captions = tokens[names, rng.integers(len(TEMPLATES), size=len(NAMES))]
        scenes = rng.integers(len(frames[0]), size=len(images))
        lists = tokenizer([caption(rng, frames[1][scene]) for scene in scenes])
        images = torch.cat([images, turn(frames[0][scenes], rng)])
        text = model.encode_text(torch.cat([captions, lists]), normalize=True)
        image = model.encode_image(normalise(images), normalize=True)
        scale = model.logit_scale.exp()
        single, several = image.split(len(scenes)), text.split((len(NAMES), len(scenes)))
        parts = [criterion(part, several[0], scale) for part in single[0].chunk(groups)]
        loss = torch.stack(parts).mean() + criterion(single[1], several[1], scale)
        alone = [i for i, scene in enumerate(scenes) if len(frames[1][scene]) == 1]
        names_alone = torch.tensor([NAMES.index(frames[1][scenes[i]][0]) for i in alone])
        if alone:
            loss = loss + F.cross_entropy(scale * single[1][alone] @ several[0].T, names_alone)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if step % 200 == 0 or step == iters - 1:
            print(f'iteration {step}: loss {loss.item():.4f}, logit scale {scale.item():.1f}')


def caption(rng: np.random.Generator, names: list[str]) -> str:
    """Caption of a frame that shows these names, in any order."""
    names = ', '.join(rng.permutation(names))
    return TEMPLATES[rng.integers(len(TEMPLATES))].replace('{}', names)


@torch.no_grad()
def classify(model: torch.nn.Module, tokenizer: SimpleTokenizer, crops: Tensor) -> Tensor:
    """Probabilities (M, N) of all names for crops uint8 (M, 3, s, s), zero-shot."""
    model.eval()
    text = open_clip.build_zero_shot_classifier(model, tokenizer, NAMES, TEMPLATES)  # (C, N)
    return (100 * model.encode_image(normalise(crops), normalize=True) @ text).softmax(-1)


def report(probabilities: Tensor) -> str:
    """Describe the zero-shot accuracy of crops (N * M, N), M of each name in turn."""
    truth = torch.arange(len(NAMES)).repeat_interleave(len(probabilities) // len(NAMES))
    top, guess = probabilities.max(1)
    by_name = (guess == truth).float().unflatten(0, (len(NAMES), -1)).mean(1)
    text = f'held-out crops: {len(truth)}, accuracy {by_name.mean():.4f} (lowest {by_name.min():.3f}, '
    return text + f'{NAMES[by_name.argmin()]}), median top probability {top.median():.4f}'


def serialise(state: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Make a safetensors file, the same bytes each time: safetensors shuffles the metadata."""
    data = save({key: value.contiguous() for key, value in state.items()}, metadata)
    size = int.from_bytes(data[:8], 'little')
    header = json.loads(data[8 : 8 + size])
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    text = json.dumps(header, separators=(',', ':')).encode('utf-8')
    text += b' ' * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return len(text).to_bytes(8, 'little') + text + data[8 + size :]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--out', type=Path, required=True, help='*.safetensors; beside it goes *_bpe.txt.gz')
    add('--vision', choices=tuple(VISION), default='vit', help='kind of image tower')
    add('--iters', type=int, default=6000, help='training iterations')
    add('--crops', type=int, default=800, help='training pictures of each name')
    add('--frames', type=int, default=10000, help='training pictures of whole frames')
    add('--test-crops', type=int, default=50, help='held-out pictures of each name')
    add('--lr', type=float, default=1e-3, help='highest learning rate')
    add('--seed', type=int, default=0, help='seed of all chance')
    args = parser.parse_args(argv)
    if args.out.suffix != '.safetensors':
        parser.error(f'--out must end in .safetensors, got {args.out}')
    if min(args.iters, args.crops, args.frames, args.test_crops) < 1:
        parser.error('--iters, --crops, --frames and --test-crops must be at least 1')
    return args


def main(argv: list[str] | None = None) -> None:
    """Train the model, say how good it is and write it with its tokenizer."""
    args = parse_args(argv)
    # More threads would add numbers in another order and gain little at this size.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(args.seed)
    start = time.perf_counter()
    bpe_path = args.out.with_name(f'{args.out.stem}_bpe.txt.gz')
    write_atomic(bpe_path, tokenizer_file())
    tokenizer = SimpleTokenizer(bpe_path=str(bpe_path), context_length=CONTEXT_LENGTH)
    config = model_config(tokenizer.vocab_size, args.vision)
    model = open_clip.CLIP(**config)
    size = config['vision_cfg']['image_size']
    tasks = [(name, args.crops, args.seed, size) for name in NAMES]
    crops = torch.stack(track_progress_rich(make_crops, tasks, description='Pictures'))
    frames = make_frames(args.frames, args.seed, size)
    train(model, tokenizer, crops, frames, args)
    test_crops = torch.cat([make_crops(name, args.test_crops, TEST_SEED, size) for name in NAMES])
    print(report(classify(model, tokenizer, test_crops)))
    vision = '' if args.vision == 'vit' else f'--vision {args.vision} '
    command = f'python tools/model_converters/train_mini_clip.py {vision}--iters {args.iters} '
    command += f'--crops {args.crops} --frames {args.frames} --lr {args.lr} --seed {args.seed}'
    metadata = dict(model_cfg=json.dumps(config), command=command, seed=str(args.seed))
    data = serialise(model.state_dict(), metadata)
    write_atomic(args.out, data)
    seconds = time.perf_counter() - start
    print(f'{args.out}: {len(data) / 2**20:.2f} MiB, {bpe_path}, {seconds:.0f} s')


if __name__ == '__main__':
    main()
