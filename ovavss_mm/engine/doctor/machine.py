# SPDX-License-Identifier: Apache-2.0
"""Checks of devices, codecs, memory and disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .findings import ERROR, NOTE, OK, WARNING, Answer, Finding, ask_child
from .packages import TORCH_PAIR, pip

GIB = 2**30

_DEVICES = """
import torch
say(dict(torch=torch.__version__, built=torch.version.cuda, threads=torch.get_num_threads()))
for i in range(torch.cuda.device_count()):
    torch.zeros(1, device=f'cuda:{i}')  # a driver that is too old shows here
    free, total = torch.cuda.mem_get_info(i)
    with torch.cuda.device(i):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    say(dict(index=i, name=torch.cuda.get_device_name(i), free=free, total=total, bf16=bf16))
"""


def check_devices() -> Iterator[Finding]:
    """Look at CPU threads and GPUs.

    Yields:
        A finding for the CPU and one for each GPU.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    yield from judge_devices(ask_child(_DEVICES), cores or 1, has_nvidia())


def has_nvidia() -> bool:
    """Whether the machine has an NVIDIA GPU, whatever torch says of it.

    Returns:
        True if the driver's files or its tool are there.
    """
    return Path('/proc/driver/nvidia').exists() or shutil.which('nvidia-smi') is not None


def judge_devices(answer: Answer, cores: int, nvidia: bool) -> Iterator[Finding]:
    """Say what is to be said about the devices.

    Args:
        answer: of the child: {torch, built, threads}, then a value for each GPU.
        cores: that this process may use.
        nvidia: whether the machine has an NVIDIA GPU.

    Yields:
        Findings.
    """
    if not answer.values:
        text = f'{cores} cores; torch cannot say more: {answer.error}'
        yield Finding('Devices', 'CPU', NOTE, text)
        return
    facts, *gpus = answer.values
    yield Finding('Devices', 'CPU', OK, f'{cores} cores, {facts["threads"]} threads of torch')
    for gpu in gpus:
        sizes = f'{gpu["free"] / GIB:.1f} of {gpu["total"] / GIB:.1f} GiB free'
        name = f'cuda:{gpu["index"]}'
        text = f'{gpu["name"]}, {sizes}, bfloat16 {"yes" if gpu["bf16"] else "no"}'
        if gpu['free'] < 1 * GIB:
            advice = (
                'See who holds it: nvidia-smi; or choose another: CUDA_VISIBLE_DEVICES=1 mim ...'
            )
            yield Finding('Devices', name, WARNING, f'{text}: hardly any memory', advice)
        else:
            yield Finding('Devices', name, OK, text)
    if answer.error:
        advice = 'Update the driver, or train on the CPU: CUDA_VISIBLE_DEVICES= mim train ...'
        yield Finding('Devices', 'GPU', ERROR, f'torch cannot use it: {answer.error}', advice)
    elif nvidia and not gpus:
        build = (
            f'was built for CUDA {facts["built"]}' if facts['built'] else 'was built without CUDA'
        )
        text = f'there is one, but torch {facts["torch"]} sees none; it {build}'
        advice = 'See what the driver says: nvidia-smi; a torch with CUDA: '
        advice += pip(f'install --force-reinstall {TORCH_PAIR}')
        yield Finding('Devices', 'GPU', WARNING, text, advice)
    elif not gpus:
        text = 'none: the mini model takes ten minutes on two cores, the real ones need a GPU'
        yield Finding('Devices', 'GPU', NOTE, text)


# ------------------------------------------------------------------ videos
_CODECS = """
import io
import av
import numpy as np

def write(codec):
    data = io.BytesIO()
    with av.open(data, 'w', format='mp4') as file:
        if codec == 'aac':
            stream = file.add_stream(codec, rate=16000)
            wave = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(wave, format='fltp', layout='mono')
            frame.sample_rate = 16000
        else:
            stream = file.add_stream(codec, rate=5)
            stream.width = stream.height = 64
            stream.pix_fmt = 'yuv420p'
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format='rgb24')
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return data

def attempt(action, *args):
    try:
        return action(*args), ''
    except Exception as error:
        return None, f'{type(error).__name__}: {error}'

def read(codec, data):
    if data is None:
        return av.codec.Codec(codec, 'r').name
    data.seek(0)
    with av.open(data) as file:
        assert list(file.decode()), 'nothing was decoded'

say(av.__version__)
for codec in ('h264', 'aac'):
    data, encode = attempt(write, codec)
    say([codec, encode, attempt(read, codec, data)[1]])
"""

_WITHOUT = {
    ('h264', 'decode'): 'most videos cannot be read',
    ('h264', 'encode'): 'videos cannot be written as H.264, which browsers play',
    ('aac', 'decode'): 'the sound of most videos cannot be read',
    ('aac', 'encode'): 'videos with overlays are written without sound',
}


