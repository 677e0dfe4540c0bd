# SPDX-License-Identifier: Apache-2.0
"""Test one trained model under several settings and say how far its label maps agree.

A SETTING is KEY=VALUE, or several with commas between them: keys of the model's config that need no other weights,
values as in Python, and amp=True for bfloat16; `default` is the config as it is. The first setting is the reference of
the others. Each clip is loaded once and goes through all settings, which share their weights.
"""

import argparse
import ast
import copy
import math
import re
import sys
import time
from typing import Any

from benchmark import report, table_of
from mmengine.config import Config, DictAction

EXAMPLES = """examples:
  is bfloat16 as good as float32? what do other thresholds change? on 100 clips of the validation split
    python tools/analysis_tools/compare_settings.py CONFIG CHECKPOINT default amp=True classifier.sound_thr=None \\
        test_cfg.score_thr=0.2,test_cfg.max_pairs=20 --split val --clips 100
"""
DEFAULT = 'default'
FIGURES = ('base_mIoU', 'novel_mIoU', 'harmonic_mIoU', 'mIoU')


class Run:
    """A setting of a model, and so far: pixels that have the reference's label, and seconds of the model alone."""

    def __init__(self, setting: str, cfg: Config, base: Any, dataset: Any) -> None:
        from mmengine.evaluator import Evaluator

        changes = parse_setting(setting)
        self.setting, self.amp = setting, bool(changes.pop('amp', False))
        self.device = next(base.parameters()).device
        self.model = changed_model(cfg, base, changes, setting).to(self.device).eval()
        self.evaluator = Evaluator(copy.deepcopy(cfg.test_evaluator))
        self.evaluator.dataset_meta = dataset.metainfo
        for metric in self.evaluator.metrics:  # files of several settings would have one name
            metric.output_dir, metric.save_confusion = None, False
        self.equal, self.seconds = 0, 0.0

    def predict(self, batch: dict) -> list:
        """Label the clips of a batch, which is not changed."""
        import torch

        batch = dict(batch, data_samples=[sample.clone() for sample in batch['data_samples']])
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)
        start = time.perf_counter()
        with torch.no_grad(), autocast:
            samples = self.model.test_step(batch)
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - start
        return samples

    def figures(self, clips: int, pixels: int) -> dict:
        """Evaluate; a figure that is not defined is None."""
        found = {k.rsplit('/', 1)[-1]: float(v) for k, v in self.evaluator.evaluate(clips).items()}
        if not set(FIGURES) <= set(found):
            raise ValueError(f'test_evaluator gives no {", ".join(FIGURES)}')
        figures = {key: None if math.isnan(found[key]) else found[key] for key in FIGURES}
        figures |= dict(equal_share=self.equal / pixels, seconds_per_clip=self.seconds / clips)
        return dict(setting=self.setting, **figures)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=text)
    add = parser.add_argument
    add('config', help="config file, or the name of one of the package's")
    add('checkpoint', help='checkpoint file')
    add('settings', nargs='+', metavar='SETTING', help=f'KEY=VALUE[,KEY=VALUE...], or {DEFAULT}')
    add('--split', choices=['train', 'val', 'test'], help="of the data (default: the config's)")
    add('--clips', type=int, metavar='N', help='only N, spread evenly over them (default: all)')
    add('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    add('--out', metavar='FILE.json', help='write the figures there, too')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='for all settings')
    args = parser.parse_args(argv)
    if args.clips is not None and args.clips < 1:
        parser.error(f'--clips must be at least 1, got {args.clips}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Test all settings and print the table."""
    args = parse_args(argv)
    report(lambda: compare(args), args.out)


def compare(args: argparse.Namespace) -> dict:
    """Build everything, test, print the table, and put the figures together, fit for JSON."""
    from mmengine.runner import Runner
    from mmseg.registry import DATASETS, MODELS

    from ovavss_mm.apis.loading import choose_device, find_config, load_strictly, read_checkpoint
    from ovavss_mm.engine.launch import check_files, iter_datasets
    from ovavss_mm.models.skeleton import read_config

    cfg = read_config(find_config(args.config), args.cfg_options)
    check_files(cfg, ('test_dataloader',))
    device, checkpoint = choose_device(args.device), read_checkpoint(args.checkpoint)
    base = MODELS.build(cfg.model).to(device)
    load_strictly(base, checkpoint, cfg)
    for data in iter_datasets(cfg.test_dataloader) if args.split else ():
        data['split'] = args.split
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    if args.clips is not None and args.clips < (total := len(dataset)):
        dataset.get_subset_([i * total // args.clips for i in range(args.clips)])
    runs = [Run(setting, cfg, base, dataset) for setting in args.settings]
    cfg.test_dataloader.dataset = dataset
    pixels = test(runs, Runner.build_dataloader(cfg.test_dataloader))
    rows = [run.figures(len(dataset), pixels) for run in runs]
    result = dict(command=vars(args), clips=len(dataset), pixels=pixels, settings=rows)
    print(text_of(result))
    return result


def parse_setting(text: str) -> dict:
    """Read 'default' or KEY=VALUE,KEY=VALUE: Python literals, or the text where it is none."""
    changes = {}
    # lists have commas, too
    for part in re.split(r',(?=\s*[A-Za-z_][\w.]*\s*=)', text) if text != DEFAULT else ():
        key, _, value = (word.strip() for word in part.partition('='))
        if not re.fullmatch(r'\w+(\.\w+)*', key) or not value or key in changes:
            raise ValueError(f'a setting is KEY=VALUE[,KEY=VALUE...] or {DEFAULT}, got {text!r}')
        try:
            changes[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            changes[key] = value
    return changes


def changed_model(cfg: Config, base: Any, changes: dict, setting: str) -> Any:
    """Build the model of a setting on the parameters of ``base``; ValueError if it is refused or needs others."""
    from mmseg.registry import MODELS

    changed = copy.deepcopy(cfg)
    try:
        changed.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
        model = MODELS.build(changed.model)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'setting {setting!r} is refused: {error}') from error
    old, new = ({k: tuple(v.shape) for k, v in m.named_parameters()} for m in (base, model))
    if differ := sorted(key for key in {*old, *new} if old.get(key) != new.get(key)):
        shapes = f'{differ[0]} is {new.get(differ[0], "absent")}, not {old.get(differ[0], "absent")}'
        raise ValueError(f'setting {setting!r} needs other weights: {shapes}')
    weights = dict(base.named_parameters(remove_duplicate=False)) | dict(base.named_buffers(remove_duplicate=False))
    # not strict: buffers that no checkpoint has may follow from the setting
    model.load_state_dict(weights, strict=False, assign=True)
    return model


def test(runs: list[Run], loader: Any) -> int:
    """Send all clips through all settings, the reference first; gives the number of pixels of a setting."""
    from mmengine.utils import track_iter_progress

    pixels = 0
    for index, batch in enumerate(track_iter_progress((loader, len(loader)), file=sys.stderr)):
        reference = None
        for run in runs:
            if index == 0:  # what is done once, such as embedding the names
                run.predict(batch)
                run.seconds = 0.0
            samples = run.predict(batch)
            run.evaluator.process(data_samples=samples, data_batch=batch)
            maps = [sample.pred_sem_seg.data for sample in samples]
            reference = reference or maps
            run.equal += sum(int((a == b).sum()) for a, b in zip(maps, reference, strict=True))
        pixels += sum(labels.numel() for labels in reference)
    return pixels


def text_of(result: dict) -> str:
    """Write the figures for people."""
    rows = []
    for row in result['settings']:
        equal = f'{math.floor(1e5 * row["equal_share"]) / 1e3:.3f}'  # 100.000 means all of them
        figures = ['-' if row[key] is None else f'{row[key]:.2f}' for key in FIGURES]
        rows.append([row['setting'], equal, *figures, f'{row["seconds_per_clip"]:.3f}'])
    header = ['setting', 'equal pixels, %', 'Base', 'Novel', 'Harmonic', 'mIoU', 'seconds a clip']
    return f'{result["clips"]} clips; equal pixels have the label of the first setting\n{table_of(header, rows)}'


if __name__ == '__main__':
    main()
