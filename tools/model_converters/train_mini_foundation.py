# SPDX-License-Identifier: Apache-2.0
"""Train a small CLAP, Grounding DINO or SAM of the mini world, in the format of transformers.

Like the web-scale models they have met all names, the novel ones too. Each takes 10 to 20 minutes on one CPU core:
``python tools/model_converters/train_mini_foundation.py {clap,grounding-dino,sam} --out FOLDER``
"""

import argparse
import math
import time
from pathlib import Path

import ovavss_mm  # noqa: F401  isort: skip  (checks versions before anything imports mmseg)
import torch
from mini_foundation_sight import MiniGroundingDino, MiniSam
from mini_foundation_sound import MiniClap

MODELS = {'clap': MiniClap, 'grounding-dino': MiniGroundingDino, 'sam': MiniSam}
TEST_SEED = 1_000_003  # of held-out data; training data use small numbers


def train(task, iters: int, lr: float) -> None:
    """Train the model of a task in place; the learning rate rises over the first 5 % and falls along a cosine."""
    decayed = [p for p in task.model.parameters() if p.ndim >= 2 and p.requires_grad]
    others = [p for p in task.model.parameters() if p.ndim < 2]
    parts = [dict(params=decayed, weight_decay=0.01), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(parts, lr=lr, fused=True)
    warmup = max(1, iters // 20)
    rate = lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / iters))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    task.model.train()
    start, mean = time.perf_counter(), 0.0
    for step in range(iters):
        loss = task.loss()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean += (loss.item() - mean) / min(step + 1, 100)
        if step % 100 == 0 or step == iters - 1:
            print(f'iteration {step}: mean loss {mean:.4f}, {time.perf_counter() - start:.0f} s', flush=True)
    task.model.eval()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('model', choices=tuple(MODELS), help='which of the models')
    add('--out', type=Path, required=True, help='folder for config, weights and processors')
    add('--iters', type=int, help="training iterations; default: the model's own")
    add('--lr', type=float, help="highest learning rate; default: the model's own")
    add(
        '--scale',
        type=float,
        default=1.0,
        help='factor on what is done before, e.g. for a try: sounds, steps of the backbone alone',
    )
    add('--seed', type=int, default=0, help='seed of all chance')
    args = parser.parse_args(argv)
    args.iters = MODELS[args.model].iters if args.iters is None else args.iters
    args.lr = MODELS[args.model].lr if args.lr is None else args.lr
    if args.iters < 1:
        parser.error(f'--iters must be at least 1, got {args.iters}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Train a model, say how good it is and write it with what prepares its input."""
    args = parse_args(argv)
    # More threads would add numbers in another order and gain little at this size.
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    start = time.perf_counter()
    task = MODELS[args.model](args.seed, args.scale)
    for part in task.processors:  # now: tokenizers write how they were used last
        part.save_pretrained(args.out)
    task.prepare()
    train(task, args.iters, args.lr)
    task.model.save_pretrained(args.out)
    figures = ', '.join(f'{key} {value:.4f}' for key, value in task.report(TEST_SEED).items())
    size = sum(path.stat().st_size for path in args.out.iterdir())
    print(f'held-out: {figures}')
    print(f'{args.out}: {size / 2**20:.2f} MiB, {time.perf_counter() - start:.0f} s')


if __name__ == '__main__':
    main()
