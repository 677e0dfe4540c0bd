# SPDX-License-Identifier: Apache-2.0
"""Versions, and mmcv with, without and with broken compiled ops."""

import os
import subprocess
import sys
import textwrap
import warnings
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import torch

from ovavss_mm import compat


# ------------------------------------------------------------------ a Python with the mmcv we want
def run_python(code: str, first_path: Path | None = None) -> str:
    """Run code in a new process and return what it printed; ``first_path`` is searched first."""
    path = [str(first_path)] if first_path else []
    path += [str(Path(compat.__file__).parents[1]), os.environ.get('PYTHONPATH', '')]
    result = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(p for p in path if p)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.fixture
def mmcv_copy(tmp_path):
    """A folder with an mmcv whose modules are links to the installed ones, without compiled ops."""
    package = tmp_path / 'site' / 'mmcv'
    package.mkdir(parents=True)
    for entry in compat._package_root('mmcv').iterdir():
        if not entry.name.startswith(('_ext', '__pycache__')):
            (package / entry.name).symlink_to(entry)
    return package


def test_import_is_light(mmcv_copy):
    """The package, and with it the help texts of the tools, must not wait for torch."""
    code = """
        import sys
        import ovavss_mm
        print([name for name in ('torch', 'cv2', 'mmcv', 'mmseg.models', 'mmdet') if name in sys.modules])
    """
    assert run_python(code, mmcv_copy.parent).strip() == '[]'


@pytest.mark.parametrize('first', ['', 'from mmseg.registry import MODELS; MODELS.get("EncoderDecoder")'])
def test_custom_imports_of_the_package_registers_everything(first):
    """In the registries of mmseg and from those of mmengine, also if mmseg has looked into its own before."""
    code = f"""
        import ovavss_mm.version
        {first}
        from mmengine import registry
        from mmengine.config import Config
        Config.fromfile({str(Path(__file__).parents[1] / 'configs/_base_/default_runtime.py')!r})
        registry.init_default_scope('mmseg')
        parts = dict(
            MODELS='AVEncoderDecoder', DATASETS='AVSBenchOVDataset', TRANSFORMS='LoadClipFrames', METRICS='OVIoUMetric',
            DATA_SAMPLERS='SeededInfiniteSampler', VISUALIZERS='AVSegVisualizer', HOOKS='AtomicCheckpointHook',
            RUNNERS='AVRunner', OPTIM_WRAPPERS='FiniteOptimWrapper',
            OPTIM_WRAPPER_CONSTRUCTORS='PrefixOptimWrapperConstructor',
        )
        for name, part in parts.items():
            with getattr(registry, name).switch_scope_and_registry(None) as found:
                assert found.get(part).__module__.startswith('ovavss_mm.'), part
        print(sorted(parts))
    """
    assert run_python(code).splitlines()[-1] == str(sorted(compat.PARTS))


def test_a_broken_mmseg_does_not_stop_the_import(tmp_path):
    """The doctor and the tools that need no model work on."""
    (tmp_path / 'mmseg').mkdir()
    (tmp_path / 'mmseg/version.py').write_text("__version__ = '1.2.2'\n")
    (tmp_path / 'mmseg/__init__.py').write_text("raise AssertionError('another mmcv is needed')\n")
    assert run_python('import ovavss_mm; print(ovavss_mm.__version__)', tmp_path).strip()


def test_an_import_that_comes_too_late_is_warned_of(mmcv_copy):
    """What the hosts have put in the place of missing ops stays there."""
    code = """
        import types, sys, warnings
        sys.modules['mmseg.models'] = types.ModuleType('mmseg.models')
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            import ovavss_mm
        print([str(w.message) for w in caught])
    """
    assert 'mmseg.models was imported before ovavss_mm' in run_python(code, mmcv_copy.parent)


