# SPDX-License-Identifier: Apache-2.0
"""Tables of ablations: train and test their rows, each through ``mim``, and write down what comes out.

Nothing of this is imported with :mod:`ovavss_mm.engine`; ``tools/ablate.py`` uses it.
"""
