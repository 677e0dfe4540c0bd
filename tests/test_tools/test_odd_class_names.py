# SPDX-License-Identifier: Apache-2.0
"""Names to look for that are paths, formats, control characters or far too long: text, or a plain refusal."""

import importlib.util
import json
import re
import shutil
import sys
import warnings
from pathlib import Path

import av
import pytest
from video_files import clicks, numbered, write_mp4

ROOT = Path(__file__).parents[2]
MEGABYTE = 2**20
TAKEN = (
    *('../../up', '/tmp/up', 'a/b', '..', 'CON', 'x.json', '~', '-x'),
    *('{0.__class__}', '{}', '%s', '%(name)s', '$(touch up)', '[red]x[/red]', '<b>'),
    *('\u202egnp.dog', 'dog\u200d', 'ünïcödé 🎸'),
)
CONTROL = ('do\ng', 'do\rg', 'do\0g', 'do\x1b[31mg', 'do\x07g', 'do\u2028g', '\ud800')


@pytest.fixture(scope='module')
def tool():
    """``tools/infer.py`` as a module."""
    spec = importlib.util.spec_from_file_location('odd_infer', ROOT / 'tools/infer.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def video(tmp_path_factory) -> Path:
    """Two seconds."""
    folder = tmp_path_factory.mktemp('odd_video')
    return write_mp4(folder / 'clip.mp4', numbered(10), 5.0, sound=clicks(2, [1.0]))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The folder for results, deep enough for '../../up', and the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'some' / 'where' / 'out'


@pytest.fixture
def run(tool, video, place, capsys):
    """Run the tool; gives its exit code, what it printed, and its errors."""
    show = warnings.showwarning

    def run(*args):
        weights = ROOT / 'ovavss_mm/mini_world/ovavss_mini_hearing.safetensors'
        common = ['--model', 'ovavss_mini_hearing', '--weights', weights, '--device', 'cpu']
        command = [video, *args, *common, '--out-dir', place]
        code = 0
        try:
            tool.main([str(arg) for arg in command])
        except SystemExit as error:
            code = 1 if isinstance(error.code, str) else error.code
            print(error.code)
        return code, capsys.readouterr().out

    yield run
    warnings.showwarning = show


def listing(folder: Path) -> dict[str, tuple]:
    """All that is in a folder, with sizes and times."""
    found = (path for path in folder.rglob('*'))
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in found if p.is_file()}


