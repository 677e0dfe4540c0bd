# SPDX-License-Identifier: Apache-2.0
"""SAM with adapters: the same as without them where they add nothing; weights are read when asked for."""

import pytest
import torch
from mmengine.config import Config
from tiny_gavs import CONFIG
from torch import nn

from ovavss_mm.models.foundation import AdaptedSAM
from ovavss_mm.models.foundation.base import build_model


@pytest.fixture(scope='module')
def config() -> dict:
    return Config.fromfile(CONFIG).model.sam.to_dict()


@pytest.fixture(scope='module')
def plain(config) -> nn.Module:
    """SAM with weights of which none is 0."""
    torch.manual_seed(0)
    model = build_model('SamModel', config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope='module')
def folder(plain, tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp('sam'))
    plain.save_pretrained(path)
    return path


def adapted(config: dict, folder: str) -> AdaptedSAM:
    sam = AdaptedSAM(config, tune_v=1, init_cfg=dict(type='Pretrained', checkpoint=folder))
    sam.init_weights()
    return sam


@torch.no_grad()
def test_without_what_adapters_add_it_is_the_library_s_sam(config, plain, folder):
    sam = adapted(config, folder)
    for name, parameter in sam.named_parameters():
        if '.up.' in name:
            parameter.zero_()
    imgs, tokens = torch.randn(2, 3, 128, 128), torch.randn(2, 1, 64)
    maps = sam.encode(imgs)
    expected = plain.vision_encoder(imgs)[0]
    assert torch.equal(maps, expected) and maps.shape == (2, 64, 16, 16)
    _, dense = plain.prompt_encoder(None, None, None, None)
    masks, _ = plain.mask_decoder(
        expected, plain.get_image_wide_positional_embeddings().repeat(2, 1, 1, 1), tokens[:, None], dense, False
    )
    torch.testing.assert_close(sam.decode(maps, tokens), masks[:, 0], rtol=0, atol=1e-5)


def test_weights_are_read_once_each_and_adapters_are_left(config, plain, folder):
    sam = AdaptedSAM(config, tune_v=1, init_cfg=dict(type='Pretrained', checkpoint=folder))
    before = {name: p.clone() for name, p in sam.model.named_parameters() if '.down.' in name or '.up.' in name}
    sam.init_weights()
    own = sam.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in before.items())
    read = {key.replace('.mlp.mlp.', '.mlp.'): value for key, value in own.items() if key not in before}
    stored = plain.state_dict()
    assert read.keys() == stored.keys() and all(torch.equal(read[key], stored[key]) for key in read)


def test_weights_of_another_size_are_refused(config, folder):
    config = config | dict(mask_decoder_config=config['mask_decoder_config'] | dict(mlp_dim=32))
    with pytest.raises(ValueError, match='does not fit the config of SamModel'):
        adapted(config, folder)
