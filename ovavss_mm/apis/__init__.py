# SPDX-License-Identifier: Apache-2.0
"""Use of a trained model on videos."""

from .inferencer import AVSegInferencer

__all__ = ['AVSegInferencer']
