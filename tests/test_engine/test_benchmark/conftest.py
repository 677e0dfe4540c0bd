# SPDX-License-Identifier: Apache-2.0
"""Names of components are looked up as in the configs."""

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def scope():
    """Look names up in mmseg's registries."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield
