# SPDX-License-Identifier: Apache-2.0
"""Links from documents to files outside of docs/, which work in a checkout, work on the site as well.

A Markdown file that is linked, or in the nav, becomes a page under its path in the repository; any other file one that
shows its text, a folder one with all its files, a notebook one with its cells.
"""

import json
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ['data/README.md', 'CHANGELOG.md', 'docs/quickstart.ipynb']  # of the nav
LINK = re.compile(r'(?<=\]\()(?![a-z]+:|#)([^)#\s]+)')


def repository_path(page: str) -> str:
    """Path of a page's file in the repository, which is below docs/ where there is such a file."""
    page = page.replace('.ipynb.md', '.ipynb')
    return f'docs/{page}' if (ROOT / 'docs' / page).is_file() else page


def site_page(path: str) -> str:
    """Page of a file of the repository, both as paths."""
    if path.startswith('docs/'):
        return path.removeprefix('docs/').replace('.ipynb', '.ipynb.md')
    if (ROOT / path).is_dir() or not path.endswith('.md'):
        return f'{path}.md'
    return path


def linked(path: str, link: str) -> str:
    """Path in the repository of what a document of the repository links to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def source_page(path: str) -> str:
    """Markdown of a page of a file, or of all Python files in a folder."""
    full = ROOT / path
    files = sorted(full.glob('*.py')) if full.is_dir() else [full]
    texts = [f'## {file.name}\n\n````{file.suffix[1:]}\n{file.read_text()}````\n' for file in files]
    return '\n'.join([f'# {path}\n', *texts])


def notebook_page(path: str) -> str:
    """Markdown of a notebook."""
    cells = json.loads((ROOT / path).read_text())['cells']
    parts = ((cell['cell_type'] == 'code', ''.join(cell['source'])) for cell in cells)
    return '\n\n'.join(f'```python\n{text}\n```' if is_code else text for is_code, text in parts)


def page_text(path: str) -> str:
    """Markdown of any file or folder."""
    if path.endswith('.md'):
        return (ROOT / path).read_text()
    return notebook_page(path) if path.endswith('.ipynb') else source_page(path)


def on_files(files, config):
    """Add a page for each linked file outside of docs/."""
    waiting = [repository_path(file.src_uri) for file in files.documentation_pages()] + OUTSIDE
    while waiting:
        path = waiting.pop()
        if files.get_file_from_path(site_page(path)) is None:
            files.append(File.generated(config, site_page(path), content=page_text(path)))
        elif not path.startswith('docs/'):
            continue
        if path.endswith('.md'):
            links = [linked(path, link) for link in LINK.findall((ROOT / path).read_text())]
            waiting += [link for link in links if not link.startswith('docs/')]
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links of the repository into those of the site."""
    path = repository_path(page.file.src_uri)
    if not (ROOT / path).is_file():
        return markdown
    folder = posixpath.dirname(page.file.src_uri)

    def link(match):
        return posixpath.relpath(site_page(linked(path, match[1])), folder or '.')

    return LINK.sub(link, markdown)


def on_page_content(html, **kwargs):
    """Show names in docstrings as code, without Sphinx' roles."""
    return re.sub(r':(?:class|func|meth|mod|attr):(<code>)~?', r'\1', html)
