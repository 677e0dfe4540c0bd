# SPDX-License-Identifier: Apache-2.0
"""A page in the browser for :class:`~ovavss_mm.apis.AVSegInferencer`; needs Gradio (the extra ``web``)."""
