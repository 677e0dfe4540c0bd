# SPDX-License-Identifier: Apache-2.0
"""Names and counts bad clips in the log."""

from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class BadClipsHook(Hook):
    """Names and counts the clips that a data set with ``on_bad_clip='skip'`` could not read.

    They come with the metainfo of the sample that was given in their place. Each clip is named once, in a warning;
    ``bad_clips`` in the log is how often one was met, over restarts too.

    Args:
        interval (int): iterations after which several processes tell each other; a single one logs at once. Defaults to
            50.
    """

    def __init__(self, interval: int = 50) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'interval must be a positive integer, got {interval!r}')
        self.interval = interval
        self._met: list[tuple[str, str]] = []
        self._named: set[str] = set()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Collect the metainfo ``bad_clips`` of the samples of a batch."""
        for sample in (data_batch or {}).get('data_samples', []):
            self._met += sample.get('bad_clips', ())
        if get_world_size() == 1 or self.every_n_train_iters(runner, self.interval):
            self.after_train(runner)

    def after_train(self, runner: Runner) -> None:
        """Log what all processes have met since the last time."""
        met = sum(all_gather_object(self._met), [])
        self._met = []
        if not met:
            return
        hub = runner.message_hub
        total = len(met) + hub.runtime_info.get('bad_clips', 0)
        hub.update_info('bad_clips', total)
        hub.update_scalar('train/bad_clips', total)
        for folder, reason in met:
            if folder not in self._named:
                self._named.add(folder)
                runner.logger.warning(f"bad clip {folder}: {reason}. Another takes its place (on_bad_clip='skip')")
