# SPDX-License-Identifier: Apache-2.0
"""Writes a long JSON file as its content comes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class JsonStream:
    """Writes a JSON object with one long list as it comes: a header, an entry of the list a line, and a footer.

    Args:
        path (Path): of the file.
        header (Mapping[str, Any]): keys before the list.
        key (str): of the list.
        plain (bool): whether to write letters beyond ASCII as escapes: some readers open files in the encoding of the
            computer. Defaults to False.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], key: str, plain: bool = False) -> None:
        self.count, self._plain = 0, plain
        self._file = path.open('w', encoding='utf-8', errors='backslashreplace')
        self._file.write('{\n' + ''.join(f'{self._pair(*item)},\n' for item in header.items()) + f'"{key}": [')

    def _dumps(self, value: Any) -> str:
        """A value in one line."""
        return json.dumps(value, ensure_ascii=self._plain)

    def _pair(self, key: str, value: Any) -> str:
        """A key and its value in one line."""
        return f'{json.dumps(key)}: {self._dumps(value)}'

    def write(self, entry: Any) -> None:
        """Write an entry of the list."""
        self.write_text(self._dumps(entry))

    def write_text(self, text: str) -> None:
        """Write an entry that is JSON already."""
        self._file.write((',\n' if self.count else '\n') + text)
        self.count += 1

    def finish(self, footer: Mapping[str, Any]) -> None:
        """Write what is known after the last entry."""
        self._file.write('\n]' + ''.join(f',\n{self._pair(*item)}' for item in footer.items()) + '\n}\n')

    def close(self) -> None:
        """Close the file."""
        self._file.close()
