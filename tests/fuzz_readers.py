# SPDX-License-Identifier: Apache-2.0
"""Feed many damaged files to each reader, and print a table: cases, seconds, findings.

Examples: ``python tests/fuzz_readers.py``; ``python tests/fuzz_readers.py sound --cases 500``.
Each reader runs in a process of its own, whose memory is bounded and which is stopped where a case takes too long.
"""

import argparse
import collections
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

CASE_SECONDS = 2.0  # that a case may take
MEMORY = 12 * 2**30  # bytes of addresses that a process may have: libraries take the most of it


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('targets', nargs='*', help='readers (default: all)')
    parser.add_argument('--cases', type=int, default=10_000, help='of each (default: 10000)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--keep', help='folder for files that were findings')
    parser.add_argument('--one', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def fuzz(name: str, args: argparse.Namespace) -> None:
    """Run one target in this process and print a line of its table."""
    os.environ['OMP_NUM_THREADS'] = '1'
    import fuzz_targets
    from hypothesis import HealthCheck, given, seed, settings

    target = fuzz_targets.make_targets()[name]
    _warm(target)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    results: collections.Counter = collections.Counter()
    findings: dict[str, str] = {}
    start, slowest = time.perf_counter(), 0.0

    def too_long(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_long)
    with tempfile.TemporaryDirectory() as folder:

        @seed(args.seed)
        @settings(max_examples=args.cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(target.cases())
        def run(content: bytes) -> None:
            nonlocal slowest
            begun = time.perf_counter()
            try:
                results[target.check(content, Path(folder))] += 1
            except Exception as error:
                _note(error, content, findings, args.keep, target)
                results['finding'] += 1
            took = time.perf_counter() - begun
            slowest = max(slowest, took)
            if took > CASE_SECONDS:
                _note(TimeoutError(f'{took:.1f} s'), content, findings, args.keep, target)
            total = results.total()
            if total % 500 == 0:
                print(f'{name}: {total}', end='\r', file=sys.stderr, flush=True)

        run()
    print(
        f'{name:16} {results.total():7} {time.perf_counter() - start:8.0f} {slowest:9.2f} '
        f'{results["read"]:7} {results["refused"]:8} {len(findings):9}',
        flush=True,
    )
    for what in findings.values():
        print(f'    {what}', flush=True)


def _warm(target: object) -> None:
    """Read good files once: what is imported on first use does not count."""
    with tempfile.TemporaryDirectory() as folder:
        for good in target.good:
            target.check(good, Path(folder))


def _note(error: Exception, content: bytes, findings: dict, keep: str | None, target: object) -> None:
    """Note a finding by its kind and place."""
    frames = traceback.extract_tb(error.__traceback__)
    if error.__cause__ is not None:
        frames = [*frames, *traceback.extract_tb(error.__cause__.__traceback__)]
    ours = [f for f in frames if 'ovavss_mm' in f.filename] or frames or [None]
    place = f'{Path(ours[-1].filename).name}:{ours[-1].lineno}' if ours[-1] else ''
    key = f'{type(error).__name__} at {place}'
    if key not in findings:
        findings[key] = f'{key}: {str(error)[:200]!r} ({len(content)} bytes)'
        if keep:
            Path(keep).mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(content).hexdigest()[:8]
            Path(keep, f'{target.name.replace(" ", "_")}.{digest}').write_bytes(content)


def main(argv: list[str] | None = None) -> None:
    """Run the targets, one after the other."""
    args = parse_args(argv)
    if args.one:
        fuzz(args.targets[0], args)
        return
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import fuzz_targets

    known = list(fuzz_targets.make_targets())
    print(
        f'{"reader":16} {"cases":>7} {"seconds":>8} {"slowest":>9} {"read":>7} {"refused":>8} {"findings":>9}',
        flush=True,
    )
    for name in args.targets or known:
        command = [sys.executable, __file__, name, '--one', '--cases', str(args.cases), '--seed', str(args.seed)]
        if args.keep:
            command += ['--keep', args.keep]
        code = subprocess.run(command).returncode
        if code:
            print(f'{name:16} ended with {code}', flush=True)


if __name__ == '__main__':
    main()
