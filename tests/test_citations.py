# SPDX-License-Identifier: Apache-2.0
"""Citations of the paper: sections, equations, figures and tables that exist, and that are about the stage."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# "Open-Vocabulary Audio-Visual Semantic Segmentation", doi 10.1145/3664647.3681586
SECTIONS = {
    *('1', '2', '2.1', '2.2', '2.3'),
    *('3', '3.1', '3.2', '3.3', '3.4', '3.5'),
    *('4', '4.1', '4.2', '4.3', '4.4', '5'),
}
EQUATIONS = {str(i) for i in range(1, 9)}
FIGURES = {'1', '2', '2a', '2b', '3', '4'}
TABLES = {str(i) for i in range(1, 6)}
KNOWN = dict(section=SECTIONS, equation=EQUATIONS, figure=FIGURES, table=TABLES)
# What a stage of the model may cite: 3.2 representation, 3.3 localization, 3.4 classification, 3.5 loss.
STAGES = dict(
    audio_encoders={'3.2'}, necks={'3.3'}, decode_heads={'3.3', '3.5'}, classifiers={'3.4'}, losses={'3.3', '3.5'}
)
CITATION = re.compile(
    r'\b(?P<kind>sections?|equations?|figures?|tables?)\s+\(?(?P<first>\d+(?:\.\d+)?[ab]?)\)?'
    r'(?P<more>(?:(?:,|,? and| to)\s+\(?\d+(?:\.\d+)?[ab]?\)?)*)',
    re.IGNORECASE,
)
FILES = sorted(
    path
    for pattern in ('ovavss_mm/**/*.py', 'tools/**/*.py', 'configs/**/*', 'docs/**/*.md', '*.md', 'data/*.md')
    for path in ROOT.glob(pattern)
    if path.suffix in ('.py', '.yml', '.md') and '.venv' not in path.parts
)


def citations(text: str) -> list[tuple[str, str]]:
    """Kind and number of every citation, such as ('section', '3.4')."""
    found = []
    for match in CITATION.finditer(text):
        numbers = [match['first'], *re.findall(r'\d+(?:\.\d+)?[ab]?', match['more'])]
        found += [(match['kind'].lower().rstrip('s'), number) for number in numbers]
    return found


def test_the_pattern_finds_citations():
    text = 'paper sections 3.3, 3.4 and 3.5; equation (7), equations 1 and 2; Figure 2b. Table 4'
    assert citations(text) == [
        *(('section', number) for number in ('3.3', '3.4', '3.5')),
        *(('equation', number) for number in ('7', '1', '2')),
        ('figure', '2b'),
        ('table', '4'),
    ]
    assert ('section', '3.6') in citations('(paper section 3.6)')


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_cited_places_exist(path):
    wrong = [f'{kind} {n}' for kind, n in citations(path.read_text()) if n not in KNOWN[kind]]
    assert wrong == []


@pytest.mark.parametrize('stage', STAGES)
def test_a_stage_cites_its_own_section(stage):
    cited = {
        number
        for path in (ROOT / 'ovavss_mm/models' / stage).glob('*.py')
        for kind, number in citations(path.read_text())
        if kind == 'section'
    }
    assert cited and cited <= STAGES[stage]
