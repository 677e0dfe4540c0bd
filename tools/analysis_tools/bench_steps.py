# SPDX-License-Identifier: Apache-2.0
"""Steps to measure: a model in training or testing, or the loading of clips; on the config's clips or made-up ones."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from itertools import cycle, islice, product
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import cv2
import numpy as np
import soundfile
import torch
from bench_timer import Range, model_ranges
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner, set_random_seed
from mmengine.structures import InstanceData
from mmseg.registry import DATASETS, MODELS
from torch import nn
from torch.nn import functional as F

from ovavss_mm.apis.loading import load_strictly, read_checkpoint
from ovavss_mm.datasets import voc_palette
from ovavss_mm.datasets.transforms import ResizeClip, SampleClipFrames
from ovavss_mm.engine.launch import iter_datasets
from ovavss_mm.models.skeleton import without_files

MAX_LABELLED = 254  # names in label maps, which are uint8


class Bench(NamedTuple):
    """What takes steps: its ranges, the data of a step (not measured), the step, and notes for readers."""

    ranges: list[Range]
    batch: Callable[[], Any]
    step: Callable[[Any], object]
    notes: list[str]


# ------------------------------------------------------------------ clips
def build_dataset(config: Config, args: Any, folder: str) -> tuple[Any, bool]:
    """Build the data set of a config, of made-up clips if its own are missing or sizes are asked for; says which."""
    loader = config.get('test_dataloader' if args.mode == 'test' else 'train_dataloader')
    datasets = list(iter_datasets(loader))
    if not datasets:
        raise ValueError(f'the config has no data set with a data_root for --mode {args.mode}')
    there = all(Path(dataset['data_root']).is_dir() for dataset in datasets)
    made_up = bool(not there or args.size or args.frames or args.names)
    if made_up:
        clips, frames = (10, 10) if args.mode == 'loader' else (args.batch, 5)
        names = min(args.names or 70, MAX_LABELLED)
        write_clips(Path(folder), clips, args.frames or frames, args.size or (720, 1280), names)
        for dataset in datasets:
            dataset.update(data_root=folder)
            if 'base_names' in dataset:
                dataset['base_names'] = 'all'
            dataset.pop('index_file', None)
    dataset = DATASETS.build(loader.dataset)
    if made_up and args.mode != 'loader':  # what would change the sizes that are asked for
        unwanted = (ResizeClip,) * bool(args.size) + (SampleClipFrames,) * bool(args.frames)
        kept = [step for step in dataset.pipeline.transforms if not isinstance(step, unwanted)]
        dataset.pipeline.transforms = kept
    return dataset, made_up


def load_batch(dataset: Any, args: Any) -> tuple[Callable[[], dict], dict[str, int]]:
    """Load the first clips: a function that gives copies of them, as models write into samples, and their sizes."""
    set_random_seed(0)
    batch = pseudo_collate([dataset[i % len(dataset)] for i in range(args.batch)])
    if (args.names or 0) > MAX_LABELLED:
        for sample in batch['data_samples']:
            sample.set_metainfo(dict(vocabulary=tuple(f'thing {i}' for i in range(args.names))))
    frames, _, height, width = batch['inputs']['imgs'][0].shape
    names = len(batch['data_samples'][0].get('vocabulary', ()))
    return lambda: deepcopy(batch), dict(batch=args.batch, frames=frames, height=height, width=width, names=names)


def write_clips(root: Path, clips: int, frames: int, size: tuple[int, int], names: int) -> None:
    """Write clips of both splits in the layout of AVSBench-semantic: blots, boxes as objects, noise as sound."""
    rng = np.random.default_rng(0)
    height, width = size
    labels = ('background', *(f'thing {i}' for i in range(names)))
    (root / 'label2idx.json').write_text(json.dumps({name: i for i, name in enumerate(labels)}))
    colors = np.array(voc_palette(len(labels)), np.uint8)[:, ::-1]  # BGR, as OpenCV writes
    rows = ['uid,a_obj,split,label']
    for split, i in product(('train', 'test'), range(clips)):
        folder = root / 'v2' / f'{split}{i}'
        for name in ('frames', 'labels_rgb'):
            (folder / name).mkdir(parents=True)
        blots = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
        for t in range(frames):
            frame = np.roll(cv2.resize(blots, (width, height)), 7 * t, axis=1)
            label = np.zeros(size, np.uint8)
            for index in range(1, min(4, len(labels))):
                label[height // 4 : -height // 8, index * width // 4 + t :][:, : width // 8] = index
            cv2.imwrite(str(folder / 'frames' / f'{t}.jpg'), frame)
            cv2.imwrite(str(folder / 'labels_rgb' / f'{t}.png'), colors[label])
        soundfile.write(folder / 'audio.wav', rng.uniform(-0.5, 0.5, frames * 16000), 16000)
        rows.append(f'{folder.name},{"_".join(labels[1:4])},{split},v2')
    (root / 'metadata.csv').write_text('\n'.join(rows) + '\n')


# ------------------------------------------------------------------ steps
def loader_bench(dataset: Any) -> Bench:
    """Loading of clips in this process; the ranges are the transforms of the pipeline."""
    ranges = [Range(type(t).__name__, t, 'transform') for t in dataset.pipeline.transforms]
    return Bench(ranges, cycle(range(len(dataset))).__next__, dataset.__getitem__, [])


def loading_rate(config: Config, dataset: Any, workers: int, count: int) -> float:
    """Clips a second of real time through the dataloader of the training; without workers in this process."""
    loader = deepcopy(config.train_dataloader)
    loader.update(dataset=dataset, num_workers=workers, batch_size=1, persistent_workers=False)
    batches = iter(Runner.build_dataloader(loader, seed=0))
    for _ in range(2 * max(1, workers)):  # workers start
        next(batches)
    start = perf_counter()
    count = sum(1 for _ in islice(batches, count))
    return count / (perf_counter() - start)


def model_bench(config: Config, args: Any, batch: Callable[[], dict], amp: bool, compile: str | list[str]) -> Bench:
    """A model in training, with a learning rate of 0, or in testing with the config's metric.

    ``amp`` calls it under autocast to bfloat16, ``compile`` are attribute paths of parts that are compiled.
    """
    model, notes = _build_model(config, args), []
    names = batch()['data_samples'][0].get('vocabulary', ())
    if args.mode == 'test' and args.checkpoint is None and hasattr(model, 'decode_head'):
        notes += _force(model, args.sounding, names[:2])
    for path in [compile] if isinstance(compile, str) else compile:
        try:
            model.get_submodule(path).compile()
        except AttributeError as error:
            known = ', '.join(dict(model.named_children()))
            raise ValueError(f'no part {path!r} to compile: {error}; it has: {known}') from error
    ranges = model_ranges(model)
    autocast = torch.autocast(args.device.split(':')[0], torch.bfloat16, enabled=amp)
    if args.mode == 'train':
        if args.device == 'cpu' and 'Amp' in str(config.optim_wrapper.get('type')):
            raise ValueError('optim_wrapper AmpOptimWrapper needs a GPU; on a CPU take OptimWrapper and --amp')
        with _building('the optimizer'):
            optim = build_optim_wrapper(model, deepcopy(config.optim_wrapper))
        for group in optim.optimizer.param_groups:
            group['lr'] = 0.0  # each step does the same work
        ranges += [Range('optimizer', optim, name) for name in ('step', 'zero_grad')]
        ranges.append(Range('backward', optim, 'backward'))
    elif config.get('test_evaluator') and len(names) <= MAX_LABELLED:
        evaluator = Evaluator(deepcopy(config.test_evaluator))
        evaluator.dataset_meta = dict(classes=('background', *names), base_names=names, novel_names=())
        ranges.append(Range('metric', evaluator, 'process'))
    else:
        evaluator, notes = None, [*notes, 'no metric: there is none, or too many names for it']

    def train(data: dict) -> None:
        with autocast, optim.optim_context(model):
            losses = model(**model.data_preprocessor(data, True), mode='loss')
        optim.update_params(model.parse_losses(losses)[0])

    @torch.no_grad()
    def test(data: dict) -> None:
        with autocast:
            samples = model.test_step(data)
        if evaluator:
            evaluator.process(data_samples=samples, data_batch=data)
            for metric in evaluator.metrics:
                metric.results.clear()

    return Bench(ranges, batch, train if args.mode == 'train' else test, notes)


def _build_model(config: Config, args: Any) -> nn.Module:
    """The model with the weights of the checkpoint, or drawn ones."""
    config = deepcopy(config)
    if args.queries is not None:
        config.merge_from_dict({'model.decode_head.num_queries': args.queries})
    if args.checkpoint is None:
        config.model = without_files(config.model)
        if 'score_thr' in (config.model.get('test_cfg') or {}):
            config.model.test_cfg.score_thr = -1.0  # how many pairs are painted would be chance
    set_random_seed(0)
    with _building('the model'):
        model = MODELS.build(config.model)
    if args.checkpoint is None:
        model.init_weights()
    else:
        load_strictly(model, read_checkpoint(args.checkpoint), config)
    if args.mode == 'test':
        model.requires_grad_(False)  # else the counter of operations asks for graphs
    return model.to(args.device).train(args.mode == 'train')


@contextmanager
def _building(what: str) -> Iterator[None]:
    """Turn what a constructor raises into a line for the user."""
    try:
        yield
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{what} cannot be built: {error}') from error


def _force(model: nn.Module, sounding: int, names: tuple[str, ...]) -> list[str]:
    """Let some queries sound, with a mask in every frame, and draw text embeddings; drawn weights would not."""
    head, classifier = model.decode_head, getattr(model, 'classifier', None)
    classifier = getattr(classifier, 'classifier', classifier)  # that which a scorer wraps
    predict, notes = head.predict, []

    def predict_forced(*args: Any, **kwargs: Any) -> Any:
        found = predict(*args, **kwargs)
        for clip in found:
            if isinstance(clip, InstanceData):  # a dense head gives logits
                for key in {'scores', 'sound_scores'} & set(clip.keys()):
                    clip[key] = (torch.arange(len(clip)) < sounding).to(clip[key])
                clip.masks = torch.full_like(clip.masks, -6.0)
                height, width = clip.masks.shape[-2:]
                for q, mask in enumerate(clip.masks[:sounding]):
                    left = q * 5 % width * 3 // 4  # boxes of a quarter of the frame, side by side
                    mask[:, height // 4 : height // 2 + 1, left : left + width // 4 + 1] = 6.0
        return found

    head.predict = predict_forced
    if hasattr(classifier, 'text_embeddings'):
        start = perf_counter()
        size = classifier.text_embeddings(names).shape[-1]
        took = 1e3 * (perf_counter() - start) / len(names)
        notes = [f'text embeddings, once a vocabulary: about {took:.0f} ms a name']
        device = next(model.parameters()).device
        drawn = cache(lambda count: F.normalize(torch.randn(count, size, device=device), dim=-1))
        classifier.text_embeddings = lambda names, *_, **__: drawn(len(names))
    return [*notes, f'without a checkpoint, {sounding} queries have a mask in every frame']
