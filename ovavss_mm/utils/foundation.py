# SPDX-License-Identifier: Apache-2.0
"""The library ``transformers``, imported only where one of its parts is built."""

from types import ModuleType

INSTALL = "pip install 'ovavss_mm[foundation]'"


def import_transformers() -> ModuleType:
    """Import and return the library.

    Raises:
        ImportError: it is not installed; the message has the command.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f'CLAP, Grounding DINO and SAM need the library transformers: {INSTALL}') from error
    return transformers
