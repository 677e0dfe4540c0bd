# SPDX-License-Identifier: Apache-2.0
"""TPAVI against the published one."""

from collections.abc import Mapping

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from released.checkpoints import fit
from released.closed_set import VGGISH, convert_closed_set
from torch import Tensor, nn

from ovavss_mm.models.decode_heads.tpavi_head import IGNORED
from ovavss_mm.models.skeleton import build_skeleton

from .common import Arrays, Line, Shapes, compare, draw_state, model_config, outlier_share, register

R50, PVT = (f'tpavi/tpavi_{name}_1xb4-60e_avsbench-ov.py' for name in ('r50', 'pvt-v2-b5'))
CLIP = 10  # frames of a clip of the fixtures
_LOSS = 1e-4


def build_model(path: str, shapes: Shapes, seed: int, scales: Mapping[str, float] | None = None) -> nn.Module:
    """Build a closed-set model with drawn weights, by way of a published checkpoint; it takes embeddings of sound.

    Args:
        path (str): of the config, below ``configs/``.
        shapes (Mapping[str, Sequence[int]]): published names to shapes.
        seed (int): of the fixture.
        scales (Mapping[str, float], optional): factors of some drawn weights. Defaults to None.

    Returns:
        nn.Module: the model in evaluation mode.

    Raises:
        ValueError: the names or shapes do not fit the config.
    """
    config = model_config(path)
    config.data_preprocessor.input_size = None
    state = draw_state(shapes, seed)
    for key, scale in (scales or {}).items():
        state[key] *= scale
    config.audio_encoder.init_cfg = None
    state = fit(convert_closed_set(state), build_skeleton(config), VGGISH, path)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config)
    bad = model.load_state_dict(state, strict=False)
    if bad.unexpected_keys or not all(key.startswith('audio_encoder.') for key in bad.missing_keys):
        raise ValueError(f'{path} was not filled: {bad}')
    return model.eval()


@torch.no_grad()
def check_tpavi(model: nn.Module, fixture: Arrays) -> list[Line]:
    """Compare maps, logits and losses; shorter clips are filled up by the data preprocessor."""
    imgs, sound, samples = _inputs(model, fixture)
    valid = np.concatenate([np.arange(CLIP) < s.valid_frames for s in samples])
    frames = torch.from_numpy(valid).nonzero()[:, 0]
    feats, audio = model.extract_feat(imgs, sound)
    maps = {f'feat{i}': x for i, x in enumerate(model.backbone(imgs.flatten(0, 1)), start=1)}
    exists = torch.from_numpy(valid).view(imgs.shape[:2])
    fused, aligned, _ = model.decode_head.fuse((feats, audio), exists)
    for i in range(4):
        maps |= {f'ctx{i + 1}': feats[i], f'tpavi{i + 1}': fused[i], f'audio_emb{i + 1}': aligned[i]}
    maps['dec4'] = model.decode_head.refine[3](fused[3])
    for i in (2, 1, 0):
        maps[f'dec{i + 1}'] = model.decode_head.refine[i](maps[f'dec{i + 2}'], fused[i])
    bounds = dict(feat=1e-4, ctx=1e-4, tpavi=1e-4, audio_emb=1e-4, dec=5e-4)
    lines = []
    for name, ours in maps.items():
        if name not in fixture:
            continue
        chosen = torch.from_numpy(fixture['frames_shown']) if name == 'dec1' else frames
        channels = fixture[name].shape[1]
        lines.append(compare(name, ours[chosen, :channels], fixture[name], bounds[name.rstrip('1234')]))
    logits = model.decode_head((feats, audio), exists).flatten(0, 1)
    found = dict(logits_s8=logits[frames][..., ::8, ::8], label_map=logits[frames].argmax(1))
    if 'logits' in fixture:
        found['logits'] = logits[torch.from_numpy(fixture['frames_shown']), : fixture['logits'].shape[1]]
    for name, ours in found.items():
        measure = (1e-3, outlier_share(0), 'share of pixels') if name == 'label_map' else (1e-3,)
        if name in fixture:
            lines.append(compare(name, ours, fixture[name], *measure))
    padded = logits[~exists.flatten()]
    lines.append(compare('logits of padded frames', padded, np.zeros(padded.shape), 0))
    return lines + _compare_losses(model, fixture, (feats, audio), samples, float(fixture['bg_shift']))


def _inputs(model: nn.Module, fixture: Arrays) -> tuple[Tensor, Tensor, list[SegDataSample]]:
    """Clips (B, T, 3, H, W), their audio and their samples, as training gets them."""
    clips = dict(imgs=[], audio=[])
    samples = []
    for start in range(0, len(fixture['images']), CLIP):
        part = slice(start, start + CLIP)
        real = fixture['video_flag'][part].astype(bool)
        for key, array in (('imgs', 'images'), ('audio', 'audio')):
            clips[key].append(torch.from_numpy(fixture[array][part][real]))
        labels = np.where(fixture['label_flag'][part, None, None], fixture['labels'][part], IGNORED)
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels[real].astype(np.uint8)))
        samples.append(sample)
    data = model.data_preprocessor(dict(inputs=clips, data_samples=samples), training=True)
    return *(torch.stack(data['inputs'][key]) for key in clips), data['data_samples']


def _compare_losses(
    model: nn.Module, fixture: Arrays, x: tuple, samples: list[SegDataSample], shift: float
) -> list[Line]:
    """Compare losses as they are, and with background logits that are greater by a shift."""
    lines, bias = [], model.decode_head.output[-1].bias
    for prefix, more in (('', 0.0), ('shifted_', shift)):
        bias[0] += more
        losses = model.decode_head.loss(x, samples)
        bias[0] -= more
        total = sum(losses.values())
        losses['loss_avm'] = losses['loss_avm'] / model.decode_head.loss_avm.loss_weight
        lines += [compare(f'{prefix}{k}', v, fixture[f'{prefix}{k}'], _LOSS) for k, v in losses.items()]
        lines.append(compare(f'{prefix}loss_total', total, fixture[f'{prefix}loss_total'], _LOSS))
    return lines


def _register(name: str, path: str) -> None:
    """Register fixtures of a backbone."""

    @register(name, state_dict=f'state_dict_{name}.json')
    def run(fixture: Arrays, shapes: Shapes) -> list[Line]:
        return check_tpavi(build_model(path, shapes, int(fixture['seed'])), fixture)


_register('tpavi', R50)
_register('tpavi_pvt', PVT)
