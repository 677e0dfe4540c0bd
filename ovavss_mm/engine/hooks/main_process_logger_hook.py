# SPDX-License-Identifier: Apache-2.0
"""Writes the figures of a test once, however many processes there are."""

from mmengine.dist import master_only
from mmengine.hooks import LoggerHook
from mmseg.registry import HOOKS


@HOOKS.register_module()
class MainProcessLoggerHook(LoggerHook):
    """mmengine's hook, but only the main process writes the JSON file of a test.

    mmengine has all processes write that one file at once, and what they write differs in length (their times do).
    """

    after_test_epoch = master_only(LoggerHook.after_test_epoch)
