# SPDX-License-Identifier: Apache-2.0
"""Refuses to run a closed-set model on a data set of other classes."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...utils.config_check import ConfigError


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Compares a dense head's number of classes with that of the data, and a checkpoint's classes with those tested.

    A head, or a model without one, says by ``dense_classes`` (int) how many logits a pixel has: background and the N
    names of the data set, or 1 where there is one name. Others are not looked at.
    """

    def __init__(self) -> None:
        self.known: tuple[str, ...] = ()  # names that the loaded checkpoint was trained with

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the classes of a checkpoint."""
        self.known = tuple((checkpoint.get('meta') or {}).get('dataset_meta', {}).get('classes') or ())

    def before_train(self, runner: Runner) -> None:
        """Compare with the training data.

        Raises:
            ConfigError: the numbers do not fit.
        """
        self._compare(runner, runner.train_dataloader.dataset, 'training')

    def before_val(self, runner: Runner) -> None:
        """Compare with the validation data, see :meth:`before_train`."""
        self._compare(runner, runner.val_dataloader.dataset, 'validation')

    def before_test(self, runner: Runner) -> None:
        """Compare with the test data, see :meth:`before_train`, also the names and their order."""
        dataset = runner.test_dataloader.dataset
        classes = self._compare(runner, dataset, 'test')
        if classes and self.known and tuple(classes) != self.known:
            wrong = next(i for i, pair in enumerate(zip(classes, self.known, strict=True)) if len(set(pair)) > 1)
            raise ConfigError(
                f'the checkpoint was trained with other classes than the test data have: class {wrong} is '
                f'{self.known[wrong]!r}, in the data {classes[wrong]!r}'
            )

    def _compare(self, runner: Runner, dataset: object, what: str) -> tuple[str, ...]:
        """Compare the numbers, and give the data's classes; none where the head tells no classes apart."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        part = getattr(model, 'decode_head', model)
        count = getattr(part, 'dense_classes', None)
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        if count is None or classes is None:
            return ()
        if count == len(classes) or (count == 1 and len(classes) == 2):
            return tuple(classes)
        names = len(classes) - 1
        classes = 'what sounds from what does not' if count == 1 else f'background and {count - 1} names apart'
        advice = "set task='s4' or 'ms3' or binary=True of the data set, or give the model a classifier"
        if part is not model:
            set_to = 1 if names == 1 else names + getattr(part, 'counts_background', True)
            advice = f'model.decode_head.num_classes is {part.num_classes}, set {set_to}'
        raise ConfigError(
            f'{type(part).__name__} tells {classes}, the {what} data have {names} name{"s" * (names != 1)}: {advice}'
        )
