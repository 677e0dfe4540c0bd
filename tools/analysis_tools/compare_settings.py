# SPDX-License-Identifier: Apache-2.0
"""Test one trained model under several settings and say how far its label maps agree.

A SETTING is KEY=VALUE, or several with commas between them: keys of the model's config that need no
other weights, such as classifier.sound_thr, test_cfg.score_thr, test_cfg.window or precision, and
values as in Python. The first setting is the reference of the others; `default` is the config as
it is. Each clip is loaded once and goes through all settings, which share their weights.
"""

import argparse
import ast
import copy
import inspect
import logging
import math
import os
import re
import sys
import time
from dataclasses import dataclass

from mmengine.config import DictAction

EXAMPLES = """examples:
  choose the sound threshold: what does leaving silent queries out of CLIP save, and what does it change?
    python tools/analysis_tools/compare_settings.py CONFIG CHECKPOINT \\
        classifier.sound_thr=None classifier.sound_thr=0.01 classifier.sound_thr=0.5

  is bfloat16 as good as float32?
    python tools/analysis_tools/compare_settings.py CONFIG CHECKPOINT default precision=bfloat16

  two keys at a time, on 100 clips of the validation split
    python tools/analysis_tools/compare_settings.py CONFIG CHECKPOINT default \\
        test_cfg.score_thr=0.2,test_cfg.max_pairs=20 --split val --clips 100
"""
DEFAULT = 'default'
FIGURES = ('base_mIoU', 'novel_mIoU', 'harmonic_mIoU', 'mIoU')
HEADINGS = ('Base', 'Novel', 'Harmonic', 'mIoU')
# The settings share their weights: what says where they come from cannot be changed.
ABOUT_WEIGHTS = ('init_cfg', 'pretrained')


