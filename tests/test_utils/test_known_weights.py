# SPDX-License-Identifier: Apache-2.0
"""The list of weights, and what is said of those that are not there."""

from pathlib import Path

import pytest
from mmengine.config import Config

from ovavss_mm.engine import launch
from ovavss_mm.utils.known_weights import how_to_get, is_tag, known_weights, missing_files
from ovavss_mm.utils.safe_loading import read_state_dict

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / 'configs/ovavss').glob('*.py'))
TINY = dict(
    embed_dim=8,
    vision_cfg=dict(image_size=8, patch_size=8, width=8, layers=1, head_width=8),
    text_cfg=dict(context_length=8, vocab_size=49408, width=8, heads=1, layers=1),
)


def test_list_is_complete():
    for weights in known_weights().values():
        assert all((weights.file, weights.title, weights.licence, weights.source))
        assert 50 < weights.size_mib < 3000
        assert weights.source.startswith('https://') or weights.make
        if weights.make:
            tool = weights.make.split()[1]
            assert (ROOT / tool).is_file() and weights.make.endswith(f'data/weights/{weights.file}')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_weight_that_a_config_reads_is_listed(path):
    config = Config.fromfile(path)
    files = [*missing_files(config.model), config.load_from]
    assert len(files) == 3, 'VGGish, CLIP and the start'
    for file in files:
        weights = known_weights()[Path(file).name]
        assert Path(file).parent == Path('data/weights')
        config.merge_from_dict({weights.option: 'elsewhere.pth'})
    assert not set(files) & {*missing_files(config.model), config.load_from}, 'options that work'


@pytest.mark.parametrize(
    ('file', 'parts'),
    [
        ('ViT-B-16.pt', ['CLIP ViT-B/16', '335 MiB', 'MIT', 'https://openaipublic', 'put it at']),
        ('vggish-10086976.pth', ['VGGish', 'Apache-2.0', 'model.audio_encoder.init_cfg.checkpoint']),
        (
            'mask2former_swin-b_coco.pth',
            ['model_final_83d103.pkl from https://', 'mask2former_detectron2.py', 'load_from='],
        ),
        ('ovavss_r50_release.pth', ['ovavss_release.py PUBLISHED.pth', 'none stated']),
    ],
)
def test_missing_weights_say_what_they_are_and_where_to_get_them(file, parts):
    message = how_to_get(f'data/weights/{file}')
    assert message.startswith(f'no weights at data/weights/{file}: ')
    assert [part for part in parts if part not in message] == []


def test_missing_file_is_explained_where_it_is_read():
    with pytest.raises(FileNotFoundError, match=r"some/ViT-B-16\.pt: OpenAI's CLIP ViT-B/16"):
        read_state_dict('some/ViT-B-16.pt')
    with pytest.raises(FileNotFoundError, match=r'other\.pt: data/README\.md'):
        read_state_dict('some/other.pt')


def test_training_asks_for_weights_before_it_builds_the_model():
    config = Config.fromfile(CONFIGS[0])
    config.load_from = None
    for part in ('audio_encoder', 'classifier'):
        with pytest.raises(FileNotFoundError, match=config.model[part].init_cfg.checkpoint):
            launch.check_files(config, ('train_dataloader',))
        config.model[part].init_cfg = None
    with pytest.raises(FileNotFoundError, match='There are no data'):
        launch.check_files(config, ('train_dataloader',))


def test_missing_start_is_explained():
    config = Config(dict(load_from='data/weights/mask2former_r50_coco.pth'))
    with pytest.raises(FileNotFoundError, match=r'no checkpoint.*\n.*\n.*model_final_3c8ec9\.pkl'):
        launch.check_files(config, ())


def test_only_files_that_are_not_there_are_missing(tmp_path):
    (tmp_path / 'there.pth').write_text('')
    names = [str(tmp_path / 'there.pth'), 'openai', 'https://a.org/b.pth', 'torchvision://resnet50']
    config = [dict(init_cfg=dict(type='Pretrained', checkpoint=name)) for name in names]
    assert list(missing_files(config)) == []
    config.append(dict(a=[dict(type='Pretrained', checkpoint='a/gone.pth'), dict(type='Normal')]))
    assert list(missing_files(config)) == ['a/gone.pth']


# ------------------------------------------------------------------ open_clip's tags
@pytest.mark.parametrize(
    ('name', 'tag'), [('openai', True), ('laion2b_s32b', True), ('a.pt', False), ('./openai', False)]
)
def test_tags_are_no_paths(name, tag):
    assert is_tag(name) == tag
