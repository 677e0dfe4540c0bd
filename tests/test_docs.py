# SPDX-License-Identifier: Apache-2.0
"""Documents: links and pictures exist, lists are those of the code, and the sketches of docs/extend.md work."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, HOOKS, MODELS, TRANSFORMS
from mmseg.structures import SegDataSample
from PIL import Image

from ovavss_mm.models.skeleton import build_skeleton, read_config
from ovavss_mm.utils.known_weights import known_weights

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / 'README.md', ROOT / 'data/README.md', *sorted((ROOT / 'docs').rglob('*.md'))]


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link and picture is there."""
    targets = re.findall(r'\]\(([^)#:]+)\)', document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_named_files_exist(document: Path) -> None:
    """Scripts, modules and configs of commands are there, under these names."""
    text = document.read_text()
    paths = set(re.findall(r'\b(?:tools|configs|ovavss_mm|tests)/[\w./-]+\.(?:py|csv|txt)\b', text))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    configs = {path.name for path in (ROOT / 'configs').rglob('*.py')}
    named = set(re.findall(r'\bovavss_[\w.-]+\.py\b', text))
    tools = {path.name for path in (ROOT / 'tools').rglob('*.py')}
    assert sorted(named - configs - tools) == []


def test_every_weight_is_in_the_guide() -> None:
    """The table of weights has each file of the list, its size and licence."""
    lines = (ROOT / 'data/README.md').read_text().splitlines()
    for weights in known_weights().values():
        (row,) = [line for line in lines if line.startswith(f'| `{weights.file}` |')]
        assert f'{weights.size_mib} MiB' in row and weights.licence in row


# ------------------------------------------------------------------ docs/extend.md
def sketches() -> list[tuple[str, str]]:
    """Component and config of each block, without those of the first block, which all begin with."""
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/extend.md').read_text(), re.DOTALL)
    parts, config = blocks[0].split('# config\n')
    config = config.replace('../configs/', f'{ROOT}/configs/').replace(", 'my_parts'", '')
    return [(parts + own, config + rest) for own, rest in (block.split('# config\n') for block in blocks[1:])]


def animals(root: Path) -> None:
    """Write a training clip of two frames, of the data set in docs/extend.md."""
    clip = root / 'beach'
    for folder in ('frames', 'labels_rgb'):
        (clip / folder).mkdir(parents=True)
    for t in range(2):
        Image.new('RGB', (64, 48)).save(clip / f'frames/{t}.jpg')
        np.save(clip / f'labels_rgb/{t}.npy', np.full((48, 64), 2))
    (root / 'train.txt').write_text('beach dog,cat\n')


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MMSegmentation's registries, which forget afterwards what was registered."""
    for registry in (DATASETS, MODELS, TRANSFORMS):
        monkeypatch.setattr(registry, '_module_dict', dict(registry._module_dict))
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.mark.usefixtures('registries')
@pytest.mark.parametrize('component, config', sketches())
def test_sketches_work(component: str, config: str, tmp_path: Path) -> None:
    """Each component is registered, and its config makes a model that trains and predicts, or a data set."""
    exec(component, {'__name__': 'my_parts'})
    file = tmp_path / 'mine.py'
    file.write_text(config)
    cfg = read_config(str(file))
    if 'siglip' in config.lower():  # as large as it is: names and shapes only
        assert build_skeleton(cfg.model).classifier.score == 'sigmoid'
        return
    if cfg.train_dataloader.dataset.data_root == 'data/animals':
        animals(tmp_path)
        dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, data_root=str(tmp_path)))
        assert set(dataset[0]['data_samples'].gt_sem_seg.data.unique().tolist()) == {2}
        return
    [HOOKS.build(hook) for hook in cfg.custom_hooks]
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    front_end = next(step.front_end for step in cfg.train_dataloader.dataset.pipeline if 'front_end' in step)
    waveform = np.random.default_rng(0).uniform(-1, 1, 64000)
    audio = torch.from_numpy(TRANSFORMS.build(front_end)(waveform, 2))
    sample = SegDataSample(metainfo=dict(vocabulary=[f'thing {i}' for i in range(cfg.num_names)]))
    sample.gt_sem_seg = PixelData(data=torch.ones(2, 32, 64, dtype=torch.long))
    frames = torch.randint(256, (2, 3, 32, 64), dtype=torch.uint8)
    data = dict(inputs=dict(imgs=[frames], audio=[audio]), data_samples=[sample])
    losses = model.loss(**model.data_preprocessor(data, training=True))
    sum(losses.values()).backward()
    (result,) = model.eval().predict(**model.data_preprocessor(data))
    assert result.pred_sem_seg.data.shape == (2, 32, 64)
