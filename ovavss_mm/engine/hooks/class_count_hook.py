# SPDX-License-Identifier: Apache-2.0
"""Refuses to train a closed-set model on a data set of another number of classes."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...utils.config_check import ConfigError


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Compares a dense head's number of classes with that of the training data, before the first iteration.

    A head says by ``dense_classes`` (int) how many logits a pixel has: background and the N names of the data set, or 1
    where there is one name. Other heads are not looked at.
    """

    def before_train(self, runner: Runner) -> None:
        """Compare.

        Raises:
            ConfigError: the numbers do not fit.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        count = getattr(getattr(model, 'decode_head', None), 'dense_classes', None)
        classes = getattr(runner.train_dataloader.dataset, 'metainfo', {}).get('classes')
        if count is None or classes is None or count == len(classes) or (count == 1 and len(classes) == 2):
            return
        head, names = type(model.decode_head).__name__, len(classes) - 1
        told = 'what sounds from what does not' if count == 1 else f'background and {count - 1} names apart'
        raise ConfigError(
            f'{head} tells {told}, the training data have {names} name{"s" * (names != 1)}: '
            f'model.decode_head.num_classes is {model.decode_head.num_classes}'
        )
