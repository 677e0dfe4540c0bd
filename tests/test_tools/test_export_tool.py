# SPDX-License-Identifier: Apache-2.0
"""Exported models: they label as the models that they were made of, and say what they do not take."""

import shutil
import sys
from pathlib import Path

import onnx
import pytest
import tiny_model
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.models.backbones import SwinTransformer
from mmseg.registry import MODELS
from tiny_inferencer import PIPELINE
from torch.export import Dim

from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.loading import build_pipeline, find_config
from ovavss_mm.apis.model_card import ModelCard
from ovavss_mm.models.layers import deform_attention

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools'))

import export  # noqa: E402
from exporting import check, folder, programs  # noqa: E402
from exporting.swin import exportable_windows  # noqa: E402

SWIN = dict(embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 4, 8], window_size=3)
# of what a config may choose
RICH = dict(
    neck=dict(fusion=dict(type='GatedFusion')),
    decode_head=dict(
        transformer_decoder=dict(num_layers=2), frame_scores=[dict(type='FrameSoundScore'), dict(type='PresenceScore')]
    ),
    classifier=dict(anchor='corner', mask_size='padded', crops='best', logit_scale=None),
)


def save_tiny(path: Path, **deltas: dict) -> tuple[Config, str]:
    """Config and checkpoint of a tiny model of drawn weights, which finds something everywhere."""
    init_default_scope('mmseg')
    torch.manual_seed(3)
    model_cfg = tiny_model.tiny_config(**deltas)
    model = tiny_model.draw_weights(MODELS.build(model_cfg))
    tiny_model.give_masks_edges(model.decode_head)
    meta = dict(dataset_meta=dict(classes=('background', 'dog', 'violin'), base_names=('dog',)))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return Config(dict(model=model_cfg, test_dataloader=dict(dataset=dict(pipeline=PIPELINE)))), str(path)


@pytest.fixture(scope='module')
def rich(tmp_path_factory) -> AVSegInferencer:
    """A model with all that can be exported."""
    config, weights = save_tiny(tmp_path_factory.mktemp('rich') / 'ovavss_r50_release.pth', **RICH)
    return AVSegInferencer(config, weights, device='cpu', show_progress=False)


@pytest.fixture(scope='module')
def graphs(rich: AVSegInferencer) -> dict:
    """Its graphs."""
    return programs.make_graphs(rich.model)


@pytest.fixture(scope='module')
def onnx_folder(rich: AVSegInferencer, graphs: dict, tmp_path_factory) -> Path:
    """It as ONNX."""
    return folder.write_onnx(rich, graphs, tmp_path_factory.mktemp('out') / 'rich', ModelCard(name='rich'))


@pytest.fixture
def exported(onnx_folder: Path) -> AVSegInferencer:
    """The exported model, ready."""
    return AVSegInferencer(onnx_folder, device='cpu', show_progress=False)


def test_label_maps_are_equal(rich, exported):
    """Over sizes and lengths, where many pixels have a label."""
    rows = list(check.compare(rich, check.Subject(exported.model)))
    assert {row.size for row in rows} == {(*size, length) for size in check.SIZES for length in check.LENGTHS}
    assert min(row.equal for row in rows) == 1 and min(row.labelled for row in rows) > 0.02


def test_programs_of_pytorch_are_equal(rich, graphs, tmp_path, monkeypatch):
    """To the last bit, where the model attends as graphs do: on a CPU it does so by sparse products."""
    subject = check.ProgramSubject(rich.model, folder.write_torch(graphs, tmp_path / 'programs'))
    assert all(row.equal == 1 for row in check.compare(rich, subject))
    clip = check.make_clip(rich, (96, 160), 4, 1)
    monkeypatch.setattr(deform_attention, 'uses_planes', lambda x: True)
    expected, given = (s.localize(clip) for s in (check.Subject(rich.model), subject))
    assert set(given.keys()) == {'scores', 'masks', 'frame_sounds'}
    assert all(torch.equal(given[key], expected[key]) for key in given.keys())
    names = rich.model.classifier.tokenizer(['a dog', 'the violin'])
    (embeddings,) = subject.programs['text'](names[:, : names.argmax(1).max() + 1]).values()
    expected = rich.model.classifier.clip_model.encode_text(names, normalize=True)
    assert torch.allclose(embeddings, expected, atol=1e-6)


