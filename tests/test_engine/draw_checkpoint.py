# SPDX-License-Identifier: Apache-2.0
"""Writes a checkpoint of a config's model with drawn weights: arguments are config and file."""

import sys

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import ovavss_mm.models  # noqa: F401  (registers the model)


def main() -> None:
    """Build, draw, save."""
    torch.manual_seed(0)
    init_default_scope('mmseg')
    model = MODELS.build(Config.fromfile(sys.argv[1]).model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), sys.argv[2])


if __name__ == '__main__':
    main()
