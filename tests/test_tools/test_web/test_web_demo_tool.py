# SPDX-License-Identifier: Apache-2.0
"""``tools/web_demo.py`` up to the moment at which it serves; the page itself is tested in a browser."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOOL = ROOT / 'tools/web_demo.py'
WEIGHTS = ROOT / 'ovavss_mm/mini_world/ovavss_mini_hearing.safetensors'
MINI = ['--model', 'ovavss_mini_hearing', '--weights', str(WEIGHTS)]
needs_gradio = pytest.mark.skipif(importlib.util.find_spec('gradio') is None, reason='not installed: gradio')


@pytest.fixture
def tool(monkeypatch):
    spec = importlib.util.spec_from_file_location('web_demo', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.signal, 'signal', lambda *_: None)
    monkeypatch.setattr(module.warnings, 'showwarning', None)
    return module


def test_only_this_computer_by_default(tool):
    args = tool.parse_args([])
    assert (args.host, args.port, args.share) == ('127.0.0.1', 7860, 'no')
    with pytest.raises(SystemExit):
        tool.parse_args(['--weights', 'x'])


@needs_gradio
@pytest.mark.parametrize(
    'args, message',
    [
        ('--max-seconds -3', r'limit of seconds must be above 0, got -3\.0'),
        ('--max-size nan', r'limit of megabytes must be above 0, got nan'),
        ('--port 70000', 'port must be from 1 to 65535, got 70000'),
        ('--model x --weights y', "no config 'x'"),
        ('--device tpu', "no device 'tpu'"),
    ],
    ids=['seconds', 'size', 'port', 'model', 'device'],
)
def test_errors_are_a_line(tool, args, message, capsys):
    with pytest.raises(SystemExit, match=f'^error: .*{message}'):
        tool.main(args.split())
    assert 'warning' not in capsys.readouterr().err


@needs_gradio
def test_a_port_that_is_taken(tool, tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    with socket.socket() as other, pytest.MonkeyPatch.context() as environ:
        for name in ('GRADIO_TEMP_DIR', 'GRADIO_ANALYTICS_ENABLED', 'HF_HUB_DISABLE_TELEMETRY'):
            environ.setenv(name, '')  # so that it is as before afterwards
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = str(other.getsockname()[1])
        with pytest.raises(SystemExit, match=f'^error: port {port} of 127.0.0.1 cannot be had'):
            tool.main(['--port', port, '--device', 'cpu', *MINI])
    assert not list(tmp_path.glob('ovavss_web_*'))


@needs_gradio
@pytest.mark.parametrize('args', ['--host 0.0.0.0', '--share yes'], ids=['host', 'share'])
def test_a_page_for_others_has_a_warning(tool, args, capsys):
    with pytest.raises(SystemExit, match='no config'):  # before anything is served
        tool.main([*args.split(), '--model', 'x', '--weights', 'y'])
    assert 'warning: the page has no log-in' in capsys.readouterr().err


def test_without_gradio_it_says_what_to_install(tool, monkeypatch):
    monkeypatch.setattr(tool.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit, match='the page needs Gradio: pip install'):
        tool.main([])


def test_help_needs_no_torch():
    """``mim run`` asks for it before each run."""
    code = (
        'import sys, runpy; sys.argv = ["web_demo.py", "--help"]\n'
        f'try: runpy.run_path({str(TOOL)!r}, run_name="__main__")\n'
        'finally: assert not {"torch", "gradio"} & set(sys.modules)'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=dict(os.environ, COLUMNS='120')
    )
    assert result.returncode == 0, result.stderr
    assert '--max-seconds S' in result.stdout and '--host' in result.stdout and '/api/label' in result.stdout