def test_inferencer_gives_the_same(rich, exported, tmp_path):
    """A video of eight seconds, with other names than the check has, long ones among them."""
    steps = [dict(step, short_side=64) if step['type'] == 'ResizeClip' else step for step in PIPELINE]
    for model in (rich, exported):
        model.pipeline, _ = build_pipeline(Config(dict(test_dataloader=dict(dataset=dict(pipeline=steps)))), True)
    clip = check.make_clip(rich, (64, 96), 8, 2)['inputs']['imgs'][0].permute(0, 2, 3, 1).numpy()
    video = dict(frames=clip, sound=torch.randn(8 * 16000).numpy(), sample_rate=16000)
    names = ['dog', 'a very long name of a thing that nobody has ever heard of', 'violin']
    options = dict(classes=names, synonyms=dict(dog=['puppy']), min_sound_score=0.0, score_thr=0.0)
    expected, given = (model(video, **options)['predictions'][0] for model in (rich, exported))
    assert given['names'] and list(given['names']) == list(expected['names'])
    for one, other in zip(given['frames'], expected['frames'], strict=True):
        assert one['names'].keys() == other['names'].keys()
        for name, row in one['names'].items():
            assert row == pytest.approx(other['names'][name], abs=1e-4)


def test_a_batch_is_as_its_clips(exported):
    """Clips of a batch, also of different sizes, are labelled as each alone."""
    model = exported.model
    model.test_cfg.update(score_thr=0.0)
    model.classifier.sound_thr = None
    clips = [tiny_model.make_clip(6, (64, 96)), tiny_model.make_clip(5, (96, 64))]
    together = model.test_step(tiny_model.collate(clips))
    for clip, given in zip(clips, together, strict=True):
        (alone,) = model.test_step(tiny_model.collate([clip]))
        assert torch.equal(given.pred_sem_seg.data, alone.pred_sem_seg.data)


def test_eight_bits_are_close(rich, onnx_folder, tmp_path):
    """And smaller: matrix products have weights of 8 bits."""
    out = shutil.copytree(onnx_folder, tmp_path / 'int8')
    folder.quantize(onnx_folder / 'localize.onnx', out / 'localize.onnx')
    model = AVSegInferencer(out, device='cpu', show_progress=False).model
    clip = check.make_clip(rich, (96, 160), 3, 1)
    expected, given = (check.Subject(m).localize(clip) for m in (rich.model, model))
    assert torch.allclose(given.scores, expected.scores, atol=0.1)
    assert ((given.masks > 0) == (expected.masks > 0)).float().mean() > 0.9
    types = {node.op_type for node in onnx.load(out / 'localize.onnx').graph.node}
    assert 'MatMulInteger' in types and 'ConvInteger' not in types


def test_graphs_name_their_axes_and_no_files(onnx_folder):
    """Axes of any length have names, and no operator is a custom one."""
    graph = onnx.load(onnx_folder / 'localize.onnx')
    axes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.output)
    }
    assert axes['imgs'] == ['T', 3, '32*H', '32*W'] and axes['masks'] == [6, 'T', '8*H', '8*W']
    assert {node.domain for node in graph.graph.node} <= {''}
    assert str(ROOT).encode() not in (onnx_folder / 'localize.onnx').read_bytes()


def test_names_of_training_and_licences_are_kept(exported):
    """Those of the checkpoint."""
    assert exported.dataset_meta == dict(classes=('background', 'dog', 'violin'), base_names=('dog',))
    assert [row['file'] for row in exported.folder.weights_from] == ['ovavss_r50_release.pth']