def outputs(folder: Path) -> list[str]:
    """Names of what was written."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


RESULTS = [*(f'pred/clip/{i:09d}.png' for i in (0, 1000)), 'pred/clip.json', 'vis/clip.mp4']


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_names_are_text_to_the_tool(run, place, tmp_path):
    """Given on the command line and in a file with a byte order mark; nothing but the results is written."""
    names = tmp_path / 'names.txt'
    names.write_text('\ufeff' + '\r\n'.join(TAKEN) + '\n\n', encoding='utf-8')
    before = listing(tmp_path)
    synonyms = ('--synonyms', 'CON=../../also up,%d', 'a/b=x=y')
    for args in (('--classes-file', names), ('--classes', *TAKEN[:7])):
        code, out = run(*args, *synonyms, '--score-thr', '0', '--prompt-templates', '%s of {}/..')
        assert code == 0, out
        content = json.loads((place / 'pred/clip.json').read_text(encoding='utf-8'))
        assert content['vocabulary'] == list(TAKEN if 'file' in args[0] else TAKEN[:7])
        assert content['synonyms']['a/b'] == ['x=y']
        assert outputs(place) == sorted(RESULTS)
        after = listing(tmp_path)
        assert before == {k: v for k, v in after.items() if not k.startswith(str(place))}
        assert out.replace('\n', '').isprintable()
    with av.open(str(place / 'vis/clip.mp4')) as file:
        assert sum(1 for _ in file.decode(video=0)) == 10


LONG = 'x' * MEGABYTE


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        *((('--classes', 'dog', name), 'control characters') for name in CONTROL),
        (('--classes', 'dog', '--synonyms', 'dog=pup\x1b[0m'), 'control characters'),
        (('--classes', LONG), 'up to 500 letters, has 1048576'),
        (('--classes', ' ' * MEGABYTE), '1 to 32766 names, got 0'),
        (('--classes', 'dog', '--synonyms', LONG), 'NAME=WORD,WORD, got'),
        (('--classes', 'dog', '--synonyms', f'{LONG}=pup'), 'none of the class names'),
        (('--classes', 'dog', '--synonyms', f'dog={LONG}'), 'up to 500 letters'),
        (('--classes', 'dog', '--prompt-templates', f'{LONG} {{}}'), 'prompts of up to 500'),
        (('--classes', 'dog', '--prompt-templates', LONG), 'no set of prompt templates'),
        (('--classes', 'dog', '--prompt-templates', '{0.__class__} {}'), 'no other braces'),
        (('--classes', 'dog', '--prompt-templates', '{}\n{}', '{}\0'), 'no other braces'),
    ],
    ids=lambda value: None if isinstance(value, str) else ascii(value[1:])[-40:-2],
)
def test_refusals_are_a_line(run, place, tmp_path, args, words):
    before = listing(tmp_path)
    code, out = run(*args)
    line = out.splitlines()[-1]
    assert code == 1 and line.startswith('error: ')
    assert re.search(words, line), line
    assert len(line) < 600 and line.isprintable() and 'Traceback' not in out
    assert listing(tmp_path) == before and not place.exists()


def test_a_file_of_names_in_another_encoding_is_named(run, tmp_path, place):
    names = tmp_path / 'names.txt'
    names.write_bytes('é'.encode('latin-1'))
    code, out = run('--classes-file', names)
    assert code == 1 and f'error: {names} is not in UTF-8' in out and not place.exists()


def test_names_of_files_do_not_steer_the_terminal(tool, place, tmp_path, capsys):
    """Neither in an error, nor in a list of several."""
    show = warnings.showwarning
    options = ['--classes', 'dog', '--device', 'cpu', '--no-save-vis', '--model', 'ovavss_mini_hearing']
    options += ['--weights', str(ROOT / 'ovavss_mm/mini_world/ovavss_mini_hearing.safetensors')]
    try:
        for videos in (['gone\x1b[31m.mp4'], ['gone\x1b[31m.mp4', '\u202eb.mp4']):
            with pytest.raises(SystemExit) as error:
                tool.main([*videos, *options])
            shown = f'{error.value.code}{capsys.readouterr().out}'
            assert r'gone\x1b[31m.mp4' in shown and shown.replace('\n', '').isprintable()
    finally:
        warnings.showwarning = show


# ------------------------------------------------------------------ the page
@pytest.fixture(scope='module')
def runner():
    """Of the page, with the mini model."""
    sys.path.append(str(ROOT / 'tools'))
    from web.limits import Limits
    from web.runner import DemoRunner

    from ovavss_mm.apis import AVSegInferencer

    weights = ROOT / 'ovavss_mm/mini_world/ovavss_mini_hearing.safetensors'
    inferencer = AVSegInferencer('ovavss_mini_hearing', str(weights), 'cpu', show_progress=False)
    with DemoRunner(inferencer, Limits()) as runner:
        yield runner


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_names_are_text_to_the_page(runner, video, tmp_path):
    before = listing(tmp_path)
    result = runner.run('s', str(video), '\n'.join(TAKEN), lambda *_: None)
    assert json.loads(Path(result.timeline).read_text())['vocabulary'] == list(TAKEN)
    found = [Path(path).name for path in outputs(runner.root)]
    assert found == ['clip_labelled.json', 'clip_labelled.mp4']
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        *((name, 'control characters') for name in CONTROL[2:5]),
        ('\ud800', 'control characters'),
        (LONG, 'up to 100 letters'),
        ('x,' * (MEGABYTE // 2), 'the server takes 200'),
        (',\n' * (MEGABYTE // 2), 'at least one name'),
        ('dog\n \x1b', 'control characters'),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_refusals_of_the_page(runner, video, tmp_path, text, words):
    before = listing(tmp_path)
    with pytest.raises(ValueError, match=words) as error:
        runner.run('s', str(video), text, lambda *_: None)
    message = str(error.value)
    assert type(error.value).__name__ == 'InputError'
    assert len(message) < 300 and message.isprintable()
    assert listing(tmp_path) == before and outputs(runner.root) == []


# ------------------------------------------------------------------ names of videos
def test_a_video_whose_name_ends_in_json(run, place, video, tmp_path):
    """Its folder of label maps does not take the place of another video's timeline."""
    other = tmp_path / 'clip.json.mp4'
    shutil.copy(video, other)
    shutil.copy(video, tmp_path / 'clip_json.mp4')
    code, out = run(other, tmp_path / 'clip_json.mp4', '--classes', 'dog', '--no-save-vis')
    assert code == 0, out
    found = [path.name for path in (place / 'pred').iterdir() if path.is_file()]
    assert len(found) == 3 and 'clip.json' in found
    for name in found:
        assert len(list((place / 'pred' / name.removesuffix('.json')).glob('*.png'))) == 2
