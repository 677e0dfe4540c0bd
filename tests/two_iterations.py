# SPDX-License-Identifier: Apache-2.0
"""Two iterations of a config on the tiny archive, and its evaluation."""

from pathlib import Path

import torch
from archive import write_archive
from mmengine.config import Config
from mmengine.runner import Runner


def run_two_iterations(config: Config, folder: Path) -> tuple[set[str], set[str]]:
    """Train and evaluate in a folder.

    Returns:
        tuple: the parts of the model of which a weight or statistic has changed, but for weights of their own files,
        and the names of what was logged.
    """
    data_root = write_archive(folder / 'archive')
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(data_root), base_names='base_names.txt')
        for step in loader.dataset.pipeline:
            if step.type == 'ResizeClip':
                step.short_side = 64
    config.train_cfg.update(max_iters=2, val_begin=1, val_interval=2)
    name = Path(config.filename).stem
    config.merge_from_dict(dict(work_dir=str(folder / name), experiment_name=name, log_level='ERROR', load_from=None))
    config.default_hooks.pop('visualization', None)
    config.custom_hooks = config.get('custom_hooks', [])[:1]
    torch.manual_seed(0)
    runner = Runner.from_cfg(config)
    runner.model.init_weights()  # reads weights of their own files
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    changed = {key.split('.')[0] for key, value in after.items() if not torch.equal(value, before[key])}
    return changed, set(runner.message_hub.log_scalars)
