# SPDX-License-Identifier: Apache-2.0
"""A training of a few weights whose loss and gradients go wrong where a test wants them to.

Run by torchrun, it trains in two processes and writes what each of them ends up with.
"""

import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.model import BaseModel
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils.data import Dataset

from ovavss_mm.engine.runner import AVRunner, leave_group

GOOD, NAN_LOSS, NAN_GRAD, INF_GRAD = range(4)
HOOK = dict(type='NonFiniteLossHook')


class BadGradient(torch.autograd.Function):
    """Identity, with a given gradient."""

    @staticmethod
    def forward(ctx: object, x: Tensor, value: float) -> Tensor:
        """Of any shape."""
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        """One element is bad."""
        grad = grad.clone()
        grad.view(-1)[0] = ctx.value
        return grad, None


class Toy(BaseModel):
    """Linear, with a batch norm; the kind of a clip says what goes wrong."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.linear = nn.BatchNorm1d(3), nn.Linear(3, 1)

    def forward(self, inputs: list, data_samples: list, mode: str) -> dict[str, Tensor]:
        """Two losses of a batch."""
        kinds = [sample.kind for sample in data_samples]
        x = torch.stack(inputs)
        if NAN_LOSS in kinds:
            x = x * float('nan')  # which reaches the statistics of the norm
        x = self.linear(self.norm(x))
        for kind, value in ((NAN_GRAD, 'nan'), (INF_GRAD, 'inf')):
            x = BadGradient.apply(x, float(value)) if kind in kinds else x
        return dict(loss_a=x.square().mean(), loss_b=x.abs().mean())


class Clips(Dataset):
    """Clips of given kinds, each of two rows of numbers."""

    metainfo: dict = {}

    def __init__(self, kinds: list[int]) -> None:
        self.kinds = kinds
        self.x = torch.randn(len(kinds), 3, generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        """As many as there are kinds."""
        return len(self.kinds)

    def __getitem__(self, index: int) -> dict:
        """Of a batch of one."""
        info = dict(clip_id=f'clip{index}', kind=self.kinds[index])
        return dict(inputs=self.x[index], data_samples=SegDataSample(metainfo=info))


def runner_of(
    kinds: list[int], work_dir: Path, hooks: dict | None = None, batch_size: int = 2, **optim: object
) -> AVRunner:
    """A runner that sees the clips once, in order.

    Args:
        kinds: of the clips.
        work_dir: of the runner.
        hooks: added to the default hooks; None takes one away.
        batch_size: clips an iteration.
        optim: over the optimizer wrapper's config.
    """
    wrapper = dict(
        type='FiniteOptimWrapper', optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.1), clip_grad=dict(max_norm=0.5)
    )
    logger = dict(type='LoggerHook', interval=1)
    all_hooks = dict(nonfinite=HOOK, logger=logger) | (hooks or {})
    return AVRunner(
        model=Toy(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=batch_size,
            num_workers=0,
            dataset=Clips(kinds),
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=len(kinds) // batch_size // (2 if '--two' in sys.argv else 1)),
        optim_wrapper=wrapper | optim,
        default_hooks={key: hook for key, hook in all_hooks.items() if hook},
        log_processor=dict(by_epoch=False),
        launcher='pytorch' if '--two' in sys.argv else 'none',
        default_scope='mmseg',
        experiment_name=f'toy{abs(hash(work_dir))}',
        cfg=Config(dict(work_dir=str(work_dir))),
    )


def state_of(runner: AVRunner) -> dict[str, Tensor]:
    """Copies of the weights, buffers and the optimizer's moments."""
    model = getattr(runner.model, 'module', runner.model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    moments = runner.optim_wrapper.optimizer.state_dict()['state']
    for index, values in moments.items():
        state |= {f'{index}.{key}': value.clone() for key, value in values.items()}
    return state


if __name__ == '__main__':
    out = Path(sys.argv[1])
    # process 0 gets the even clips, process 1 the odd ones, of which one is bad
    runner = runner_of([GOOD, GOOD] * 2 + [GOOD, NAN_LOSS] + [GOOD, GOOD] * 3, out, batch_size=2)
    runner.train()
    torch.save(state_of(runner), out / f'rank{get_rank()}.pth')
    del runner
    leave_group()
