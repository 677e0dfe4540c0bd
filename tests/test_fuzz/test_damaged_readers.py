# SPDX-License-Identifier: Apache-2.0
"""Damaged files: each reader gives what its contract says, or one of its errors that names the file.

``python tests/fuzz_readers.py`` does the same with many more cases.
"""

import struct
import zlib

import fuzz_targets
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from PIL import Image

from ovavss_mm.datasets.metadata import read_metadata
from ovavss_mm.datasets.transforms.audio import RATES, read_wav
from ovavss_mm.datasets.transforms.loading import MAX_PIXELS, read_rgb

TARGETS = fuzz_targets.make_targets()


@pytest.mark.parametrize('name', list(TARGETS))
def test_damaged_files(name, tmp_path_factory):
    target, folder = TARGETS[name], tmp_path_factory.mktemp('fuzz')

    @settings(max_examples=100, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(target.cases())
    def run(content):
        target.check(content, folder)

    run()


@pytest.mark.parametrize('name', list(TARGETS))
def test_good_files_are_read(name, tmp_path):
    for good in TARGETS[name].good:
        assert TARGETS[name].check(good, tmp_path) == 'read'


# What was found: content, and whether it is read now.
FOUND = [
    ('metadata.csv', b'\xff\xfe', 'refused'),  # the error did not name the file
    ('metadata.csv', b'uid,' + b'x' * 140000, 'refused'),  # csv.Error
    ('metadata.csv', b'uid,a_obj,split,label\n"a\0b",dog,val,v2\n', 'refused'),
    ('metadata.csv', b'uid,a_obj,split,label\n"a\nb",dog,val,v2\n', 'refused'),  # broke the index
    ('metadata.csv', 'uid,a_obj,split,label\na\u2028b,dog,val,v2\n'.encode(), 'refused'),
    ('metadata.csv', b'uid,a_obj,split,label\na,"d\tog",val,v2\n', 'refused'),
    ('metadata.csv', b'uid,a_obj,split,label,uid\na,dog,val,v2,../b\n', 'refused'),
    ('index', b'# split val:\nv2/a\t' + b'9' * 5000 + b'\tdog\n', 'refused'),
    ('index', b'# split val:\n' + b'x' * 140000 + b'\n', 'refused'),
    ('index', b'\xef\xbb\xbf# split val:\nv2/a\t5\tdog\n', 'read'),
    ('index', b'# split val:\nv2/../../a\t5\tdog\n', 'refused'),
    ('label2idx.json', b'\xff', 'refused'),
    ('label2idx.json', b'[' * 3000, 'refused'),  # RecursionError
    ('label2idx.json', b'5', 'refused'),  # TypeError
    ('label2idx.json', b'{"background": ' + b'9' * 5000 + b'}', 'refused'),
    ('label2idx.json', b'{"background": 0, "\\ud800": 1}', 'refused'),  # could not be printed
    ('label2idx.json', b'{"background": 0, "a\\u0000": 1}', 'refused'),
    ('base_names.txt', b'\xff', 'refused'),
    ('base_names.txt', b'dog\0', 'refused'),
    ('confusion.json', b'[' * 3000, 'refused'),  # RecursionError
    ('check.jsonl', b'{"key": "a", "stamp": "", "findings": 5}\n', 'read'),  # TypeError
    ('check.jsonl', b'{"key": "a", "stamp": "", "facts": 5}\n' + b'[' * 3000 + b'\n', 'read'),
]


@pytest.mark.parametrize(('name', 'content', 'outcome'), FOUND, ids=[f'{i}-{case[0]}' for i, case in enumerate(FOUND)])
def test_what_was_found(name, content, outcome, tmp_path):
    assert TARGETS[name].check(content, tmp_path) == outcome


@pytest.mark.parametrize('uid', ['..', '../a', '/etc', 'a/../../b', 'a\\..\\b', '. ', 'C:\\x'])
def test_no_clip_lies_outside_the_data(uid, tmp_path):
    path = tmp_path / 'metadata.csv'
    path.write_text(f'uid,a_obj,split,label\n{uid},dog,val,v2\n')
    with pytest.raises(ValueError, match='line 2: uid must be the name of a folder'):
        read_metadata(str(path))


# ------------------------------------------------------------------ bombs
def png(width, height):
    """A PNG file of a few bytes that says it is of some size."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b'IHDR', head), chunk(b'IDAT', zlib.compress(b'\0' * 100)), chunk(b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


@pytest.mark.parametrize('size', [(16384, 16384), (8192, 8193), (2**31 - 1, 2**31 - 1), (0, 5)])
def test_pictures_beyond_the_limit_are_refused(size, tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(png(*size))
    with pytest.raises(OSError, match=r'a\.png'):
        read_rgb(str(path))
    path.write_bytes(png(16384, 8192))
    with pytest.raises(OSError, match=f'16384 x 8192 pixels, at most {MAX_PIXELS:,} are read'):
        read_rgb(str(path))


def test_other_kinds_of_pictures_are_not_opened(tmp_path):
    path = tmp_path / 'a.jpg'
    for kind in ('EPS', 'TIFF', 'PPM', 'PCX'):
        Image.new('RGB', (4, 4)).save(path, kind)
        with pytest.raises(OSError, match=r'a\.jpg: of none of the formats JPEG'):
            read_rgb(str(path))


@pytest.mark.parametrize('rate', [1, 999, RATES[1] + 1, 2**31 - 1])
def test_sample_rates_beyond_the_limits_are_refused(rate, tmp_path):
    soundfile.write(tmp_path / 'a.wav', np.zeros(100), rate)
    with pytest.raises(ValueError, match=rf'a\.wav has 100 samples at {rate} Hz'):
        read_wav(str(tmp_path / 'a.wav'))


def test_hours_of_packed_silence_are_refused(tmp_path):
    soundfile.write(tmp_path / 'a.flac', np.zeros(3700 * 1000, np.int16), 1000)
    assert (tmp_path / 'a.flac').stat().st_size < 50_000
    with pytest.raises(ValueError, match='has 3700000 samples at 1000 Hz; .* up to 3600 s are read'):
        read_wav(str(tmp_path / 'a.flac'))


def test_a_pipe_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / 'audio.wav')
    with pytest.raises(OSError, match='no regular file'):
        read_wav(str(tmp_path / 'audio.wav'))


def test_a_file_of_features_that_is_not_float32(tmp_path):
    from safetensors.numpy import save

    target = TARGETS['audio features']
    meta = fuzz_targets.audio_features.features_meta(fuzz_targets.WEIGHTS)
    for rows in (np.ones((5, 4)), np.ones(5, np.float32), np.full((5, 4), np.nan, np.float32)):
        content = save({'v1s/a': rows, 'v2/b': rows, 'silence': rows}, meta)
        assert target.check(content, tmp_path) == 'refused'
