# SPDX-License-Identifier: Apache-2.0
"""Models of the library transformers: built from numbers, read from a folder, frozen, stored nowhere."""

import builtins

import pytest
import torch

from ovavss_mm.models.foundation import base
from ovavss_mm.utils.known_weights import missing_files

TINY_SAM = dict(
    vision_config=dict(
        **dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8, mlp_ratio=2.0),
        **dict(window_size=2, global_attn_indexes=[0], output_channels=16, num_pos_feats=8, initializer_range=0.02),
    ),
    prompt_encoder_config=dict(hidden_size=16, image_size=32, patch_size=8, mask_input_channels=4),
    mask_decoder_config=dict(
        **dict(hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16),
        layer_norm_eps=1e-5,
    ),
)


class TinySAM(base.FoundationModel):
    model_name = 'SamModel'


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> str:
    torch.manual_seed(0)
    path = str(tmp_path_factory.mktemp('sam'))
    base.build_model('SamModel', TINY_SAM).save_pretrained(path)
    return path


def pretrained(place: str) -> dict:
    return dict(type='Pretrained', checkpoint=place)


def test_weights_are_read_when_asked_for_and_not_stored(folder):
    model = TinySAM(TINY_SAM, init_cfg=pretrained(folder)).train()
    model.init_weights()
    stored = base.read_pretrained('SamModel', TINY_SAM, folder)
    own = model.model.state_dict()
    assert stored.keys() == own.keys() and all(torch.equal(own[key], stored[key]) for key in own)
    assert not model.state_dict() and not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_a_checkpoint_without_them_fills_them_in(folder):
    model = torch.nn.ModuleDict(dict(sam=TinySAM(TINY_SAM, init_cfg=pretrained(folder)), own=torch.nn.Linear(2, 2)))
    model.load_state_dict({f'own.{key}': value for key, value in torch.nn.Linear(2, 2).state_dict().items()})
    key = 'mask_decoder.iou_token.weight'
    expected = base.read_pretrained('SamModel', TINY_SAM, folder)[key]
    assert torch.equal(model['sam'].model.state_dict()[key], expected)


def test_weights_are_in_memory_once(folder, monkeypatch):
    """Those that were read stand where others were built, and are no copies."""
    stored = base.read_pretrained('SamModel', TINY_SAM, folder)
    places = {key: value.data_ptr() for key, value in stored.items()}
    monkeypatch.setattr(base, 'read_pretrained', lambda *_: stored)
    model = TinySAM(TINY_SAM, init_cfg=pretrained(folder))
    model.init_weights()
    assert {key: value.data_ptr() for key, value in model.model.state_dict().items()} == places


def test_bfloat16_is_kept_from_construction_on(folder):
    model = TinySAM(TINY_SAM, init_cfg=pretrained(folder), dtype='bfloat16')
    model.init_weights()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize('change', [dict(mlp_dim=32), dict(num_hidden_layers=2)])
def test_weights_of_another_size_are_refused(folder, change):
    config = TINY_SAM | dict(mask_decoder_config=TINY_SAM['mask_decoder_config'] | change)
    with pytest.raises(ValueError, match='does not fit the config of SamModel'):
        TinySAM(config, init_cfg=pretrained(folder)).init_weights()


def test_an_id_that_cannot_be_had_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    model = TinySAM(TINY_SAM, init_cfg=pretrained('nobody/no-such-model'))  # the constructor asks nobody
    with pytest.raises(FileNotFoundError, match='no weights at nobody/no-such-model'):
        model.init_weights()
    with pytest.raises(FileNotFoundError, match='no weights at'):
        TinySAM(TINY_SAM, init_cfg=pretrained(str(tmp_path))).init_weights()


def test_without_the_library_the_error_has_the_command(monkeypatch):
    real = builtins.__import__

    def without(name: str, *args: object) -> object:
        if name.split('.')[0] == 'transformers':
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ImportError, match=r"pip install 'ovavss_mm\[foundation\]'"):
        TinySAM(TINY_SAM)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, got 'float16'"):
        TinySAM(TINY_SAM, dtype='float16')
    with pytest.raises(ValueError, match='TinySAM has neither init_cfg nor tokenizer'):
        _ = TinySAM(TINY_SAM).tokenizer


def test_only_paths_can_be_missing(tmp_path):
    places = ['facebook/sam-vit-base', str(tmp_path), 'weights/no.pth', 'data/weights/sam', 'openai']
    assert list(missing_files([pretrained(place) for place in places])) == ['weights/no.pth', 'data/weights/sam']
