# SPDX-License-Identifier: Apache-2.0
"""Build the package, with the files that ``mim`` looks for. Metadata is in setup.cfg."""

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build import build
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent

MIM_FILES = ('configs', 'tools', 'model-index.yml')

# Where they go in a wheel. `mim train ovavss_mm CONFIG` looks for them in `ovavss_mm/.mim`, but
# onedl-mim 0.5 takes for `ovavss_mm` whatever folder the first line of the installed RECORD is in.
# pip sorts that file, and `ovavss_mm-<version>.dist-info/` comes before `ovavss_mm/`. So the same
# files also lie in a folder that comes before both. For the same reason the package must have no
# console scripts: their lines, `../../../bin/...`, would come first of all.
MIM_FOLDERS = ('ovavss_mm/.mim', '.ovavss_mm/.mim')
MIM_NOTE = 'The same files as in ovavss_mm/.mim, in the place where onedl-mim 0.5 looks for them.\n'


class CleanBuild(build):
    """Builds in a temporary folder.

    A ``build/`` in the checkout would hand its leftovers on to the next wheel, and hold a second
    copy of each config, which ``mim`` refuses to choose from.
    """

    def initialize_options(self):
        """Put the build base outside the checkout."""
        super().initialize_options()
        self.build_base = tempfile.mkdtemp(prefix='ovavss_mm-build-')
        atexit.register(shutil.rmtree, self.build_base, ignore_errors=True)


class BuildWithMimFiles(build_py):
    """Adds tools, configs and the model index to a wheel; an editable install needs no copy."""

    def run(self):
        """Build the modules, then copy the files for mim beside them."""
        super().run()
        if self.editable_mode:
            return
        for folder in MIM_FOLDERS:
            for name in MIM_FILES:
                self._copy(ROOT / name, Path(self.build_lib, folder, name))
        Path(self.build_lib, '.ovavss_mm', 'README').write_text(MIM_NOTE)

    def _copy(self, source, target):
        """Copy a file, or a folder without what Python left in it."""
        if source.is_dir():
            ignore = shutil.ignore_patterns('__pycache__', '*.pyc')
            shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True)
        else:
            self.mkpath(str(target.parent))
            shutil.copy2(source, target)


def addresses() -> dict:
    """Addresses of the project, where it is built by a workflow of GitHub, which says where it lies.

    The package index shows the README without the files that it links to: its links lead to the repository then.
    """
    if 'GITHUB_REPOSITORY' not in os.environ:
        return {}
    server, repository, ref = (os.environ[f'GITHUB_{key}'] for key in ('SERVER_URL', 'REPOSITORY', 'REF_NAME'))
    root = f'{server}/{repository}'
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    for shown, kind in ((r'!\[[^]]*\]', 'raw'), (r'(?<!!)\[[^]]*\]', 'blob')):
        readme = re.sub(rf'({shown}\()(?![a-z]+:|#)', rf'\1{root}/{kind}/{ref}/', readme)
    project_urls = {'Changelog': f'{root}/blob/{ref}/CHANGELOG.md', 'Documentation': f'{root}/tree/{ref}/docs'}
    return dict(url=root, project_urls=project_urls, long_description=readme)


setup(cmdclass={'build': CleanBuild, 'build_py': BuildWithMimFiles}, **addresses())