def test_everything_runs_without_ops(mmcv_copy):
    """The hosts import, the pixel decoder works, other ops fail with advice when called."""
    code = """
        import warnings
        import ovavss_mm
        from ovavss_mm import compat
        assert compat.ensure_mmcv_ops() is False

        import torch
        import mmdet.models, mmseg.models
        from mmcv.ops import nms, point_sample
        from mmcv.ops.multi_scale_deform_attn import (
            MultiScaleDeformableAttention,
            MultiScaleDeformableAttnFunction,
        )
        from mmcv.utils.ext_loader import check_ops_exist
        from mmdet.models.layers import MSDeformAttnPixelDecoder
        from mmengine.config import ConfigDict

        assert not check_ops_exist()
        attention = dict(embed_dims=16, num_heads=2, num_levels=2, num_points=2, batch_first=True)
        decoder = MSDeformAttnPixelDecoder(
            in_channels=[4, 8, 8], strides=[4, 8, 16], num_outs=2,
            feat_channels=16, out_channels=16,
            norm_cfg=dict(type='GN', num_groups=4),
            encoder=ConfigDict(
                num_layers=1,
                layer_cfg=dict(
                    self_attn_cfg=attention, ffn_cfg=dict(embed_dims=16, feedforward_channels=16)
                ),
            ),
            positional_encoding=dict(num_feats=8, normalize=True),
        )
        features = [torch.rand(1, c, 32 // s, 32 // s) for c, s in ((4, 4), (8, 8), (8, 16))]
        mask_features, levels = decoder(features)
        assert mask_features.shape == (1, 16, 8, 8), mask_features.shape
        assert [tuple(x.shape) for x in levels] == [(1, 16, 2, 2), (1, 16, 4, 4)]
        mask_features.sum().backward()
        assert point_sample(torch.rand(1, 2, 4, 4), torch.rand(1, 5, 2)).shape == (1, 2, 5)

        # A GPU goes through the autograd function: call it twice, one warning.
        args = (
            torch.rand(1, 20, 2, 4, requires_grad=True),
            torch.tensor([[4, 4], [2, 2]]),
            torch.tensor([0, 16]),
            torch.rand(1, 3, 2, 2, 2, 2),
            torch.rand(1, 3, 2, 2, 2),
            64,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            for _ in range(2):
                MultiScaleDeformableAttnFunction.apply(*args).sum().backward()
        messages = [str(w.message) for w in caught if 'compiled ops' in str(w.message)]
        assert len(messages) == 1 and compat.INSTALL_OPS_COMMAND in messages[0], messages

        try:
            nms(torch.rand(2, 4), torch.rand(2), 0.5)
        except RuntimeError as error:
            assert 'nms' in str(error) and compat.INSTALL_OPS_COMMAND in str(error), error
            print('all well')
    """
    assert 'all well' in run_python(code, mmcv_copy.parent)


def test_ops_that_are_there_are_left_alone(mmcv_copy):
    """Whatever ``mmcv._ext`` there is stays, and is the one that mmcv.ops calls."""
    (mmcv_copy / '_ext.py').write_text(
        'def __getattr__(name):\n'
        '    if name.startswith("__"):\n'
        '        raise AttributeError(name)\n'
        '    return lambda *args, **kwargs: f"{name} of the compiled ops"\n'
    )
    code = """
        import ovavss_mm
        from ovavss_mm import compat
        import mmcv._ext
        from mmcv.ops import multi_scale_deform_attn
        assert compat.ensure_mmcv_ops() is True
        assert not isinstance(mmcv._ext, compat.StandInOps)
        assert multi_scale_deform_attn.ext_module is mmcv._ext
        print(mmcv._ext.ms_deform_attn_forward(), mmcv._ext.__file__)
    """
    printed = run_python(code, mmcv_copy.parent)
    assert 'ms_deform_attn_forward of the compiled ops' in printed
    assert str(mmcv_copy / '_ext.py') in printed


def test_broken_ops_are_named(mmcv_copy):
    """Ops that cannot be loaded end in an error with file, torch version and both ways out."""
    library = mmcv_copy / f'_ext{EXTENSION_SUFFIXES[0]}'
    library.write_bytes(b'compiled for something else')
    code = """
        try:
            import ovavss_mm
        except ImportError as error:
            print(error)
    """
    printed = run_python(code, mmcv_copy.parent)
    assert str(library) in printed
    assert f'torch {torch.__version__}' in printed
    assert compat.INSTALL_OPS_COMMAND in printed and compat.REMOVE_OPS_COMMAND in printed


def test_real_compiled_ops(tmp_path, repo_root):
    """With a wheel that has the ops: they are used, and agree with PyTorch on a CPU."""
    folder = Path(os.environ.get('OVAVSS_OPS_WHEELS', repo_root.parent / 'shared' / 'wheels'))
    tag = f'cp{sys.version_info.major}{sys.version_info.minor}'
    wheels = sorted(folder.glob(f'onedl_mmcv*{tag}-linux*.whl'))
    if not wheels:
        pytest.skip(f'no wheel of onedl-mmcv with ops for {tag} in {folder} (OVAVSS_OPS_WHEELS)')
    with zipfile.ZipFile(wheels[-1]) as wheel:
        wheel.extractall(tmp_path)
    code = """
        import ovavss_mm
        from ovavss_mm import compat
        import torch, mmcv._ext
        from mmcv.ops import nms
        from mmcv.ops import multi_scale_deform_attn as module
        from mmcv.utils.ext_loader import check_ops_exist

        assert compat.ensure_mmcv_ops() is True and check_ops_exist()
        assert mmcv._ext.__file__.endswith('.so') and module.ext_module is mmcv._ext
        boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0], [20.0, 20.0, 29.0, 29.0]])
        assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)[1].tolist() == [0, 2]

        torch.manual_seed(0)
        shapes, start = torch.tensor([[4, 6], [2, 3]]), torch.tensor([0, 24])
        attention = module.MultiScaleDeformableAttention(32, 4, 2, 3, batch_first=True).eval()
        value, points = torch.rand(2, 30, 32), torch.rand(2, 30, 2, 2)
        found = attention(
            value, reference_points=points, spatial_shapes=shapes, level_start_index=start
        )
        seen = []
        plain = module.multi_scale_deformable_attn_pytorch
        module.multi_scale_deformable_attn_pytorch = lambda *a: seen.append(a) or plain(*a)
        attention(value, reference_points=points, spatial_shapes=shapes, level_start_index=start)
        inner = compat.StandInOps().ms_deform_attn_forward(
            seen[0][0], shapes, start, seen[0][2], seen[0][3], 64
        )
        stood_in = attention.output_proj(inner) + value
        torch.testing.assert_close(found, stood_in)
        print('all well')
    """
    assert 'all well' in run_python(code, tmp_path)


# ------------------------------------------------------------------ the stand-in itself
def deformable_inputs() -> tuple:
    """Draw values (2, 30, 4, 8), shapes, starts, locations and weights, in double precision."""
    value = torch.rand(2, 30, 4, 8, dtype=torch.double)
    locations = torch.rand(2, 7, 4, 2, 3, 2, dtype=torch.double) * 1.2 - 0.1  # some outside
    weights = torch.rand(2, 7, 4, 2, 3, dtype=torch.double)
    return value, torch.tensor([[4, 6], [2, 3]]), torch.tensor([0, 24]), locations, weights


