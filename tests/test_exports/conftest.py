# SPDX-License-Identifier: Apache-2.0
"""A tiny drawn model on disk, and an inferencer for it."""

from tiny_inferencer import inferencer, tiny  # noqa: F401  (fixtures)
