# SPDX-License-Identifier: Apache-2.0
"""The browser page of ``tools/web_demo.py``; needs Gradio (the extra ``web``)."""