@dataclass
class Run:
    """A setting and its model, and so far: crops, pixels with the reference's label, seconds of the model."""

    setting: str
    changes: dict
    model: object
    evaluator: object
    crops: int = 0
    equal: int = 0
    seconds: float = 0.0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help="config file, or the name of one of the package's")
    add('checkpoint', help='checkpoint file')
    add('settings', nargs='+', metavar='SETTING', help=f'KEY=VALUE[,KEY=VALUE...], or {DEFAULT}')
    add('--split', choices=['train', 'val', 'test'], help="of the data (default: the config's)")
    add('--clips', type=int, metavar='N', help='only N, spread evenly over them (default: all)')
    add('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    add('--out', metavar='FILE.json', help='write the figures there, too')
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change values of the config, for all settings: a.b=1, or a.b="[1,2]" for lists',
    )
    args = parser.parse_args(argv)
    if args.clips is not None and args.clips < 1:
        parser.error(f'--clips must be at least 1, got {args.clips}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Test all settings and print the table."""
    args = parse_args(argv)
    # Threads that spin long while they wait take busy cores from the loader's workers; some spinning pays.
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    from ovavss_mm.compat import concerns_user, import_quietly

    import_quietly('ovavss_mm.engine.launch').keep_freed_memory()
    write_json = import_quietly('ovavss_mm.engine.benchmark.report').write_json
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    MMLogger.get_current_instance().addFilter(concerns_user)
    try:
        changes = [parse_setting(text) for text in args.settings]
        with DefaultScope.overwrite_default_scope('mmseg'):
            result = compare(args, changes)
        print(table_of(result))
        if args.out:
            write_json(result, args.out)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')


def compare(args: argparse.Namespace, changes: list[dict]) -> dict:
    """Build everything, test, and put the figures together, fit for JSON.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an argument that cannot be.
    """
    from mmengine.runner import Runner

    from ovavss_mm.apis.loading import choose_device

    device = choose_device(args.device)
    cfg = load_config(args)
    base = load_model(cfg, device)
    pairs = list(zip(args.settings, changes, strict=True))
    models = [changed_model(cfg, base, change, text) for text, change in pairs]
    cfg.test_dataloader.dataset = dataset = build_dataset(cfg, args.split, args.clips)
    runs = [
        Run(text or DEFAULT, change, model.to(device).eval(), build_evaluator(cfg, dataset))
        for (text, change), model in zip(pairs, models, strict=True)
    ]
    pixels = test(runs, Runner.build_dataloader(cfg.test_dataloader))
    return dict(
        config=args.config,
        checkpoint=args.checkpoint,
        cfg_options=args.cfg_options,
        split=getattr(dataset, 'split', None),
        device=device,
        clips=len(dataset),
        pixels=pixels,
        settings=[figures_of(run, pixels, len(dataset)) for run in runs],
    )


def load_config(args: argparse.Namespace) -> object:
    """Read the config and check that the files it needs are there."""
    from ovavss_mm.apis.loading import find_config
    from ovavss_mm.engine.launch import check_files
    from ovavss_mm.models.skeleton import read_config

    cfg = read_config(find_config(args.config), args.cfg_options)
    cfg.load_from = args.checkpoint
    check_files(cfg, ('test_dataloader',))
    return cfg


# ------------------------------------------------------------------ settings
def parse_setting(text: str) -> dict:
    """Read 'default' or KEY=VALUE,KEY=VALUE: Python literals, or the text where it is none.

    Raises:
        ValueError: another form, or a key given twice.
    """
    changes = {}
    if text.strip() in ('', DEFAULT):
        return changes
    for part in re.split(r',(?=\s*[A-Za-z_][\w.]*\s*=)', text):  # lists have commas, too
        key, _, value = (word.strip() for word in part.partition('='))
        if not re.fullmatch(r'\w+(\.\w+)*', key) or not value:
            raise ValueError(f'a setting is KEY=VALUE[,KEY=VALUE...] or {DEFAULT}, got {text!r}')
        if key in changes:
            raise ValueError(f'setting {text!r} has {key} twice')
        try:
            changes[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            changes[key] = value
    return changes


def load_model(cfg: object, device: str) -> object:
    """Build the model as the config has it, with the weights of the checkpoint ``load_from``."""
    from mmseg.registry import MODELS

    from ovavss_mm.apis.loading import load_strictly, read_checkpoint

    checkpoint = read_checkpoint(cfg.load_from)
    model = MODELS.build(cfg.model)
    if getattr(model, 'classifier', None) is None:
        raise ValueError('the model has no classifier: set model.classifier to predict names')
    load_strictly(model, checkpoint, cfg)
    return model.to(device).eval()


def changed_model(cfg: object, base: object, changes: dict, setting: str) -> object:
    """Build the model of a setting: the constructors check its values, and it gets the base's weights.

    Returns:
        The model. Its parameters are those of ``base``, not copies.

    Raises:
        ValueError: an unknown key, a value that is refused, or one that needs other weights.
    """
    from mmseg.registry import MODELS

    for key in changes:
        check_key(base, key, setting)
    changed = copy.deepcopy(cfg)
    try:
        changed.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
        model = MODELS.build(changed.model)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error) or type(error).__name__  # assertions may say nothing
        raise ValueError(f'setting {setting!r} is refused: {reason}') from error
    old, new = ({key: tuple(value.shape) for key, value in each.named_parameters()} for each in (base, model))
    if old != new:
        key = min(key for key in {*old, *new} if old.get(key) != new.get(key))
        raise ValueError(
            f'setting {setting!r} needs other weights than the checkpoint has: {key} is '
            f'{new.get(key, "absent")} instead of {old.get(key, "absent")}'
        )
    weights = dict(base.named_parameters(remove_duplicate=False))
    weights.update(base.named_buffers(remove_duplicate=False))
    # Not strict: buffers that no checkpoint has stay the model's own, they may follow from the setting.
    model.load_state_dict(weights, strict=False, assign=True)
    return model


def check_key(model: object, key: str, setting: str) -> None:
    """Walk along a dotted key of the model's config; raise ValueError with what there is if it is not there."""
    node, walked = model, 'model'
    for part in key.split('.'):
        known = keys_of(node)
        if part not in known:
            has = f'it has: {", ".join(known)}' if known else 'it has none'
            raise ValueError(f'setting {setting!r}: {walked} has no key {part!r} to change; {has}')
        node = node[part] if isinstance(node, dict) else getattr(node, part, None)
        walked = f'{walked}.{part}'


def keys_of(node: object) -> list[str]:
    """Name what a dict has, or what the constructor of a module takes, but for where weights come from."""
    from torch import nn

    if isinstance(node, dict):
        return list(node)
    names = []
    for kind in type(node).__mro__ if isinstance(node, nn.Module) else ():
        parameters = inspect.signature(kind.__init__).parameters.values()
        names += [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break  # nothing is handed on
    return [name for name in dict.fromkeys(names) if name not in ('self', *ABOUT_WEIGHTS)]


# ------------------------------------------------------------------ data and figures
def build_dataset(cfg: object, split: str | None, clips: int | None) -> object:
    """Build the data set of the test, of another split or of fewer clips if these are given."""
    from mmseg.registry import DATASETS

    from ovavss_mm.engine.launch import iter_datasets

    for dataset in iter_datasets(cfg.test_dataloader) if split else ():
        dataset['split'] = split
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    dataset.full_init()
    if clips is not None and clips < (total := len(dataset)):
        dataset.get_subset_([i * total // clips for i in range(clips)])
    return dataset


def build_evaluator(cfg: object, dataset: object) -> object:
    """Build an evaluator that leaves no files: those of several settings would have one name."""
    from mmengine.evaluator import Evaluator

    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    for metric in evaluator.metrics:
        metric.output_dir, metric.save_confusion = None, False
    return evaluator


def test(runs: list[Run], loader: object) -> int:
    """Send all clips through all settings, the reference first; no more than a batch of clips is held.

    Returns:
        Number of pixels of all label maps of one setting.

    Raises:
        ValueError: a setting fails with the first clips.
    """
    import torch
    from mmengine.utils import ProgressBar

    pixels = 0
    with torch.no_grad():
        for index, batch in enumerate(loader):
            if index == 0:
                for run in runs:
                    warm_up(run, batch)
                bar = ProgressBar(len(loader.dataset) * len(runs), file=sys.stderr)
            reference = None
            for run in runs:
                samples = predict(run, batch)
                run.evaluator.process(data_samples=samples, data_batch=batch)
                maps = [sample.pred_sem_seg.data for sample in samples]
                reference = reference or maps
                run.equal += sum(int((a == b).sum()) for a, b in zip(maps, reference, strict=True))
                bar.update(len(samples))
            pixels += sum(labels.numel() for labels in reference)
    print(file=sys.stderr)
    return pixels


def warm_up(run: Run, batch: dict) -> None:
    """Do what is done once, such as embedding the names; values that no constructor checks fail here."""
    try:
        predict(run, batch)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f'setting {run.setting!r} fails: {error}') from error
    run.crops, run.seconds = 0, 0.0


def predict(run: Run, batch: dict) -> list:
    """Label the clips of a batch, which is not changed, and count seconds and crops."""
    from ovavss_mm.engine.benchmark.timer import Hook, patched

    def counting(_: str, encode: object) -> object:
        def counted(crops: object) -> object:
            run.crops += len(crops)
            return encode(crops)

        return counted

    batch = dict(batch, data_samples=[sample.clone() for sample in batch['data_samples']])
    with patched([Hook('crops', run.model.classifier, 'encode')], counting):
        start = now(run.model)
        samples = run.model.test_step(batch)
        run.seconds += now(run.model) - start
    return samples


def now(model: object) -> float:
    """Read the time in seconds, when the model's device has done its work."""
    import torch

    device = next(model.parameters()).device
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def figures_of(run: Run, pixels: int, clips: int) -> dict:
    """Evaluate a setting; a figure that is not defined is None.

    Raises:
        ValueError: the evaluator has no such figures, or nothing to evaluate.
    """
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)  # a table of the classes for each setting would bury ours
    try:
        metrics = run.evaluator.evaluate(clips)
    finally:
        logger.setLevel(level)
    metrics = {key.rsplit('/', 1)[-1]: float(value) for key, value in metrics.items()}
    if not set(FIGURES) <= set(metrics):
        raise ValueError(f'test_evaluator gives no {", ".join(FIGURES)}: it should be OVIoUMetric')
    return dict(
        setting=run.setting,
        changes=run.changes,
        crops=run.crops,
        equal_pixels=run.equal,
        equal_share=run.equal / pixels,
        **{key: None if math.isnan(metrics[key]) else metrics[key] for key in FIGURES},
        seconds_per_clip=run.seconds / clips,
    )


def table_of(result: dict) -> str:
    """Write the figures for people."""
    from prettytable import PrettyTable

    columns = ('crops that CLIP sees', 'equal pixels, %', *HEADINGS, 'seconds a clip')
    table = PrettyTable(['setting', *columns], align='r')
    table.align['setting'] = 'l'
    for row in result['settings']:
        # rounded down: 100.000 means all of them
        equal = f'{math.floor(1e5 * row["equal_pixels"] / result["pixels"]) / 1e3:.3f}'
        figures = ['-' if row[key] is None else f'{row[key]:.2f}' for key in FIGURES]
        seconds = f'{row["seconds_per_clip"]:.3f}'
        table.add_row([row['setting'], row['crops'], equal, *figures, seconds])
    return (
        f'{result["clips"]} clips ({result["split"]}), {result["device"]}; equal pixels have the label of '
        f'the first setting; seconds are of the model alone\n{table}'
    )


if __name__ == '__main__':
    main()
