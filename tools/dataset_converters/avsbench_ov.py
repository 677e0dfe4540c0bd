# SPDX-License-Identifier: Apache-2.0
"""Derive AVSBench-OV from AVSBench-semantic, check every file of it, and write an index a split.

The rule needs metadata.csv alone: clips of v1m are left out, and a training clip stays only if each
of its names is a base name. With the base names of AVSBench-OV (no --base-names) the clips must be
the paper's, 5,184 with 40,095 frames to train, 1,240 to validate and 1,490 to test; other numbers
are an error. With --base-names another rule is followed, and nothing is known of its numbers.

Then all frames, label maps and sounds of these clips are read (--metadata-only: they are not). What
is found is printed by kind and written in full to report.txt; the exit status is 1 if there is
anything that training could not survive. Results are kept as they come: a run that was stopped goes
on where it was, and a later run reads changed clips only. ROOT is never written to.
"""

import argparse
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

EXAMPLES = """examples:
  which clips are in the splits; ROOT needs nothing but metadata.csv
    python tools/dataset_converters/avsbench_ov.py data/AVSBench-semantic --metadata-only

  check the whole archive; the first thing to do after unpacking it
    python tools/dataset_converters/avsbench_ov.py data/AVSBench-semantic --workers 8

  leave broken clips out of the indices, and train on what is left
    python tools/dataset_converters/avsbench_ov.py data/AVSBench-semantic --fix-index
    mim train ovavss_mm CONFIG --cfg-options \\
        train_dataloader.dataset.index_file=data/avsbench_ov/train.txt

  another division into base and novel names, and data of your own of which all names are base
    python tools/dataset_converters/avsbench_ov.py ROOT --base-names my_base.txt --out data/my_ov
    python tools/dataset_converters/avsbench_ov.py ROOT --base-names all --out data/my_index
"""
# Clips of AVSBench-OV, by split and subset.
OFFICIAL = {
    'train': {'v1s': 2349, 'v2': 2835},
    'val': {'v1s': 740, 'v2': 500},
    'test': {'v1s': 740, 'v2': 750},
}
SHOWN = 3  # offenders of a kind that are printed


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', metavar='ROOT', help='folder with metadata.csv, v1s, v2')
    parser.add_argument(
        '--out',
        default='data/avsbench_ov',
        metavar='DIR',
        help='folder of the indices and the report (default: %(default)s)',
    )
    parser.add_argument('--metadata-only', action='store_true', help='do not look at the clips')
    parser.add_argument(
        '--base-names',
        metavar='FILE',
        help="file with a base name a line, or 'all' (default: the 40 of AVSBench-OV)",
    )
    parser.add_argument(
        '--fix-index', action='store_true', help='leave bad clips out of the indices'
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=min(8, os.cpu_count() or 1),
        help='processes that read clips (default: %(default)s)',
    )
    args = parser.parse_args(argv)
    if args.fix_index and args.metadata_only:
        parser.error('--fix-index needs the check of the clips: leave --metadata-only away')
    if args.workers < 0:
        parser.error(f'--workers must be 0 or more, got {args.workers}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Do what the command line asks for; the process ends with 1 if something is wrong."""
    args = parse_args(argv)
    # Imported late, as torch takes seconds; without what other libraries print on being imported.
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.datasets')
    try:
        sys.exit(run(args))
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('\nstopped; what has been checked is kept, the same command goes on from there')


def run(args: argparse.Namespace) -> int:
    """Derive, check, report and write; returns the exit status."""
    from ovavss_mm.datasets.metadata import write_index

    vocabulary = read_vocabulary(args)
    splits = derive(args.root, vocabulary.base)
    if args.base_names is None:
        check_official(splits, vocabulary.names)
    status = 0
    if not args.metadata_only:
        splits, status = check(args, splits, vocabulary)
    for split, clips in splits.items():
        frames = f' {sum(clip.num_frames for clip in clips)} frames' if split == 'train' else ''
        print(f'{split} {len(clips)} clips{frames}')
    if args.base_names is None and not status and not args.fix_index:
        print('These are the clips of AVSBench-OV.')
    if args.metadata_only:
        print('Frames were not counted: 5 a clip in v1s, 10 in v2.')
    print(table(splits, vocabulary))
    if status:
        print('No index was written. Repair the clips, or leave them out: --fix-index.')
        return status
    for split, clips in splits.items():
        write_index(os.path.join(args.out, f'{split}.txt'), split, clips)
    print(f'Indices: {args.out}/{{{",".join(splits)}}}.txt')
    return status


# ------------------------------------------------------------------ the rule
def read_vocabulary(args: argparse.Namespace) -> object:
    """The names of the archive and which are base names.

    Returns:
        Vocabulary: of label2idx.json, or of AVSBench-semantic if there is none and only the
        metadata are looked at.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is malformed, or names do not fit.
    """
    from ovavss_mm.datasets.avsbench_ov import check_names_fit
    from ovavss_mm.datasets.vocabulary import (
        PACKAGED_BASE_NAMES,
        PACKAGED_NAMES,
        Vocabulary,
        read_names,
    )

    if not os.path.isdir(args.root):
        raise FileNotFoundError(f'ROOT must be the folder of the archive, got {args.root}')
    base = args.base_names or str(PACKAGED_BASE_NAMES['avsbench_ov'])
    label_file = os.path.join(args.root, 'label2idx.json')
    known = read_names(str(PACKAGED_NAMES))
    if args.metadata_only and not os.path.exists(label_file):
        print('No label2idx.json: the 70 names of AVSBench-semantic are taken.')
        base_names = known if base == 'all' else read_names(base)
        return Vocabulary(known, base_names)
    names = Vocabulary.from_files(label_file, 'all').names
    if args.base_names is None and names != known:
        different = sorted(set(known) ^ set(names)) or ['their order']
        raise ValueError(
            f'{label_file} does not have the 70 names of AVSBench-semantic in alphabetical order '
            f'(different: {", ".join(different)}). For data of your own: --base-names'
        )
    vocabulary = Vocabulary.from_files(label_file, base)
    check_names_fit(vocabulary, label_file)
    return vocabulary


def derive(root: str, base: Iterable[str]) -> dict[str, list]:
    """The clips (IndexedClip) of each split by the rule; none in a split is fine."""
    from ovavss_mm.datasets.metadata import SPLITS, IndexedClip, read_metadata, select_clips

    rows = read_metadata(os.path.join(root, 'metadata.csv'))
    return {
        split: [IndexedClip.from_row(row) for row in select_clips(rows, split, base=base)]
        for split in SPLITS
    }


def check_official(splits: Mapping[str, list], names: Iterable[str]) -> None:
    """Raise ValueError with the difference if the clips are not those of AVSBench-OV."""
    problems = []
    for split, expected in OFFICIAL.items():
        found = Counter(clip.subset for clip in splits[split])
        if found != expected:
            number, wanted = found.total(), sum(expected.values())
            subsets = ', '.join(f'{s} {found[s]} instead of {n}' for s, n in expected.items())
            problems.append(f'  {split}: {number} clips instead of {wanted} ({subsets})')
    if problems:
        known = set(names)
        strange = Counter(n for clips in splits.values() for c in clips for n in c.names)
        strange = ', '.join(f'{n!r} ({k})' for n, k in strange.items() if n not in known) or 'none'
        problems.append(f'  names in these clips that are not among the 70: {strange}')
        raise ValueError(
            'metadata.csv does not give AVSBench-OV; is it whole, and that of AVSBench-semantic? '
            'For another rule or data of your own: --base-names\n' + '\n'.join(problems)
        )


def table(splits: Mapping[str, list], vocabulary: object) -> str:
    """Clips of each name and split; a clip counts for each of its names."""
    from prettytable import PrettyTable

    counts = {
        split: Counter(name for clip in clips for name in clip.names)
        for split, clips in splits.items()
    }
    found = {name for count in counts.values() for name in count}
    groups = {
        'base': vocabulary.base,
        'novel': vocabulary.novel,
        'not a name': sorted(found - set(vocabulary.names)),
    }
    out = PrettyTable(['name', 'part', *splits], align='r')
    out.align['name'] = out.align['part'] = 'l'
    for part, names in groups.items():
        for name in names:
            out.add_row([name, part, *(count[name] for count in counts.values())])
    return out.get_string()


# ------------------------------------------------------------------ the files
def check(args: argparse.Namespace, splits: dict, vocabulary: object) -> tuple[dict, int]:
    """Check the files of all clips, and print and write the report.

    Returns:
        The clips that go into the indices, with the numbers of frames that they have, and the exit
        status.
    """
    from dataclasses import replace

    from rich.console import Console
    from rich.progress import track

    from ovavss_mm.datasets.archive_check import ArchiveCheck, check_clips, read_cache
    from ovavss_mm.utils.files import atomic_path

    clips = [(split, clip) for split, chosen in splits.items() for clip in chosen]
    cache = Path(args.out, 'check.jsonl')
    official = args.base_names is None
    task = ArchiveCheck(args.root, clips, vocabulary.names, read_cache(cache), official)
    done = check_clips(task, cache, args.workers)
    bar = dict(total=len(clips), console=Console(stderr=True))
    reports = list(track(done, f'{len(clips)} clips', **bar))
    kept = {split: [] for split in splits}
    for (split, clip), found in zip(clips, reports, strict=True):
        if found.usable or not args.fix_index:
            kept[split].append(replace(clip, num_frames=found.facts.get('frames', clip.num_frames)))
    bad = sum(not found.usable for found in reports)
    verdict = f'{len(reports) - bad} of {len(reports)} clips can be used'
    if bad and args.fix_index:
        verdict += f'; {bad} bad clips are left out of the indices (--fix-index)'
    print('\n'.join([*report_lines(reports, SHOWN), verdict]))
    with atomic_path(Path(args.out, 'report.txt')) as beside:
        text = '\n'.join([*report_lines(reports, None), verdict])
        beside.write_text(text + '\n', encoding='utf-8')
    print(f'All findings: {args.out}/report.txt')
    return kept, int(bad > 0 and not args.fix_index)


def report_lines(reports: list, shown: int | None) -> list[str]:
    """What was found, by kind; ``shown`` offenders of each, None: all."""
    from ovavss_mm.datasets.archive_check import ERRORS, WARNINGS

    size = sum(found.facts['bytes'] for found in reports)
    lines = [f'{len(reports)} clips, {size / 1e9:.2f} GB']
    lines += [f'  {line}' for line in facts(reports)]
    offenders = defaultdict(list)
    for found in reports:
        for kind, text in found.findings:
            offenders[kind].append((found.key, text))
    for title, kinds in (
        ('errors (training cannot survive them)', ERRORS),
        ('warnings (training survives them)', WARNINGS),
    ):
        lines.append(f'{title}:' if any(kind in offenders for kind in kinds) else f'{title}: none')
        for kind, meaning in kinds.items():
            cases = offenders[kind]
            if cases:
                number = len({key for key, _ in cases})
                lines.append(f'  {kind}: {len(cases)} in {number} clips ({meaning})')
                lines += [f'    {text}' for _, text in cases[:shown]]
                if shown is not None and len(cases) > shown:
                    lines.append(f'    and {len(cases) - shown} more')
    return lines


def facts(reports: list) -> list[str]:
    """The commonest sizes of frames and kinds of sound."""
    sizes = Counter(tuple(r.facts['size'][::-1]) for r in reports if 'size' in r.facts)
    sounds = Counter((r.facts['rate'], r.facts['channels']) for r in reports if 'rate' in r.facts)
    sizes = [f'{w} x {h} ({n})' for (w, h), n in sizes.most_common(5)]
    sounds = [
        f'{rate} Hz, {channels} channels ({n})' for (rate, channels), n in sounds.most_common(5)
    ]
    return [f'frames in pixels: {"; ".join(sizes)}', f'sound: {"; ".join(sounds)}']


if __name__ == '__main__':
    main()
