# SPDX-License-Identifier: Apache-2.0
"""Writes graphs: as ONNX in a model folder, or as programs of PyTorch."""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.model_card import ModelCard
from ovavss_mm.apis.model_folder import SCHEME
from ovavss_mm.apis.model_writing import check_target, known_names, portable_config, write_model_folder
from ovavss_mm.utils.files import atomic_path

from .programs import Graph

# Keys of the classifier that the graph of naming has taken in.
FIXED = ('type', 'clip_model', 'init_cfg', 'preprocess')
PRODUCTS = ['MatMul', 'Gemm']  # in 8 bits; onnxruntime's convolutions are half as fast in them
LARGE = 1 << 30  # bytes; an ONNX file holds less than 2 GiB, so larger weights lie beside it


def write_torch(graphs: Mapping[str, Graph], folder: str | Path) -> Path:
    """Write the programs as ``FOLDER/NAME.pt2``, for ``torch.export.load(PATH).module(check_guards=False)``.

    Guards are those of the example that was exported; what the graphs take is told in docs/deploy.md.

    Raises:
        FileExistsError: the folder is there and not empty.
    """
    folder = check_target(folder)
    with atomic_path(folder) as beside:
        beside.mkdir()
        for name, graph in graphs.items():
            torch.export.save(graph.program, beside / f'{name}.pt2')
    return folder


def write_onnx(
    inferencer: AVSegInferencer, graphs: Mapping[str, Graph], folder: str | Path, card: ModelCard, int8: bool = False
) -> Path:
    """Write the graphs as a model folder, which ``from_pretrained`` and ``--model`` take.

    Args:
        inferencer (AVSegInferencer): of the model that was exported.
        graphs (Mapping[str, Graph]): of it.
        folder (str | Path): where; it must not be there, or be empty.
        card (ModelCard): for its card.
        int8 (bool): whether weights of matrix products are stored in 8 bits, with a scale a tensor, and products are
            made of them. Defaults to False.

    Raises:
        FileExistsError: the folder is there and not empty.
        ValueError: a model that a folder cannot keep.
    """
    target = check_target(folder)
    cfg, files, sources = portable_config(inferencer)
    classifier = inferencer.model.classifier
    cfg['model'] = dict(
        type='ExportedSegmentor',
        graph=f'{SCHEME}localize.onnx',
        data_preprocessor=cfg['model']['data_preprocessor'],
        test_cfg=cfg['model']['test_cfg'],
        classifier=dict(
            {key: value for key, value in cfg['model']['classifier'].items() if key not in FIXED},
            type='ExportedCropClassifier',
            graph=f'{SCHEME}name.onnx',
            clip_model=dict(
                text_graph=f'{SCHEME}text.onnx',
                image_size=classifier.image_size,
                context_length=classifier.clip_model.context_length,
                text_channels=classifier.text_channels,
                logit_scale=float(classifier.clip_model.logit_scale),
            ),
        ),
    )
    kept = {name: path for name, path in files.items() if _is_named(cfg, f'{SCHEME}{name}')}
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as beside:  # on the same disk, so that files can be moved
        for name, graph in graphs.items():
            _save(graph, Path(beside, f'{name}.onnx'), int8)
        moved = {path.name: path.rename for path in Path(beside).iterdir()}
        return write_model_folder(target, cfg, None, known_names(inferencer), card, kept | moved, sources=sources)


def _is_named(tree: Any, text: str) -> bool:
    """Whether a text stands somewhere in tables and lists."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    return any(_is_named(value, text) for value in tree) if isinstance(tree, list) else tree == text


def _save(graph: Graph, path: Path, int8: bool) -> None:
    """Write a program as ONNX, with names of its axes."""
    with _quiet():
        program = torch.onnx.export(graph.program, dynamo=True, verbose=False, external_data=True)
    for values, axes in ((program.model.graph.inputs, graph.inputs), (program.model.graph.outputs, graph.outputs)):
        for value, (name, row) in zip(values, axes.items(), strict=True):
            value.name = name
            value.shape = type(value.shape)(row)
    program.model.metadata_props.clear()
    for node in program.model.graph:
        node.metadata_props.clear()  # names of source files
    size = sum(value.numel() * value.element_size() for value in graph.program.state_dict.values())
    if int8:
        with TemporaryDirectory(dir=path.parent) as beside:
            program.save(Path(beside, path.name), external_data=size > LARGE)
            quantize(Path(beside, path.name), path, size // 4 > LARGE)
    else:
        program.save(path, external_data=size > LARGE)
    onnx.checker.check_model(path)


def quantize(source: Path, target: Path, external_data: bool = False) -> None:
    """Store the weights of a graph's matrix products in 8 bits, with a scale a tensor.

    Args:
        source (Path): the graph.
        target (Path): the one to write.
        external_data (bool): whether weights lie beside it, in a file of their own. Defaults to False.
    """
    with _quiet():
        quantize_dynamic(source, target, PRODUCTS, weight_type=QuantType.QInt8, use_external_data_format=external_data)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the libraries tell of their passes, and warnings: the result is checked afterwards."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(logging.NOTSET)
