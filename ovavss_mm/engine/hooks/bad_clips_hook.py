# SPDX-License-Identifier: Apache-2.0
"""Brings bad clips that a dataset went past into the log."""

from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class BadClipsHook(Hook):
    """Names and counts the clips that ``AVSBenchOVDataset(on_bad_clip='skip')`` could not read.

    They come with the metainfo of what was given in their place, from loader processes and from all
    processes of a training alike. Each clip is named once, in a warning; ``bad_clips`` in the log is
    how often one was met, over restarts too.

    Args:
        interval (int): iterations after which processes tell each other; a single one logs at once.
    """

    def __init__(self, interval: int = 50) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'interval must be a positive integer, got {interval!r}')
        self.interval = interval
        self._met: list[tuple[str, str]] = []
        self._named: set[str] = set()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Collect what the samples of a batch say.

        Args:
            runner: of the training.
            batch_idx: not used.
            data_batch: with ``data_samples``, whose metainfo may have ``bad_clips``.
            outputs: not used.
        """
        for sample in (data_batch or {}).get('data_samples', []):
            self._met += sample.get('bad_clips', ())
        if get_world_size() == 1 or self.every_n_train_iters(runner, self.interval):
            self._report(runner)

    def after_train(self, runner: Runner) -> None:
        """Report the rest.

        Args:
            runner: of the training.
        """
        self._report(runner)

    def _report(self, runner: Runner) -> None:
        """Log what all processes have met since the last time."""
        met, self._met = self._met, []
        if get_world_size() > 1:
            met = [item for part in all_gather_object(met) for item in part]
        if not met:
            return
        hub = runner.message_hub
        total = len(met) + (hub.get_info('bad_clips') if 'bad_clips' in hub.runtime_info else 0)
        hub.update_info('bad_clips', total)
        hub.update_scalar('train/bad_clips', total)
        for clip_dir, reason in met:
            if clip_dir not in self._named:
                self._named.add(clip_dir)
                runner.logger.warning(
                    f'bad clip {clip_dir}: {reason}. The next clip that can be read takes its place '
                    "(dataset.on_bad_clip='skip')"
                )
