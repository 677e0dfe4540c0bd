# SPDX-License-Identifier: Apache-2.0
"""Refuses keys of a config that nothing reads, and arguments that a part does not take, before a run begins."""

import inspect
import re
import traceback
from collections.abc import Callable, Collection, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import FUNCTIONS, Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
from mmengine.utils import import_modules_from_strings
from mmengine.utils.dl_utils import set_multi_processing
from mmseg import registry
from torch.distributed import init_process_group
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from .arguments import arguments_of
from .text import one_line, shorten

# Top-level keys that the runner reads, and those of the hosts' tools for test-time augmentation.
RUNNER_KEYS = {*inspect.signature(Runner).parameters} - {'cfg'} | {
    *('runner_type', 'custom_imports', 'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'strategy'),
    *('activation_checkpointing', 'efficient_conv_bn_eval', 'compile', 'amp'),
}
TOOL_KEYS = {'tta_model', 'tta_pipeline'}
# Hooks that mmengine adds by itself.
HOST_HOOKS = {'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'}

# Sections but the model, which is built at once: where their parts are registered.
_DATA = (registry.DATASETS, registry.TRANSFORMS, registry.DATA_SAMPLERS, FUNCTIONS)
_SECTIONS: dict[str, tuple[Registry, ...]] = {
    **{f'{name}_dataloader': _DATA for name in ('train', 'val', 'test')},
    **{f'{name}_evaluator': (registry.METRICS, registry.EVALUATOR) for name in ('val', 'test')},
    **{f'{name}_cfg': (registry.LOOPS,) for name in ('train', 'val', 'test')},
    **{f'{name}_hooks': (registry.HOOKS,) for name in ('default', 'custom')},
    'optim_wrapper': (registry.OPTIM_WRAPPERS, registry.OPTIMIZERS),
    'param_scheduler': (registry.PARAM_SCHEDULERS,),
    'visualizer': (registry.VISUALIZERS, registry.VISBACKENDS),
    'log_processor': (registry.LOG_PROCESSORS,),
    'linker': (registry.TASK_UTILS,),
    **dict.fromkeys(('env_cfg', 'randomness', 'auto_scale_lr', 'custom_imports'), ()),
}
_INITS = (registry.WEIGHT_INITIALIZERS,)
# Keys that are taken out of a dict before its part is built, by patterns of paths.
_TAKEN_OUT = {
    '*_hooks.*': {'priority'},
    'optim_wrapper': {'constructor', 'optimizer', 'paramwise_cfg'},
    'param_scheduler*': {'convert_to_iter_based'},
    'model.*init_cfg*': {'override'},
}
# Dicts without a type, by patterns of paths: functions that get the items, or keys that are looked up.
_PLAIN: dict[str, tuple[Callable | set[str], ...]] = {
    '*_dataloader': (DataLoader, {'num_batch_per_epoch', 'disable_subprocess_warning'}),
    'train_cfg': (EpochBasedTrainLoop, IterBasedTrainLoop, {'by_epoch'}),
    'val_cfg': (ValLoop,),
    'test_cfg': (TestLoop,),
    'optim_wrapper': (OptimWrapper,),
    'optim_wrapper.clip_grad': (clip_grad_norm_, clip_grad_value_, {'type'}),
    'log_processor': (LogProcessor,),
    'env_cfg': ({'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},),
    'env_cfg.mp_cfg': (set_multi_processing,),
    'env_cfg.dist_cfg': (init_process_group, {'backend', 'init_backend', 'port'}),
    'custom_imports': (import_modules_from_strings,),
    'randomness': (Runner.set_randomness,),
    'auto_scale_lr': ({'enable', 'base_batch_size'},),
}
# What classes keep of their arguments for a function, which would complain late.
_KEPT_FOR: dict[Callable, Callable] = {CheckpointHook: Runner.save_checkpoint}


class ConfigError(ValueError):
    """A key of a config that nothing reads, or an argument that a part does not take; the message names the nearest."""


def apply_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge the ``--cfg-options`` of a command line into a config.

    Args:
        cfg (Config): the whole config, as its file gives it.
        options (dict): values by dotted key; numbers stand for places in lists.

    Raises:
        ConfigError: nothing reads a key once the file has been read, or it leads nowhere.
    """
    for key, value in options.items():
        first, *rest = key.split('.')
        # the runner reads the preprocessor of data at the top where the model has none
        idle = {'data_preprocessor'} & set(cfg.get('model') or ())
        if first not in (RUNNER_KEYS | TOOL_KEYS) - idle:
            raise ConfigError(f'--cfg-options {key}: {_unread(cfg, first, rest)}')
        hooks = HOST_HOOKS | set(cfg.get('default_hooks') or ())
        if first == 'default_hooks' and value is None and rest and rest[0] not in hooks:
            raise ConfigError(f'--cfg-options {key}: there is no such hook{_nearest(rest[0], hooks)}')
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f'--cfg-options {key}: the config has no such place ({one_line(error)})') from error
    if any(key.startswith('custom_imports') for key in options):
        import_modules_from_strings(**cfg.custom_imports)


def check_config(cfg: Config) -> None:
    """Check the keys of a config, but for those of the model, without building anything.

    Raises:
        ConfigError: a top-level key looks like one that the runner reads, misspelt; a part does not take an argument,
            or is not registered; nothing looks up a key of a dict that is no part's.
    """
    imported: set[str] = getattr(cfg, '_imported_names', set())  # by a config that is plain Python
    for name in sorted(set(cfg) - RUNNER_KEYS - imported):
        near = [key for key in get_close_matches(name, RUNNER_KEYS, 1, 0.8) if abs(len(key) - len(name)) <= 3]
        if near and not _is_variable(cfg, name):
            raise ConfigError(f'{cfg.filename}: no part reads the key {name!r}; nearest known: {near[0]}')
    hooks = cfg.get('default_hooks') or {}
    parts = (Hook, type(None))
    whole = {
        name for name, hook in hooks.items() if isinstance(hook, parts) or isinstance(hook, dict) and 'type' in hook
    }
    for name in set(hooks) - whole:
        raise ConfigError(f'default_hooks.{name}: there is no such hook{_nearest(name, whole | HOST_HOOKS)}')
    if cfg.get('default_scope') not in (None, 'mmseg'):
        return  # its parts are in the registries of another library
    for section, registries in _SECTIONS.items():
        for path, node in _walk(cfg.get(section), section):
            if isinstance(node, dict):
                _check_keys(path, node, registries)
    for path, node in _walk(cfg.get('model'), 'model'):
        if re.search(r'\.init_cfg(\.\d+)?$', path) and isinstance(node, dict):
            _check_keys(path, node, _INITS)


def explain(error: Exception, cfg: Config, section: str, registries: Collection[Registry]) -> ConfigError | None:
    """Say where in a section the argument or type stands of which an error complains; None for other errors.

    Of a value that a part does not take, the error itself says what is wrong.
    """
    if isinstance(error, ValueError):
        return ConfigError(f'{section}: {error}')
    found = list(_walk(cfg.get(section), section))
    if match := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error)):
        name, key = match.groups()
        paths = [path for path, _ in found if path.endswith(f'.{key}')]
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        seen = chain(*((*frame.f_locals.values(), *frame.f_globals.values()) for frame in reversed(frames)))
        classes = (part for part in seen if inspect.isclass(part))
        part = next((part for part in classes if name in [owner.__name__ for owner in inspect.getmro(part)]), None)
        places = {path.rpartition('.')[0] for path in paths}
        beside = {path.rpartition('.')[2] for path, _ in found if path.rpartition('.')[0] in places}
        known = part and arguments_of(part) or beside - {key}
        return ConfigError(f'{shorten(paths) or section}: {name} takes no {key!r}{_nearest(key, known)}')
    if match := re.search(r'([\w.]+) is not in the \S+::.* registry', str(error)):
        paths = [path for path, node in found if path.endswith('.type') and node == match[1]]
        return _not_registered(shorten(paths) or section, match[1], registries)
    return None


def _check_keys(path: str, node: dict, registries: Collection[Registry]) -> None:
    """Raise ConfigError for a key of a dict that what takes the dict does not know."""
    plain = next((takers for pattern, takers in _PLAIN.items() if fnmatchcase(path, pattern)), ())
    if path == 'optim_wrapper' and not {'type', 'optimizer'} & set(node):
        return  # several optimizers by their own names
    if 'type' in node and {'type'} not in plain:
        takers = [_find(node['type'], registries) or _find(node['type'], vars(registry).values())]
        if takers == [None] and '.transforms.' in path:  # of another library
            return
        if takers == [None]:
            raise _not_registered(f'{path}.type', node['type'], registries)
    else:
        takers = plain
    sets = [taker if isinstance(taker, set) else arguments_of(taker, _KEPT_FOR) for taker in takers]
    if not sets or None in sets:
        return
    known = set().union(*sets, *(keys for pattern, keys in _TAKEN_OUT.items() if fnmatchcase(path, pattern)))
    name = node.get('type')
    check_known(path, set(node) - {'type', '_scope_'}, known, name and getattr(name, '__name__', name))


def check_known(path: str, keys: Collection[str], known: Collection[str], part: str | None = None) -> None:
    """Raise ConfigError for a key, in a dict of a config or for its part, that is not known."""
    for key in sorted(set(keys) - set(known)):
        what = f'{part} takes no {key!r}' if part else 'nothing reads this key'
        raise ConfigError(f'{path}.{key}: {what}{_nearest(key, known)}')


def _find(name: Any, registries: Collection[Any]) -> Callable | None:
    """Find what is registered under a name; a class or function stands for itself."""
    if not isinstance(name, str):
        return name
    for place in registries:
        if isinstance(place, Registry):
            try:
                part = place.get(name)
            except RuntimeError:  # no such module
                continue
            if part is not None:
                return part
    return None


def _not_registered(path: str, name: str, registries: Collection[Registry]) -> ConfigError:
    """The error that a type is unknown."""
    known = {key for place in registries for key in chain(place.module_dict, getattr(place.parent, 'module_dict', ()))}
    return ConfigError(
        f'{path}: nothing is registered as {name!r}{_nearest(name, known)} (own parts need custom_imports)'
    )


def _nearest(name: str, known: Collection[str]) -> str:
    """End of a message: the known key that is most like another, or all of a few; empty where none are known."""
    near = get_close_matches(name, known, 1, 0.5) or sorted(known)
    return f'; {"nearest known" if len(near) == 1 else "known"}: {shorten(near, 12)}' if near else ''


def _walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All values of a section of a config with their dotted paths, itself first."""
    yield path, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield from _walk(value, f'{path}.{key}')


def _is_variable(cfg: Config, name: str) -> bool:
    """Whether a top-level name of a config is used in its files, or its value is in a section."""
    if re.search(rf'\b{name}\b(?!["\']?\s*[:=](?!=))', cfg.text):
        return True
    return isinstance(cfg[name], (dict, list, tuple)) and bool(_places(cfg, cfg[name]))


def _places(cfg: Config, value: Any, name: str = '') -> list[str]:
    """Paths in what the runner reads where a value is, or whose last key has a name."""
    found = [pair for key in sorted(RUNNER_KEYS & set(cfg) - {name}) for pair in _walk(cfg[key], key)]
    named = [path for path, _ in found if name and path.endswith(f'.{name}')]
    telling = not isinstance(value, (bool, int, type(None))) or abs(int(value or 0)) >= 100
    return named + [path for path, other in found if telling and other == value and path not in named]


def _unread(cfg: Config, name: str, rest: list[str]) -> str:
    """Say that nothing reads a top-level key, and which ones are meant most likely."""
    places = ['.'.join([path, *rest]) for path in _places(cfg, cfg.get(name), name)]
    if name in cfg:
        where = f'what was made of it: {shorten(places)}' if places else 'change it in the file'
        return f'{name!r} is a variable of the config file, nothing reads it afterwards; {where}'
    near = get_close_matches(name, RUNNER_KEYS, 1, 0.7) or places
    return 'no part reads this key' + (f'; nearest known: {shorten(near)}' if near else '')
