# SPDX-License-Identifier: Apache-2.0
"""Derive AVSBench-OV from AVSBench-semantic, check every file of it, and write an index a split.

The rule needs metadata.csv alone: clips of v1m are left out, and a training clip stays only if each
of its names is a base name. With the base names of AVSBench-OV (no --base-names) the clips must be
the paper's, 5,184 with 40,095 frames to train, 1,240 to validate and 1,490 to test; other numbers
are an error. With --base-names another rule is followed, and nothing is known of its numbers.

Then all frames, label maps and sounds of these clips are read. What is found is printed by kind and
written in full to report.txt; the exit status is 1 if there is anything that training could not
survive. A run that was stopped goes on where it was, and a later run reads changed clips only.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

EXAMPLES = """examples:
  which clips are in the splits; ROOT needs nothing but metadata.csv
    python tools/dataset_converters/avsbench_ov.py data/AVSBench-semantic --metadata-only
  check the whole archive; the first thing to do after unpacking it
    python tools/dataset_converters/avsbench_ov.py data/AVSBench-semantic --workers 8
  leave broken clips out of the indices; data/README.md trains on what is left
    python tools/dataset_converters/avsbench_ov.py data/AVSBench-semantic --fix-index
  data of your own of which all names are base
    python tools/dataset_converters/avsbench_ov.py ROOT --base-names all --out data/my_index
"""
# Clips of AVSBench-OV, by split and subset (paper, section 4.1).
OFFICIAL = {'train': {'v1s': 2349, 'v2': 2835}, 'val': {'v1s': 740, 'v2': 500}, 'test': {'v1s': 740, 'v2': 750}}
SHOWN = 3  # offenders of a kind that are printed


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=layout)
    add, cores = parser.add_argument, min(8, os.cpu_count() or 1)
    add('root', metavar='ROOT', help='folder with metadata.csv, v1s, v2')
    add('--out', default='data/avsbench_ov', help='of indices and report (default: %(default)s)')
    add('--metadata-only', action='store_true', help='do not look at the clips')
    add('--base-names', metavar='FILE', help="a base name a line, or 'all' (default: AVSBench-OV)")
    add('--fix-index', action='store_true', help='leave bad clips out of the indices')
    add('--workers', type=int, default=cores, help='processes that read (default: %(default)s)')
    args = parser.parse_args(argv)
    if args.fix_index and args.metadata_only:
        parser.error('--fix-index needs the check of the clips: leave --metadata-only away')
    if args.workers < 0:
        parser.error(f'--workers must be 0 or more, got {args.workers}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Do what the command line asks for; the process ends with 1 if something is wrong."""
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly  # here, as torch takes seconds

    import_quietly('ovavss_mm.datasets')
    try:
        sys.exit(run(args))
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('\nstopped; what has been checked is kept, the same command goes on from there')


def run(args: argparse.Namespace) -> int:
    """Derive, check, report and write; returns the exit status."""
    from ovavss_mm.datasets import metadata

    vocabulary = read_vocabulary(args)
    rows, status = metadata.read_metadata(os.path.join(args.root, 'metadata.csv'), vocabulary), 0
    splits = {split: metadata.select_clips(rows, split, base=vocabulary.base) for split in OFFICIAL}
    splits = {s: list(map(metadata.IndexedClip.from_row, rows)) for s, rows in splits.items()}
    if args.base_names is None:
        check_official(splits)
    if not args.metadata_only:
        splits, status = check(args, splits, vocabulary.names)
    for split, clips in splits.items():
        frames = f' {sum(clip.num_frames for clip in clips)} frames' if split == 'train' else ''
        print(f'{split} {len(clips)} clips{frames}')
    if args.base_names is None and not (status or args.fix_index):
        print('These are the clips of AVSBench-OV.')
    if args.metadata_only:
        print('Frames were not counted: 5 a clip in v1s, 10 in v2.')
    print(table(splits, vocabulary))
    if status:
        print('No index was written. Repair the clips, or leave them out: --fix-index.')
        return status
    for split, clips in splits.items():
        metadata.write_index(os.path.join(args.out, f'{split}.txt'), split, clips)
    print(f'Indices: {args.out}/{{{",".join(splits)}}}.txt')
    return status


