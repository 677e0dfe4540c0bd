# SPDX-License-Identifier: Apache-2.0
"""Looks names up in results that were written before."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...utils.text import shorten


def find_videos(
    folders: Sequence[str], names: Sequence[str], min_seconds: float
) -> list[tuple[str, str, dict[str, Any]]]:
    """Find the labelled videos in which names sound.

    Args:
        folders (Sequence[str]): folders of results, with ``pred/*.json`` in them.
        names (Sequence[str]): any of which sounds.
        min_seconds (float): for so long in all.

    Returns:
        list[tuple[str, str, dict]]: video, name, and what its prediction says of it, the longest first.

    Raises:
        FileNotFoundError: a folder without results.
        ValueError: a file is no result, or no video was asked for a name.
    """
    found, asked = [], set()
    for folder in folders:
        paths = sorted(Path(folder, 'pred').glob('[!.]*.json'))
        if not paths:
            raise FileNotFoundError(f'{folder} has no results: there is no JSON file in {Path(folder, "pred")}')
        for path in paths:
            try:
                prediction = json.loads(path.read_text(encoding='utf-8'))
                asked.update(prediction['vocabulary'])
                heard = {name: prediction['names'][name] for name in names if name in prediction['names']}
                found += [(prediction['video'], name, what) for name, what in heard.items()]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f'{path} is no result of labelling ({type(error).__name__}: {error})') from error
    if unknown := [name for name in names if name not in asked]:
        raise ValueError(f'no video was asked for {shorten(map(repr, unknown))}, but for {shorten(sorted(asked))}')
    found = [entry for entry in found if entry[2]['seconds'] >= min_seconds]
    return sorted(found, key=lambda entry: (-entry[2]['seconds'], entry[:2]))
