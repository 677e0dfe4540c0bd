# SPDX-License-Identifier: Apache-2.0
"""Files that CVAT does not write are refused, and the message says where they are wrong."""

import numpy as np
import pytest
from label_files import cvat_mask, load_tool, write_cvat

SIZE = (32, 48)
SMALL, LARGE = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
SMALL[5:10, 6:12] = LARGE[2:18, 3:25] = True


@pytest.fixture(scope='module')
def script():
    return load_tool('cvat_video')


def box(frame: int, *sides: float, more: str = '') -> str:
    left, top, right, bottom = sides
    return f'<box frame="{frame}" outside="0" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" {more}/>'


def polygon(frame: int, points: str, outside: int = 0) -> str:
    return f'<polygon frame="{frame}" outside="{outside}" keyframe="1" points="{points}"/>'


GOOD = cvat_mask(5, SMALL)
FRAME = r'a\.xml, track 1 \(id 1, dog\), frame 5: '


@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        (GOOD.replace('left="6" ', ''), FRAME + 'there is no left'),
        (GOOD.replace('left="6"', 'left="x"'), FRAME + "left must be a number, got 'x'"),
        (GOOD.replace('left="6"', 'left="6.5"'), FRAME + "left must be a whole number, got '6.5'"),
        (GOOD.replace('left="6"', 'left="43"'), FRAME + 'a mask must lie in the frame of 48 x 32 pixels, got left 43'),
        (GOOD.replace('left="6"', 'left="-1"'), FRAME + 'a mask must lie in'),
        (GOOD.replace('height="5"', 'height="0"'), FRAME + 'a mask must lie in'),
        (GOOD.replace('width="6"', 'width="1e300"'), FRAME + 'a mask must lie in'),
        (GOOD.replace('height="5"', 'height="6"'), FRAME + r'rle must be numbers from 0 up, 36 in all .* got 0, 30'),
        (GOOD.replace('rle="0, 30"', 'rle="-1, 31"'), FRAME + 'rle must be numbers from 0 up'),
        (GOOD.replace('rle="0, 30"', 'rle=""'), FRAME + "rle must be a number, got ''"),
        (GOOD.replace('rle="0, 30"', 'rle="0, nan"'), FRAME + 'rle must be a number'),
        (polygon(5, '1,2;3,4'), FRAME + 'a polygon must have x and y of 3 or more corners'),
        (polygon(5, '1,2;3,4;5'), FRAME + 'a polygon must have'),
        (polygon(5, '1,2;3,4;5,1e9'), FRAME + 'a polygon must be a list of numbers'),
        (polygon(5, '1,2;3,4;5,y'), FRAME + "points must be a number, got 'y'"),
        (box(5, 1, 2, 3, 4).replace('xtl="1"', ''), FRAME + 'there is no xtl'),
        (GOOD.replace('frame="5"', 'frame="-5"'), r"track 1 \(id 1, dog\): the frame of <mask> .* got '-5'"),
        (GOOD.replace('frame="5"', ''), r'track 1 \(id 1, dog\): the frame of <mask>'),
        (GOOD.replace('outside="0"', 'outside="no"'), FRAME + "outside must be 0 or 1, got 'no'"),
        ('<ellipse frame="5" outside="0" cx="1"/>', FRAME + 'a <ellipse>; mask, polygon, box are read'),
        (GOOD + '</track><track id="x">', r'track 2 \(id x, no label\): a track must have a label'),
    ],
)
def test_malformed_shapes(script, tmp_path, shape, message):
    path = write_cvat(tmp_path / 'a.xml', [('cat', [cvat_mask(0, LARGE)]), ('dog', [shape])])
    with pytest.raises(ValueError, match=message):
        script.read_file(str(path))[0].masks(1.0, 5, SIZE)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + ''.join(
    f'<!ENTITY {x} "{f"&{y};" * 10}">' for x, y in zip('bcdefghijk', 'abcdefghij', strict=True)
)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (f'{BOMB}]><annotations>&k;</annotations>', 'a DOCTYPE, which CVAT does not write, is not read'),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', 'a DOCTYPE'),
        ('<annotations><meta>', r'cannot be read as XML: .*line 1'),
        ('', 'cannot be read as XML'),
        ('<?xml version="1.0" encoding="x-none"?><annotations/>', 'unknown encoding: x-none'),
        ('[{"id": 1}]', 'cannot be read as XML'),
        ('<html/>', 'has the root <html>, not <annotations>: export as CVAT for video 1.1'),
        ('<annotations><image id="0" name="a.jpg"/></annotations>', 'CVAT for images 1.1.: export as CVAT for video'),
        ('<annotations><meta><project/></meta></annotations>', 'is of a whole project: export its tasks one by one'),
        ('<annotations><meta><size>-1</size></meta></annotations>', "meta: size must be a number from 0 up, got '-1'"),
        ('<annotations><meta><frame_filter>step=0</frame_filter></meta></annotations>', "step=N, got 'step=0'"),
    ],
)
def test_files_of_another_kind(script, tmp_path, text, message):
    (tmp_path / 'a.xml').write_text(text)
    with pytest.raises(ValueError, match=rf'a\.xml.*{message}'):
        script.read_file(str(tmp_path / 'a.xml'))
