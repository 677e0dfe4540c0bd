# SPDX-License-Identifier: Apache-2.0
"""Refiners: from masks of queries to finer ones."""

from .sam_mask_refiner import SAMMaskRefiner

__all__ = ['SAMMaskRefiner']
