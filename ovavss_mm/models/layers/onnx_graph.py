# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs, run by onnxruntime."""

from os import PathLike

import numpy as np
import torch
from torch import Tensor


class OnnxGraph:
    """A graph of ``tools/export.py``; nothing in such a file is run but the operators of onnxruntime.

    On a CPU it takes as many threads as PyTorch does; with the GPU build of onnxruntime it runs on the GPU.

    Args:
        path (str | PathLike): the file, beside which large weights lie in a file of their own.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """

    def __init__(self, path: str | PathLike) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("exported models need onnxruntime: pip install 'ovavss_mm[onnx]'") from error
        with open(path, 'rb'):  # the error of a missing file names it
            pass
        self.path = str(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # errors are raised
        # threads that spin between runs take the cores from PyTorch, which works there
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        # of all that may be there TensorRT comes first, and would compile the graph anew for each size
        known = onnxruntime.get_available_providers()
        providers = [name for name in ('CUDAExecutionProvider', 'CPUExecutionProvider') if name in known]
        try:
            self.session = onnxruntime.InferenceSession(self.path, options, providers=providers)
        except Exception as error:  # onnxruntime's have no common class
            raise ValueError(f'{path} is no graph that onnxruntime can read: {error}') from error
        self.inputs = {node.name: tuple(node.shape) for node in self.session.get_inputs()}

    def __call__(self, outputs: list[str] | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        """Run the graph.

        Args:
            outputs (list[str], optional): names of the outputs that are wanted. None: all. Defaults to None.
            **inputs (Tensor): by the names of the graph's inputs, on any device.

        Returns:
            dict[str, Tensor]: outputs by name, on the CPU.

        Raises:
            ValueError: shapes or types that the graph does not take.
        """
        shapes = {name: tuple(value.shape) for name, value in inputs.items()}
        fits = shapes.keys() == self.inputs.keys() and all(
            len(shape) == len(wanted) and all(isinstance(w, str) or n == w for n, w in zip(shape, wanted, strict=True))
            for shape, wanted in ((shape, self.inputs[name]) for name, shape in shapes.items())
        )
        if not fits:
            raise ValueError(f'{self.path} takes {self.inputs}, got {shapes}')
        names = outputs or [node.name for node in self.session.get_outputs()]
        arrays = {name: np.ascontiguousarray(value.cpu().numpy()) for name, value in inputs.items()}
        try:
            values = self.session.run(names, arrays)
        except Exception as error:
            raise ValueError(f'{self.path} does not take {shapes}: {error}') from error
        return dict(zip(names, map(torch.from_numpy, values), strict=True))