def read_vocabulary(args: argparse.Namespace) -> object:
    """Vocabulary of label2idx.json; without it, and if only metadata are looked at, the 70 names."""
    from ovavss_mm.datasets import vocabulary
    from ovavss_mm.datasets.avsbench import check_names_fit

    if not os.path.isdir(args.root):
        raise FileNotFoundError(f'ROOT must be the folder of the archive, got {args.root}')
    base = args.base_names or str(vocabulary.PACKAGED_BASE_NAMES['avsbench_ov'])
    label_file = os.path.join(args.root, 'label2idx.json')
    known = vocabulary.read_names(str(vocabulary.PACKAGED_NAMES))
    if args.metadata_only and not os.path.exists(label_file):
        print('No label2idx.json: the 70 names of AVSBench-semantic are taken.')
        names = known if base == 'all' else vocabulary.read_names(base)
        return vocabulary.Vocabulary(known, names)
    names = vocabulary.Vocabulary.from_files(label_file, 'all').names
    if args.base_names is None and names != known:
        raise ValueError(
            f'{label_file} does not have the 70 names of AVSBench-semantic in alphabetical order '
            f'(different: {sorted({*known} ^ {*names})}). For data of your own: --base-names'
        )
    found = vocabulary.Vocabulary.from_files(label_file, base)
    check_names_fit(found, label_file)
    return found


def check_official(splits: Mapping[str, list]) -> None:
    """Raise ValueError with the difference if the clips are not those of AVSBench-OV."""
    problems = []
    for split, expected in OFFICIAL.items():
        found, wanted = Counter(clip.subset for clip in splits[split]), sum(expected.values())
        subsets = ', '.join(f'{s} {found[s]} instead of {n}' for s, n in expected.items())
        if found != expected:
            problems.append(f'\n  {split}: {found.total()} clips instead of {wanted} ({subsets})')
    if problems:
        raise ValueError(
            'metadata.csv does not give AVSBench-OV; is it whole, and that of AVSBench-semantic? '
            f'For another rule or data of your own: --base-names{"".join(problems)}'
        )


def table(splits: Mapping[str, list], vocabulary: object) -> str:
    """Clips of each name and split; a clip counts for each of its names."""
    from prettytable import PrettyTable

    counts = [Counter(name for clip in clips for name in clip.names) for clips in splits.values()]
    others = sorted(set().union(*counts) - set(vocabulary.names))
    groups = {'base': vocabulary.base, 'novel': vocabulary.novel, 'not a name': others}
    out = PrettyTable(['name', 'part', *splits], align='r')
    out.align['name'] = out.align['part'] = 'l'
    for part, names in groups.items():
        out.add_rows([[name, part, *(count[name] for count in counts)] for name in names])
    return out.get_string()


def check(args: argparse.Namespace, splits: dict, names: tuple[str, ...]) -> tuple[dict, int]:
    """Check the files of all clips, report, and give those for the indices and the exit status."""
    from archive_check import check_clips, report_lines
    from rich.console import Console
    from rich.progress import track

    from ovavss_mm.utils.files import write_atomic

    clips = [(split, clip) for split, chosen in splits.items() for clip in chosen]
    cache, official = os.path.join(args.out, 'check.jsonl'), args.base_names is None
    reports = check_clips(args.root, clips, names, official, cache, args.workers)
    bar = dict(total=len(clips), console=Console(stderr=True))
    found = list(track(reports, f'{len(clips)} clips', **bar))
    kept = {split: [] for split in splits}
    for (split, clip), r in zip(clips, found, strict=True):
        if r.usable or not args.fix_index:
            kept[split].append(replace(clip, num_frames=r.facts.get('frames', clip.num_frames)))
    bad = sum(not report.usable for report in found)
    verdict = f'{len(found) - bad} of {len(found)} clips can be used'
    if args.fix_index:
        verdict += f'; {bad} bad clips are left out of the indices (--fix-index)'
    print('\n'.join([*report_lines(found, SHOWN), verdict]))
    text = '\n'.join([*report_lines(found, None), verdict, ''])
    write_atomic(os.path.join(args.out, 'report.txt'), text)
    print(f'All findings: {args.out}/report.txt')
    return kept, int(bad > 0 and not args.fix_index)


if __name__ == '__main__':
    main()