def check_codecs() -> Iterator[Finding]:
    """Write and read a few frames of H.264 and AAC with PyAV; look for the ffmpeg program.

    Yields:
        Findings.
    """
    yield from judge_codecs(ask_child(_CODECS))
    ffmpeg = shutil.which('ffmpeg')
    text = ffmpeg or 'no ffmpeg program: none is needed, PyAV brings its own libraries'
    yield Finding('Videos', 'ffmpeg', OK if ffmpeg else NOTE, text)


def judge_codecs(answer: Answer) -> Iterator[Finding]:
    """Say what is to be said about the codecs.

    Args:
        answer: of the child: PyAV's version, then [codec, error of encoding, error of decoding].

    Yields:
        Findings; none of them is an error, as the mini model needs no video.
    """
    advice = 'A PyAV with all codecs: ' + pip('install --force-reinstall --only-binary=av av')
    if not answer.values:
        text = f'PyAV does not work: no videos of your own ({answer.error})'
        yield Finding('Videos', 'PyAV', WARNING, text, advice)
        return
    _, *codecs = answer.values
    for codec, *errors in codecs:
        title = {'h264': 'H.264', 'aac': 'AAC'}[codec]
        for action, wrong in zip(('encode', 'decode'), errors, strict=True):
            if wrong:
                text = f'cannot {action}: {_WITHOUT[codec, action]} ({wrong})'
                yield Finding('Videos', f'{title} {action}', WARNING, text, advice)
            else:
                yield Finding('Videos', f'{title} {action}', OK, 'works')
    if answer.error:
        yield Finding('Videos', 'PyAV', WARNING, f'broke off: {answer.error}', advice)


# ------------------------------------------------------------------ room
def check_room() -> Iterator[Finding]:
    """Look at free disk, memory and shared memory.

    Yields:
        Findings.
    """
    yield judge_disk(shutil.disk_usage(os.getcwd()).free)
    memory = free_memory()
    if memory is None:
        yield Finding('Room', 'memory', NOTE, 'cannot be told on this system')
    else:
        yield judge_memory(memory)
    if Path('/dev/shm').is_dir():
        yield judge_shared(shutil.disk_usage('/dev/shm').total)


def free_memory() -> int | None:
    """Memory that a new process may use, in bytes: the machine's, or less if a container has less.

    Returns:
        Bytes, None where the system does not say.
    """
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
        free = next(int(n.split()[1]) * 1024 for n in lines if n.startswith('MemAvailable:'))
    except (OSError, StopIteration):
        return None
    try:
        group = Path('/sys/fs/cgroup')
        limit, used = ((group / f'memory.{k}').read_text().strip() for k in ('max', 'current'))
    except OSError:
        return free
    return free if limit == 'max' else min(free, int(limit) - int(used))


def judge_disk(free: int) -> Finding:
    """Say whether there is room for data and checkpoints.

    Args:
        free: bytes where the tool was started.

    Returns:
        The finding.
    """
    text, where = f'{free / GIB:.1f} GiB free', os.getcwd()
    if free < 0.5 * GIB:
        advice = f'Free some below {where} (the mini world takes 0.2 GiB); see: du -sh {where}/*'
        return Finding('Room', 'disk', ERROR, f'{text}: not enough for the mini model', advice)
    if free < 10 * GIB:
        advice = (
            f'For the real models, link data and work_dirs to a larger disk; see: df -h {where}'
        )
        return Finding('Room', 'disk', WARNING, f'{text}: enough for the mini model alone', advice)
    return Finding('Room', 'disk', OK, text)


def judge_memory(free: int) -> Finding:
    """Say whether there is memory for a training.

    Args:
        free: bytes that a new process may use.

    Returns:
        The finding.
    """
    text = f'{free / GIB:.1f} GiB free'
    if free < 1.5 * GIB:
        advice = 'End other programs, or give the container more: docker run --memory 8g ...'
        return Finding('Room', 'memory', ERROR, f'{text}: not enough for the mini model', advice)
    if free < 8 * GIB:
        advice = 'Few loader workers: --cfg-options train_dataloader.num_workers=1'
        return Finding('Room', 'memory', WARNING, f'{text}: scant for the real models', advice)
    return Finding('Room', 'memory', OK, text)


def judge_shared(total: int) -> Finding:
    """Say whether loader workers can hand over clips.

    Args:
        total: bytes of /dev/shm.

    Returns:
        The finding.
    """
    text = f'{total / GIB:.1f} GiB'
    if total < 0.5 * GIB:
        advice = 'docker run --shm-size 8g ...; or --cfg-options train_dataloader.num_workers=0 '
        advice += 'train_dataloader.persistent_workers=False (and the same for val and test)'
        text += ': loader workers may die with a bus error'
        return Finding('Room', 'shared memory', WARNING, text, advice)
    return Finding('Room', 'shared memory', OK, text)
