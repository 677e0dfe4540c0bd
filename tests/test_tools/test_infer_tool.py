# SPDX-License-Identifier: Apache-2.0
"""``tools/infer.py``, and the mini world's ``--video``, as commands."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from ovavss_mm.exports import FORMATS

ROOT = Path(__file__).parents[2]


def load(path: str):
    """Import a script."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / 'tools' / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def script():
    return load('infer.py')


@pytest.fixture
def run(script):
    """Run the script in this process; warnings are shown as before afterwards."""
    show = warnings.showwarning

    def run(*args):
        script.main([str(arg) for arg in args])

    yield run
    warnings.showwarning = show


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    """A video of the mini world, and the mini model with drawn weights."""
    folder = tmp_path_factory.mktemp('mini')
    video = folder / 'mini.mp4'
    args = ['--video', video, '--seconds', '3', '--video-fps', '5', '--sounding', 'red-star']
    load('dataset_converters/mini_world.py').main([str(arg) for arg in args])
    torch.manual_seed(0)
    init_default_scope('mmseg')
    model = MODELS.build(Config.fromfile(ROOT / 'configs/mini/ovavss_mini.py').model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), folder / 'drawn.pth')
    return video, folder / 'drawn.pth'


def test_video_of_the_mini_world(tmp_path, capsys):
    tool = load('dataset_converters/mini_world.py')
    path = tmp_path / 'a.mp4'
    tool.main(['--video', str(path), '--seconds', '2', '--video-fps', '4', '--seed', '5'])
    assert path.stat().st_size > 1000
    out = capsys.readouterr().out
    assert f'{path}: 2 s' in out and out.count(' sounds in the seconds ') == 2
    with pytest.raises(SystemExit, match='error: .*pink-star'):
        tool.main(['--video', str(path), '--sounding', 'pink-star'])
    with pytest.raises(SystemExit):
        tool.main([])


def test_label_a_video(run, mini, tmp_path, capsys):
    video, weights = mini
    names = tmp_path / 'names.txt'
    names.write_text('red-star\n\nblue-disc\n')
    run(
        *(video, '--classes-file', names, '--model', 'ovavss_mini', '--weights', weights),
        *('--synonyms', 'blue-disc=blue ball,marble', '--fps', '2', '--device', 'cpu'),
        *('--score-thr', '0.1', '--out-dir', tmp_path / 'out'),
    )
    content = json.loads((tmp_path / 'out/pred/mini.json').read_text())
    assert content['vocabulary'] == ['red-star', 'blue-disc']
    assert content['synonyms'] == {'blue-disc': ['blue ball', 'marble']}
    assert content['score_thr'] == 0.1 and len(content['frames']) == 6
    assert (tmp_path / 'out/vis/mini.mp4').is_file()
    out = capsys.readouterr().out
    assert f'{video}: 3 s' in out and str(tmp_path / 'out/pred/mini.json') in out


def test_files_for_other_tools(run, mini, tmp_path, capsys):
    video, weights = mini
    out, formats = tmp_path / 'out', ('coco', 'mots', 'srt')
    run(
        *(video, '--classes', 'red-star', '--model', 'ovavss_mini', '--weights', weights, '--device', 'cpu'),
        *('--export', *formats, '--no-save-vis', '--out-dir', out),
    )
    printed = capsys.readouterr().out
    for path in ('export/coco/mini.json', 'export/mots/mini', 'export/srt/mini.srt', 'export/frames/mini'):
        assert (out / path).exists() and str(out / path) in printed
    with pytest.raises(SystemExit, match="error: no export 'ass' .*there are coco, youtube-vis"):
        run(video, '--classes', 'a', '--model', 'ovavss_mini', '--weights', weights, '--export', 'ass')
    with pytest.raises(SystemExit, match=r"error: export \['srt'\] needs out_dir \(--out-dir\)"):
        run(video, '--classes', 'a', '--model', 'ovavss_mini', '--weights', weights, '--export', 'srt')


def test_help_names_every_export(script, capsys):
    with pytest.raises(SystemExit):
        script.parse_args(['--help'])
    text = ' '.join(capsys.readouterr().out.replace('-\n', '-').split())
    assert [kind for kind in FORMATS if kind not in text] == [] and '--export cvat coco srt' in text


@pytest.mark.parametrize(
    'names',
    [['a dog,violin'], ['a dog,', 'violin'], ['a dog', 'violin'], ['["a dog", "violin"]'], ['["a dog",', '"violin"]']],
)
def test_names_with_commas_and_as_json(script, names):
    args = script.parse_args(['x.mp4', '--classes', *names, '--audio-track', '2'])
    options = script.call_options(args)
    assert list(options['classes']) == ['a dog', 'violin'] and options['audio_track'] == 2


