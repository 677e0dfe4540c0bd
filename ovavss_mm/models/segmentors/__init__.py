# SPDX-License-Identifier: Apache-2.0
"""Segmentors: the whole model."""

from .av_encoder_decoder import AVEncoderDecoder

__all__ = ['AVEncoderDecoder']
