# SPDX-License-Identifier: Apache-2.0
"""What ``tools/export.py`` is made of; needs the extra ``onnx``."""