@pytest.mark.filterwarnings('ignore:mmcv is installed without compiled ops')
def test_stand_in_attention_has_the_right_gradients():
    """The op's own backward gives what autograd gives through mmcv's PyTorch version."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    value, shapes, start, locations, weights = deformable_inputs()
    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    expected = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    grad_output = torch.rand_like(expected)
    expected_grads = torch.autograd.grad(expected, inputs, grad_output)

    ops = compat.StandInOps()
    with torch.no_grad():
        found = ops.ms_deform_attn_forward(value, shapes, start, locations, weights, im2col_step=64)
    grads = [torch.full_like(x, torch.nan) for x in inputs]
    ops.ms_deform_attn_backward(value, shapes, start, locations, weights, grad_output, *grads, im2col_step=64)
    torch.testing.assert_close(found, expected.detach())
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad.detach(), expected_grad)


@pytest.mark.filterwarnings('ignore:mmcv is installed without compiled ops')
def test_stand_in_attention_keeps_the_dtype_under_autocast():
    """As with the compiled op: bfloat16 in, bfloat16 out, whatever autocast would prefer."""
    value, shapes, start, locations, weights = deformable_inputs()
    half = [x.to(torch.bfloat16) for x in (value, locations, weights)]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = compat.StandInOps().ms_deform_attn_forward(half[0], shapes, start, half[1], half[2], im2col_step=64)
    assert found.dtype == torch.bfloat16 and found.shape == (2, 7, 32)


def test_stand_in_ops_exist_and_raise_by_name():
    """Any op can be looked up, as mmcv.ops does at import; calling it names it and the command."""
    ops = compat.StandInOps()
    for name in ('nms', 'roi_align_forward', 'sigmoid_focal_loss_backward'):
        with pytest.raises(RuntimeError, match=name):
            getattr(ops, name)(1, key=2)
    assert not hasattr(ops, '__path__')


# ------------------------------------------------------------------ versions
@pytest.mark.parametrize(
    'versions',
    [
        {'mmcv': '2.1.0', 'mmdet': '3.3.0', 'mmseg': '1.2.2', 'mmengine': '0.10.4'},
        {'torch': '2.11.0+cu130', 'mmcv': '2.3.6', 'mmengine': '0.10.12'},
        {'mmcv': '2.2.0rc1'},
    ],
)
def test_versions_that_are_fine(monkeypatch, versions):
    """The originals and their continuation are accepted, as are builds and release candidates."""
    real = compat.installed_version
    monkeypatch.setattr(compat, 'installed_version', lambda name: versions.get(name) or real(name))
    assert compat.check_versions() is None, 'nothing is raised'


@pytest.mark.parametrize(
    ('name', 'version', 'message'),
    [
        ('mmcv', '1.7.2', r'mmcv >=2\.1\.0,<3\.0, but version 1\.7\.2.*pip install "onedl-mmcv>='),
        ('mmseg', '1.1.0', r'mmseg .* but version 1\.1\.0.*onedl-mmsegmentation'),
        ('mmengine', '1.0.0', 'mmengine .* but version'),
        ('mmdet', None, 'mmdet .* not installed.*onedl-mmdetection'),
    ],
)
def test_versions_that_are_not(monkeypatch, name, version, message):
    """A wrong or missing library is named with the range and the command."""
    real = compat.installed_version
    monkeypatch.setattr(compat, 'installed_version', lambda module: version if module == name else real(module))
    with pytest.raises(ImportError, match=message):
        compat.check_versions()


def test_installed_version_is_that_of_the_module():
    """What is read without importing is what the module says of itself."""
    import mmseg

    assert compat.installed_version('mmseg') == mmseg.__version__
    assert compat.installed_version('torch') == torch.__version__
    assert compat.installed_version('no_such_package') is None


# ------------------------------------------------------------------ a clean screen
def test_quiet_import_drops_the_chatter_alone(tmp_path, monkeypatch, capsys):
    """Other lines are kept, also when the import fails."""
    (tmp_path / 'chatty.py').write_text(f'print("{compat.HOST_CHATTER}. Skipping.")\nprint("worth reading")\n')
    (tmp_path / 'failing.py').write_text('print("before the end")\nimport no_such_package\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert compat.import_quietly('chatty').__name__ == 'chatty'
    assert capsys.readouterr().out == 'worth reading\n'
    with pytest.raises(ModuleNotFoundError, match='no_such_package'):
        compat.import_quietly('failing')
    assert capsys.readouterr().out == 'before the end\n'


def test_only_known_warnings_are_hidden():
    """A filter must not hide warnings that resemble the known ones in category only."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        compat.silence_host_warnings()
        warnings.warn('torch.meshgrid: in an upcoming release, it will be ...', stacklevel=1)
        warnings.warn('torch.meshgrid is something else', stacklevel=1)
    assert [str(w.message) for w in caught] == ['torch.meshgrid is something else']
