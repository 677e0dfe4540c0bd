# SPDX-License-Identifier: Apache-2.0
"""Runner, hooks and optimizer wrapper of training and testing; import them from their modules."""

from . import hooks, optim_wrapper, runner  # noqa: F401  (registers them)
