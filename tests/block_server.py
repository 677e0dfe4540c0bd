# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of documents in processes forked from one that has imported torch, and shortens them.

As a script (``block_server.py SOCKET``) it serves until its parent ends. A client, ``CLIENT`` as ``python`` or ``mim``
on the path, sends its arguments, folder, environment and terminal and gets the exit status. What is
shortened says ``tests/test_doc_blocks.py``.
"""

import gc
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CLIENT = """#!{python} -SE
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b'-'], [0, 1, 2])
name, *words = os.path.basename(sys.argv[0]), *sys.argv[1:]
server.sendall(json.dumps([name, words, os.getcwd(), dict(os.environ)]).encode() + b'\\n')
sys.exit(int(server.recv(4) or 70))
"""
WORLD = ('--train', '24', '--val', '4', '--test', '8', '--workers', '1')
# Options that shorten a script, behind its own, and words with which they are not added.
SHORTER = {
    'mini_world.py': (WORLD, '--video'),
    'benchmark.py': (('--repeats', '1', '--warmup', '1', '--no-flops'), ''),
    'compare_settings.py': (('--clips', '2'), ''),
    'ablate.py': (('--dry-run',), ''),
    'export.py': (('--no-check',), ''),
    'gpu_report.py': (('--only', 'versions'), ''),
}


# ------------------------------------------------------------------ trainings and tests
def shorten(cfg: Any) -> None:
    """One iteration, or an epoch of two clips, and two clips for validations and tests, in one process."""
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader:
            loader.update(num_workers=0, persistent_workers=False)
        if loader and (split != 'train' or cfg.get('train_cfg', {}).get('max_epochs')):
            loader.dataset.indices = 2
    cfg.env_cfg = dict(mp_cfg=dict(opencv_num_threads=1))
    if cfg.get('train_cfg'):
        key = 'max_epochs' if 'max_epochs' in cfg.train_cfg else 'max_iters'
        cfg.train_cfg.update({key: 1, 'val_interval': 1, 'val_begin': 1})
        cfg.default_hooks.checkpoint.interval = 1


def run_shortened(script: str) -> None:
    """Train or test; a training leaves its checkpoint under the name that the whole one would have left."""
    from ovavss_mm.engine import launch
    from ovavss_mm.utils.files import last_checkpoint

    build, configs = launch.build_runner, []

    def build_shortened(cfg: Any) -> Any:
        configs.append((cfg.work_dir, dict(cfg.get('train_cfg') or {})))
        shorten(cfg)
        return build(cfg)

    launch.build_runner = build_shortened
    runpy.run_path(script, run_name='__main__')
    ((work_dir, train_cfg),) = configs
    if 'max_iters' in train_cfg and script.endswith('train.py'):
        last = Path(last_checkpoint(work_dir))
        whole = last.with_name(f'iter_{train_cfg["max_iters"]}.pth')
        if whole != last:
            whole.unlink(missing_ok=True)
            os.link(last, whole)


def write_checkpoint(path: str) -> None:
    """Drawn weights, where a training leaves them: ``work_dirs/CONFIG`` or ``CONFIG_on_BASE``; ours in ``demo``."""
    import torch
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    from ovavss_mm.apis.loading import MINI_WEIGHTS, find_config, read_checkpoint
    from ovavss_mm.engine.launch import load_config

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    config, _, base = Path(path).parent.name.partition('_on_')
    if config == 'demo':
        return torch.save(read_checkpoint(MINI_WEIGHTS), path)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    own = f'my_configs/{base}.py'
    base = own if Path(own).is_file() else find_config(base) if base else None
    model = MODELS.build(load_config(find_config(config), base=base).model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)


# ------------------------------------------------------------------ commands
def find(folder: str, name: str) -> str:
    """A config or tool by its name, as mim finds it, or by its path."""
    if os.path.exists(name):
        return name
    (path,) = (ROOT / folder).rglob(name)
    return str(path)


def run_mim(kind: str, package: str, name: str, *words: str) -> None:
    """Do what mim does: find the file, give the script the options that are not mim's own."""
    assert (kind in ('train', 'test', 'run'), package) == (True, 'ovavss_mm'), (kind, package)
    words = [word for word in words if word != '--']
    if kind == 'run':
        return run_python(find('tools', f'{name}.py'), *words)
    given = {}
    for option in ('--gpus', '--launcher', '--checkpoint', '--partition', '--gpus-per-node'):
        if option in words:
            place = words.index(option)
            given[option], words[place : place + 2] = words[place + 1], []
    checkpoint = [given['--checkpoint']] if kind == 'test' else []
    run_python(f'tools/{kind}.py', find('configs', name), *checkpoint, *words)


def run_python(script: str, *words: str) -> None:
    """Run a script, a module or text, as Python does."""
    name = Path(script).name
    if script == '-c':
        return exec(compile(words[0], 'a block', 'exec'), dict(__name__='__main__'))
    more, unless = SHORTER.get(name, ((), ''))
    sys.argv = [script, *words, *(() if unless and unless in words else more)]
    sys.path[0] = str(Path(script).resolve().parent)
    if name == 'web_demo.py':
        end_page_at_once()
    if name in ('train.py', 'test.py') and '--help' not in words:
        return run_shortened(script)
    runpy.run_path(script, run_name='__main__')


def end_page_at_once() -> None:
    """Have the web page be served at a free port, and end when it would wait for visitors."""
    import gradio

    with socket.create_server(('127.0.0.1', 0)) as free:
        sys.argv += ['--port', str(free.getsockname()[1])]
    gradio.Blocks.block_thread = lambda page: None


RUN = dict(python=run_python, mim=run_mim)


# ------------------------------------------------------------------ the server
def answer(connection: socket.socket) -> None:
    """Run one command, with the terminal of the client."""
    _, terminal, *_ = socket.recv_fds(connection, 1, 3)
    for number, given in enumerate(terminal):
        os.dup2(given, number)
    name, words, folder, environ = json.loads(connection.makefile().readline())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.executable = str(Path(environ['BLOCK_BIN']) / 'python')
    sys.path[:0] = [part for part in environ.get('PYTHONPATH', '').split(os.pathsep) if part]
    code = 1
    try:
        RUN[name](*words)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush(), sys.stderr.flush()
    connection.sendall(str(code).encode())
    os._exit(code)


def serve(address: str) -> None:
    """Answer clients until the parent ends."""
    sys.path.insert(0, str(ROOT))
    sys.path.insert(0, '')  # stands for the folder of a script
    import torch
    from mmengine.config import config

    import ovavss_mm  # noqa: F401

    torch.set_num_threads(1)
    from ovavss_mm.compat import import_quietly

    for part in ('apis', 'datasets', 'engine', 'engine.launch', 'evaluation', 'models', 'visualization'):
        import_quietly(f'ovavss_mm.{part}')
    # dumps of configs need not be pretty: that took half of the time
    config.FormatCode = lambda text, **_: (text, None)
    gc.freeze()  # what is here stays, and need not be looked through
    listener, parent = socket.socket(socket.AF_UNIX), os.getppid()
    listener.bind(address)
    listener.listen()
    listener.settimeout(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while os.getppid() == parent:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.settimeout(None)
            answer(connection)
        connection.close()


if __name__ == '__main__':
    serve(sys.argv[1])