def test_errors_are_a_line(run, mini, tmp_path, capsys):
    video, weights = mini
    model = ('--model', 'ovavss_mini', '--weights', weights)
    for args, message in (
        ((video, '--classes', 'a', '--model', 'x', '--weights', weights), "no config 'x'"),
        ((video, '--classes', 'a', *model, '--device', 'tpu'), "no device 'tpu'"),
        ((video, '--classes', 'a', *model[:2]), 'no weights were given'),
        ((tmp_path / 'gone.mp4', '--classes', 'a', *model), 'there is no video'),
        ((video, '--classes', 'a', 'A', *model), 'given twice'),
        ((video, '--classes', 'a', '--synonyms', 'b', *model), 'NAME=WORD'),
        ((video, '--classes-file', tmp_path / 'gone.txt', *model), 'gone.txt'),
        ((video, *model), 'give the names to look for'),
        ((video, '--classes', '[a,', 'b]', *model), 'one by one, with commas, or as a JSON list'),
        ((video, '--classes', 'a', '--audio-track', '2', *model), r'mini\.mp4 has 1; got 2'),
    ):
        with pytest.raises(SystemExit, match=f'error: .*{message}'):
            run(*args)
    for args in ((video, '--classes', 'a', '--weights', 'x'), (video, video, '--classes', 'a', '--sound', 'x.wav')):
        with pytest.raises(SystemExit) as error:
            run(*args)
        assert error.value.code == 2
    capsys.readouterr()


@pytest.mark.parametrize('folder', [False, True])
def test_one_bad_video_does_not_stop_the_others(run, mini, tmp_path, capsys, folder):
    video, weights = mini
    (tmp_path / 'in').mkdir()
    bad = tmp_path / 'in/bad.mp4'
    bad.write_text('no video')
    if folder:
        shutil.copy(video, tmp_path / 'in/mini.mp4')
    with pytest.raises(SystemExit, match='1 of 2 inputs could not be labelled'):
        run(
            *((tmp_path / 'in',) if folder else (bad, video)),
            *('--classes', 'red-star', '--model', 'ovavss_mini'),
            *('--weights', weights, '--no-save-vis', '--out-dir', tmp_path / 'out'),
        )
    assert (tmp_path / 'out/pred/mini.json').is_file()
    assert 'bad.mp4: error: ' in capsys.readouterr().out


def test_seconds_in_which_nothing_visible_sounds(run, mini, tmp_path, capsys):
    video, weights = mini
    model = ('--model', 'ovavss_mini', '--weights', weights, '--device', 'cpu')
    run(video, '--classes', 'red-star', *model, '--min-sound-score', '1', '--out-dir', tmp_path)
    content = json.loads((tmp_path / 'pred/mini.json').read_text())
    assert content['min_sound_score'] == 1 and content['silent']['intervals'] == [[0, 3]]
    assert '  none of the names is heard\n  nothing visible sounds: 3 s (0-3)\n' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='error: min_sound_score must be from 0 to 1, got 7'):
        run(video, '--classes', 'red-star', *model, '--min-sound-score', '7')


def test_help_teaches_and_needs_no_torch():
    """``mim run`` asks for it before each run."""
    code = (
        'import sys, runpy; sys.argv = ["infer.py", "--help"]\n'
        f'try: runpy.run_path({str(ROOT / "tools/infer.py")!r}, run_name="__main__")\n'
        'finally: assert "torch" not in sys.modules'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=dict(os.environ, COLUMNS='120')
    )
    assert result.returncode == 0, result.stderr
    for word in ('examples:', '--classes dog "baby crying"', 'vis/NAME.mp4', '--synonyms', '--min-sound-score S'):
        assert word in result.stdout


def test_of_many_objects_the_longest_are_printed(script, capsys):
    figures = dict(intervals=[[0, 1]], area=0.1, sound=0.5, score=0.9)
    objects = [dict(figures, id=i, name='dog', number=i, seconds=i) for i in range(1, 11)]
    names = dict(dog=dict(figures, seconds=10))
    silent = dict(intervals=[], seconds=0)
    script.report(dict(video='a.mp4', duration=10, names=names, objects=objects, silent=silent))
    out = capsys.readouterr().out
    lines = [line.strip() for line in out.splitlines() if line.startswith('    ')]
    assert 'nothing visible' not in out
    assert [line.split(':')[0] for line in lines] == [*(f'dog {i}' for i in range(3, 11)), 'and 2 more']


def test_a_model_in_a_folder(run, mini, tmp_path, capsys):
    """As --model alone; it has its weights."""
    load('model_converters/publish.py').main(
        ['ovavss_mini', str(mini[1]), str(tmp_path / 'model'), '--dtype', 'float32']
    )
    options = [
        mini[0],
        '--classes',
        'red-star',
        '--min-sound-score',
        '0',
        '--score-thr',
        '0',
        '--no-save-vis',
        '--out-dir',
    ]
    run(*options, tmp_path / 'a', '--model', tmp_path / 'model', '--device', 'cpu')
    run(*options, tmp_path / 'b', '--model', 'ovavss_mini', '--weights', mini[1], '--device', 'cpu')
    a, b = (json.loads((tmp_path / name / 'pred/mini.json').read_text()) for name in 'ab')
    assert a['names'] and (a['names'], a['frames']) == (b['names'], b['frames'])
    assert a['weights'] == str(tmp_path / 'model/model.safetensors')
    capsys.readouterr()
    with pytest.raises(SystemExit, match='error: .*leave out weights='):
        run(*options, tmp_path / 'c', '--model', tmp_path / 'model', '--weights', mini[1])
