# SPDX-License-Identifier: Apache-2.0
"""The published OV-AVSS checkpoints: names of their weights, and what fits them to our model."""