# ------------------------------------------------------------------ what is not taken
@pytest.mark.parametrize('size', [(32, 96), (96, 100)])
def test_sizes_that_the_graph_does_not_take(exported, size):
    with pytest.raises(ValueError, match=rf'multiples of 32, at least 64, got \({size[0]}, {size[1]}\)'):
        exported.model.localize(torch.zeros(2, 3, *size), torch.zeros(2, 1, 96, 64))


def test_sound_of_another_front_end_is_refused(exported):
    with pytest.raises(ValueError, match=r"localize.onnx takes .*'audio': .* got .*\(2, 1, 64, 96\)"):
        exported.model.localize(torch.zeros(2, 3, 64, 96), torch.zeros(2, 1, 64, 96))


@pytest.mark.parametrize('damage, message', [('missing', 'has no name.onnx'), ('cut', 'name.onnx is no graph')])
def test_damaged_folders_are_named(onnx_folder, tmp_path, damage, message):
    copy = shutil.copytree(onnx_folder, tmp_path / 'copy')
    if damage == 'missing':
        (copy / 'name.onnx').unlink()
    else:
        (copy / 'name.onnx').write_bytes((copy / 'name.onnx').read_bytes()[:1000])
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        AVSegInferencer(copy, device='cpu')


@pytest.mark.parametrize(
    'config, reason',
    [
        ('tpavi_mini', 'AVEncoderDecoder with a TPAVIHead is not OV-AVSS'),
        ('gavs_mini', 'PromptedSAM is not OV-AVSS'),
        ('clip-vis_mini', 'is not OV-AVSS'),
    ],
)
def test_other_systems_say_why_not(config, reason):
    init_default_scope('mmseg')
    cfg = Config.fromfile(find_config(config))
    with pytest.raises(ValueError, match=f'cannot be exported: .*{reason}'):
        programs.make_graphs(MODELS.build(cfg.model).eval())


@pytest.mark.parametrize(
    'deltas, reason',
    [
        (
            dict(decode_head=dict(num_classes=3), classifier=dict(_delete_=True, type='ClosedSetClassifier')),
            'closed-set',
        ),
        (dict(classifier=dict(score='sigmoid')), 'scores of names by sigmoid have no graph'),
    ],
)
def test_parts_without_a_graph_say_so(deltas, reason):
    init_default_scope('mmseg')
    assert reason in programs.why_not(MODELS.build(tiny_model.tiny_config(**deltas)))


def test_a_folder_that_is_there_stays(tmp_path, capsys):
    (tmp_path / 'mine').write_text('x')
    with pytest.raises(SystemExit) as end:
        export.main(['ovavss_mini', 'none', str(tmp_path)])
    assert 'is there and not empty' in str(end.value)
    assert [path.name for path in tmp_path.iterdir()] == ['mine']


# ------------------------------------------------------------------ Swin
@pytest.mark.parametrize('size', [(96, 96), (64, 160), (100, 44)])
def test_windows_are_those_of_mmseg(size):
    """Values are the same, with and without padding, and mmseg's own windows are back afterwards."""
    backbone = tiny_model.draw_weights(SwinTransformer(**SWIN))
    backbone.eval()
    imgs = torch.randn(2, 3, *size)
    expected = backbone(imgs)
    with exportable_windows(backbone):
        given = backbone(imgs)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(given, expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(backbone(imgs), expected, strict=True))


@torch.no_grad()
def test_swin_of_any_size():
    """A program of Swin takes sizes with and without padding at each level, and any number of frames."""
    backbone = tiny_model.draw_weights(SwinTransformer(**SWIN))
    backbone.eval()
    frames, *sides = Dim('T', min=1), *(Dim(side, min=2) for side in 'HW')
    shape = {0: frames, 2: 32 * sides[0], 3: 32 * sides[1]}
    with exportable_windows(backbone):
        program = torch.export.export(backbone, (torch.randn(3, 3, 160, 352),), dynamic_shapes=(shape,), strict=False)
    run = program.module(check_guards=False)
    for count, *size in ((1, 64, 96), (5, 96, 96), (2, 160, 64)):
        imgs = torch.randn(count, 3, *size)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(run(imgs), backbone(imgs), strict=True))
