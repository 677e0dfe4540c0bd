# SPDX-License-Identifier: Apache-2.0
"""What the stages of training and testing cost: time, memory and operations, measured from outside.

Nothing of this is imported with :mod:`ovavss_mm.engine`; the tools in ``tools/analysis_tools`` use it.
"""
