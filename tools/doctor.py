# SPDX-License-Identifier: Apache-2.0
"""Say what works here, what is missing or broken, and what to do about it.

Looks at Python, the packages and their versions, mmcv's ops, devices, video codecs, weights, data
sets, disk and memory. It works when packages are missing or broken. Exit status: 0 if the mini model
can be trained and tested here, 1 if not.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = """examples:
  mim run ovavss_mm doctor
  python tools/doctor.py --weights-dir /disk/weights
  python tools/doctor.py --json > report.json
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The arguments, by name.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--weights-dir',
        type=Path,
        default=Path('data/weights'),
        metavar='DIR',
        help='where the weights are (default: data/weights)',
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of text')
    return parser.parse_args(argv)


def load_doctor() -> ModuleType:
    """Load the checks without importing ovavss_mm, which fails where a host is missing.

    Returns:
        The package ``ovavss_mm.engine.doctor``, under a name of its own.

    Raises:
        FileNotFoundError: if ovavss_mm is neither installed nor beside this file.
    """
    spec = importlib.util.find_spec('ovavss_mm')  # of a top-level package nothing is imported
    installed = list(spec.submodule_search_locations or ()) if spec else []
    # Beside tools/ in a checkout, above .mim/tools/ in a wheel.
    tools = Path(__file__).resolve().parent
    places = [*map(Path, installed), tools.parent / 'ovavss_mm', tools.parents[1]]
    for place in places:
        path = place / 'engine' / 'doctor' / '__init__.py'
        if path.is_file():
            spec = importlib.util.spec_from_file_location(
                'ovavss_doctor', path, submodule_search_locations=[str(path.parent)]
            )
            module = importlib.util.module_from_spec(spec)
            sys.modules['ovavss_doctor'] = module
            spec.loader.exec_module(module)
            return module
    raise FileNotFoundError(
        'ovavss_mm is neither installed for this Python nor beside tools/; in the checkout, run: '
        f'{sys.executable} -m pip install --no-build-isolation --no-deps -e .'
    )


def main(argv: list[str] | None = None) -> int:
    """Print the report.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        Exit status.
    """
    args = parse_args(argv)
    try:
        doctor = load_doctor()
    except FileNotFoundError as error:
        sys.exit(f'error: {error}')
    findings = doctor.diagnose(args.weights_dir, Path.cwd())
    fit = doctor.is_fit(findings)
    if args.json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps(dict(fit=fit, findings=listed), indent=2))
    else:
        print(doctor.report(findings))
    return 0 if fit else 1


if __name__ == '__main__':
    sys.exit(main())
