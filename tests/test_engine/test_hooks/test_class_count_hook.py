# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest

from ovavss_mm.engine.hooks import ClassCountHook
from ovavss_mm.utils.config_check import ConfigError

CLASSES = ('background', 'cat', 'dog')


def make_runner(count: int | None, classes: tuple = CLASSES, **attributes) -> SimpleNamespace:
    """What the hook looks at of a runner whose head has ``count`` classes."""
    head = SimpleNamespace(dense_classes=count, num_classes=count, **attributes)
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes)))
    loaders = {f'{split}_dataloader': loader for split in ('train', 'val', 'test')}
    return SimpleNamespace(model=SimpleNamespace(decode_head=head), **loaders)


@pytest.mark.parametrize(('event', 'data'), [('train', 'training'), ('val', 'validation'), ('test', 'test')])
def test_another_number_of_classes_is_refused(event, data):
    hook = ClassCountHook()
    for fits in (make_runner(3), make_runner(None), make_runner(1, CLASSES[:2])):
        getattr(hook, f'before_{event}')(fits)
    with pytest.raises(ConfigError, match=f'the {data} data have 2 names: .*num_classes is 5, set 3$'):
        getattr(hook, f'before_{event}')(make_runner(5))
    with pytest.raises(ConfigError, match='tells what sounds from what does not, .* is 1, set 2$'):
        getattr(hook, f'before_{event}')(make_runner(1, counts_background=False))


def test_classes_of_a_checkpoint_in_another_order_are_refused():
    hook = ClassCountHook()
    hook.before_test(make_runner(3))  # not known
    hook.after_load_checkpoint(None, dict(meta=dict(dataset_meta=dict(classes=list(CLASSES)))))
    hook.before_test(make_runner(3))
    hook.before_test(make_runner(None, ('background', 'dog', 'cat')))  # an open vocabulary
    with pytest.raises(ConfigError, match="class 1 is 'cat', in the data 'dog'"):
        hook.before_test(make_runner(3, ('background', 'dog', 'cat')))


def test_a_model_without_head_says_it_itself():
    runner = make_runner(None)
    runner.model = SimpleNamespace(dense_classes=1)
    with pytest.raises(ConfigError, match='the training data have 2 names: set task='):
        ClassCountHook().before_train(runner)
    runner.model.dense_classes = None
    ClassCountHook().before_train(runner)
