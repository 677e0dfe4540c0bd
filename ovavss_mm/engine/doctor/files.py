# SPDX-License-Identifier: Apache-2.0
"""Checks of weights and data sets."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .findings import ERROR, NOTE, OK, PACKAGE, WARNING, Finding, load_file

MIB = 2**20
MINI = 'data/mini'
MAKE_MINI = f'mim run ovavss_mm mini_world --out {MINI}'


def check_weights(folder: Path) -> Iterator[Finding]:
    """Look for the weights that the configs read.

    Args:
        folder: where they should be.

    Yields:
        A finding each; none of the listed files is needed by the mini model.
    """
    yield judge_mini_clip()
    listed = load_file('utils/known_weights.py')
    for weights in listed.known_weights().values():
        path = folder / weights.file
        get = listed.how_to_get(str(path)).partition('\n')[2].strip()
        about = f'{weights.title}, {weights.size_mib} MiB'
        if not path.is_file():
            yield Finding('Weights', weights.file, NOTE, f'not there: {about}', get)
            continue
        size = path.stat().st_size / MIB
        # The listed sizes are rounded to MiB; a download that broke off lacks more.
        if size < 0.98 * weights.size_mib - 1:
            text = f'{size:.1f} MiB of about {weights.size_mib}: a download that broke off?'
            yield Finding('Weights', weights.file, WARNING, text, f'Remove it, then {get}')
        else:
            yield Finding('Weights', weights.file, OK, f'{weights.title}, {size:.0f} MiB')


def judge_mini_clip() -> Finding:
    """Look for the CLIP of the mini world, which ships with the package.

    Returns:
        The finding.
    """
    path = PACKAGE / 'mini_world/clip_mini.safetensors'
    if path.is_file() and path.stat().st_size > MIB / 10:
        return Finding('Weights', path.name, OK, f'CLIP of the mini world, {path}')
    advice = f'In a checkout: git checkout -- {path}; else install ovavss_mm again'
    text = f'the CLIP of the mini world is missing or damaged at {path}'
    return Finding('Weights', path.name, ERROR, text, advice)


def check_data(root: Path) -> Iterator[Finding]:
    """Look for the data sets.

    Args:
        root: folder in which ``data/`` is.

    Yields:
        A finding each. That the mini world is missing is no error: a command makes it.
    """
    mini = judge_archive(root / MINI, 'base_names.txt')
    advice = f'Make it (half a minute): {MAKE_MINI}'
    if not (root / MINI).exists():
        yield Finding('Data', MINI, WARNING, 'not there', advice)
    elif mini[0]:
        remake = f'Remove it and make it again: rm -r {MINI}; {MAKE_MINI}'
        yield Finding('Data', MINI, WARNING, mini[0], remake)
    else:
        yield Finding('Data', MINI, OK, mini[1])
    name = 'data/AVSBench-semantic'
    real = judge_archive(root / name)
    if not (root / name).exists():
        advice = 'Request it from its authors and unpack it there: data/README.md'
        yield Finding('Data', name, NOTE, 'not there: the real configs read it', advice)
    elif real[0]:
        advice = f'See which files are missing: mim run ovavss_mm avsbench_ov {name}'
        yield Finding('Data', name, WARNING, real[0], advice)
    else:
        yield Finding('Data', name, OK, real[1])


def judge_archive(root: Path, *more: str) -> tuple[str, str]:
    """Look at an archive in the layout of AVSBench-semantic, without opening its clips.

    Args:
        root: of the archive.
        more: files that it has besides.

    Returns:
        What is wrong with it, empty if nothing is; and what is in it.
    """
    lacking = [n for n in ('metadata.csv', 'label2idx.json', *more) if not (root / n).is_file()]
    if lacking:
        return f'has no {" and no ".join(lacking)}', ''
    try:
        names = len(json.loads((root / 'label2idx.json').read_text(encoding='utf-8'))) - 1
        with open(root / 'metadata.csv', encoding='utf-8', newline='') as file:
            clips = [(row['label'], row['uid'], row['split']) for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f'metadata.csv or label2idx.json is damaged: {type(error).__name__}: {error}', ''
    folders = {subset for subset, _, _ in clips}
    there = {s: {p.name for p in (root / s).glob('*')} for s in folders}
    gone = [f'{subset}/{uid}' for subset, uid, _ in clips if uid not in there[subset]]
    # AVSBench-OV leaves v1m out, so that nobody needs to have it.
    gone = [clip for clip in gone if not clip.startswith('v1m/')]
    if gone:
        return f'{len(gone)} of {len(clips)} clips have no folder, such as {gone[0]}', ''
    splits = Counter(split for _, _, split in clips)
    counts = ', '.join(f'{splits[s]} {s}' for s in ('train', 'val', 'test') if s in splits)
    return '', f'{len(clips)} clips ({counts}), {names} names'
