# SPDX-License-Identifier: Apache-2.0
"""Reads exports back with nothing but the definitions of the formats: of each frame names and masks by id."""

import html
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from PIL import Image


def mask_of_runs(runs, shape, order='C') -> np.ndarray:
    """A mask, bool (H, W), of lengths of runs, of which the first is background."""
    assert sum(runs) == shape[0] * shape[1] and all(run > 0 for run in runs[1:])
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape, order=order)


def mask_of_rle(rle: dict) -> np.ndarray:
    """A mask of COCO's RLE: five bits a letter, low ones first; from the fourth on less the run two before."""
    runs, value, shift = [], 0, 0
    for code in (ord(letter) - 48 for letter in rle['counts']):
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (code & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return mask_of_runs(runs, rle['size'], 'F')


def read_coco(path: Path) -> list[dict]:
    content = json.loads(path.read_text('ascii'))
    names = {entry['id']: entry['name'] for entry in content['categories']}
    frames = {image['id']: {} for image in content['images']}
    for x in content['annotations']:
        mask = mask_of_rle(x['segmentation'])
        rows, columns = np.nonzero(mask)
        left, top, width, height = x['bbox']
        assert (left, top, left + width, top + height) == (min(columns), min(rows), max(columns) + 1, max(rows) + 1)
        assert x['area'] == mask.sum() and x['track_id'] not in frames[x['image_id']]
        frames[x['image_id']][x['track_id']] = names[x['category_id']], mask
    return list(frames.values())


def read_youtube_vis(path: Path) -> list[dict]:
    """With the names of frames, where there are several of an object."""
    content = json.loads(path.read_text('ascii'))
    names = {entry['id']: entry['name'] for entry in content['categories']}
    (video,) = content['videos']
    frames = [{} for _ in video['file_names']]
    for x in content['annotations']:
        ids = x.get('category_ids', [x['category_id']] * len(frames))
        for frame, mask, identity in zip(frames, x['segmentations'], ids, strict=True):
            if mask is not None:
                frame[x['id']] = names[identity], mask_of_runs(mask['counts'], mask['size'], 'F')
    return frames


def read_mots(folder: Path) -> list[dict]:
    """From the pictures; the text file must say the same."""
    names = (folder / 'instances' / 'labels.txt').read_text('utf-8').split('\n')
    frames = []
    for path in sorted((folder / 'instances').glob('*.png')):
        values = np.asarray(Image.open(path))
        assert values.dtype == np.uint16
        frames.append({v % 1000: (names[v // 1000 - 1], values == v) for v in np.unique(values).tolist() if v})
    again = [{} for _ in frames]
    for line in (folder / 'instances.txt').read_text('ascii').splitlines():
        number, value, kind, height, width, counts = line.split(' ')
        assert int(value) // 1000 == int(kind)
        mask = mask_of_rle(dict(size=[int(height), int(width)], counts=counts))
        again[int(number) - 1][int(value) % 1000] = names[int(kind) - 1], mask
    for frame, same in zip(frames, again, strict=True):
        assert set(frame) == set(same)
        assert all(frame[i][0] == same[i][0] and (frame[i][1] == same[i][1]).all() for i in frame)
    return frames


def read_cvat(path: Path, numbers: list[int], size: tuple[int, int]) -> list[dict]:
    """What is shown in frames of some numbers."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == 'annotations' and root.findtext('version') == '1.1'
    task = root.find('meta/task')
    height, width = (int(task.findtext(f'original_size/{key}')) for key in ('height', 'width'))
    assert (height, width) == size
    labels = {label.findtext('name') for label in task.iter('label')}
    frames = [{} for _ in numbers]
    for i, track in enumerate(root.findall('track')):
        assert track.get('id') == str(i) and track.get('label') in labels
        masks = [(int(mask.get('frame')), mask) for mask in track.findall('mask')]
        assert [number for number, _ in masks] == sorted({number for number, _ in masks})
        for frame, number in zip(frames, numbers, strict=True):
            shown = [mask for at, mask in masks if at <= number]
            if shown and shown[-1].get('outside') == '0':
                identity = int(shown[-1].find('attribute[@name="object"]').text)
                assert identity not in frame
                frame[identity] = track.get('label'), cvat_mask(shown[-1].attrib, size)
    return frames


def cvat_mask(given: dict, size: tuple[int, int]) -> np.ndarray:
    """A mask, bool (H, W), of the attributes of its element."""
    assert given['keyframe'] == '1' and {'occluded', 'z_order'} < set(given)
    left, top, width, height = (int(given[key]) for key in ('left', 'top', 'width', 'height'))
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = mask_of_runs(
        [int(run) for run in given['rle'].split(',')], (height, width)
    )
    return mask


def read_label_studio(folder: Path) -> list[dict]:
    frames = []
    known = [label.get('value') for label in ElementTree.parse(folder / 'images.xml').iter('Label')]
    for task in json.loads((folder / 'images.json').read_text('ascii')):
        (prediction,) = task['predictions']
        frames.append({})
        for x in prediction['result']:
            (name,) = x['value']['brushlabels']
            assert x['type'] == 'brushlabels' and x['value']['format'] == 'rle' and name in known
            mask = brush_mask(bytes(x['value']['rle']), (x['original_height'], x['original_width']))
            frames[-1][int(x['id'].removeprefix('object'))] = name, mask
    return frames


def brush_mask(content: bytes, shape: tuple[int, int]) -> np.ndarray:
    """A mask, bool (H, W), of Label Studio's brush: values as runs or one by one, lengths in four sizes."""
    bits, at = f'{int.from_bytes(content, "big"):0{8 * len(content)}b}', 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values = []
    while len(values) < total:
        run, length = take(1), take(sizes[take(2)]) + 1
        values += [take(word)] * length if run else [take(word) for _ in range(length)]
    channels = np.array(values).reshape(*shape, 4)
    assert (channels == channels[..., :1]).all() and set(np.unique(channels)) <= {0, 255}
    return channels[..., 3] > 0


def read_datumaro(folder: Path) -> list[dict]:
    content = json.loads((folder / 'annotations' / 'default.json').read_text('ascii'))
    names = [label['name'] for label in content['categories']['label']['labels']]
    for item in content['items']:
        assert (folder / 'images' / 'default' / item['image']['path']).is_file()
    return [
        {x['object_id']: (names[x['label_id']], mask_of_rle(x['rle'])) for x in item['annotations']}
        for item in content['items']
    ]


# ------------------------------------------------------------------ intervals by name, in seconds
def joined(cues: list[tuple[float, float, str]]) -> dict[str, list]:
    """Intervals of names, of which those that follow one another are one."""
    out: dict[str, list] = {}
    for start, end, name in cues:
        spans = out.setdefault(name, [])
        if spans and spans[-1][1] == start:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    return out


def seconds(text: str) -> float:
    hours, minutes, rest = text.replace(',', '.').split(':')
    return round(int(hours) * 3600 + int(minutes) * 60 + float(rest), 3)


def read_cues(text: str, point: str, spelled=lambda name: name) -> dict[str, list]:
    """Of WebVTT or SRT; no cue begins before the end of the one before."""
    cues, before = [], 0.0
    time = rf'(\d\d:\d\d:\d\d{re.escape(point)}\d\d\d)'
    for start, end, lines in re.findall(rf'^{time} --> {time}\n((?:\[.*\]\n)+)', text, re.M):
        assert before <= seconds(start) < seconds(end)
        before = seconds(end)
        cues += [(seconds(start), seconds(end), spelled(line[1:-1])) for line in lines.splitlines()]
    return joined(cues)


def read_vtt(path: Path) -> dict[str, list]:
    text = path.read_text('utf-8')
    assert text.startswith('WEBVTT\n')
    return read_cues(text, '.', html.unescape)


def read_srt(path: Path) -> dict[str, list]:
    text = path.read_text('utf-8')
    numbers = re.findall(r'(?:^|\n\n)(\d+)\n', text)
    assert numbers == [str(i + 1) for i in range(len(numbers))]
    return read_cues(text, ',')


def read_rttm(path: Path) -> dict[str, list]:
    fields = [line.split() for line in path.read_text('utf-8').splitlines()]
    assert all(len(line) == 10 and line[0] == 'SPEAKER' and unquote(line[1]) == 'clip' for line in fields)
    return joined([(float(x[3]), round(float(x[3]) + float(x[4]), 4), unquote(x[7])) for x in fields])


def read_audacity(path: Path) -> dict[str, list]:
    fields = [line.split('\t') for line in path.read_text('utf-8').splitlines()]
    return joined([(float(start), float(end), name) for start, end, name in fields])
