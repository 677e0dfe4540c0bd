# SPDX-License-Identifier: Apache-2.0
"""One training step of the tiny model, run by torchrun: each process has its share of four clips.

Writes the loss and the gradients that the optimizer would see to the file given as argument.
"""

import os
import sys
from unittest.mock import patch

import torch
from mmengine.dist import get_dist_info
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope
from tiny_model import make_clip, prepare, same_points, tiny_model

from ovavss_mm.engine.runner import init_gloo, leave_group


def main() -> None:
    """Run the step; process 0 writes."""
    torch.set_num_threads(1)
    init_default_scope('mmseg')
    if 'RANK' in os.environ:
        init_gloo('pytorch')
    rank, world_size = get_dist_info()
    torch.manual_seed(0)
    # in double precision: in float32 a rounding may choose another hard point for a loss
    model = tiny_model(classifier=None, neck=dict(fusion=dict(dropout=0.0))).double()
    # clips of other sizes, T and numbers of targets; a silent one and one annotated in frame 0 only
    clips = [make_clip(5), make_clip(3, (96, 64)), make_clip(5, labels=torch.zeros(5, 64, 96, dtype=torch.uint8))]
    clips.append(make_clip(5, (64, 64)))
    clips[3][2].gt_sem_seg.data[1:] = 255
    clips = clips[rank::world_size]
    module = MMDistributedDataParallel(model, broadcast_buffers=False) if world_size > 1 else model
    with patch('torch.rand', same_points):
        losses = module(**prepare(model, clips, training=True), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    loss = loss.detach()
    if world_size > 1:
        torch.distributed.all_reduce(loss)
    if rank == 0:
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        torch.save(dict(loss=loss / world_size, grads=grads), sys.argv[1])
    del module, model, losses
    leave_group()


if __name__ == '__main__':
    main()
