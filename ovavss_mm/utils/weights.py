# SPDX-License-Identifier: Apache-2.0
"""Where weights lie."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
PACKAGE_SCHEME = 'ovavss_mm://'


def package_file(path: str) -> str:
    """Resolve ``ovavss_mm://PATH``, the way in which configs name a file that ships in the package.

    Args:
        path (str): any path.

    Returns:
        str: PATH below the package's folder, wherever it is installed; other paths as they are.
    """
    if path.startswith(PACKAGE_SCHEME):
        return str(PACKAGE / path.removeprefix(PACKAGE_SCHEME))
    return path
