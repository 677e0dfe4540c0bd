# SPDX-License-Identifier: Apache-2.0
"""What a further data set needs to say beyond the base."""

import archive
import cv2
import numpy as np

from ovavss_mm.datasets import ClipDataset, Vocabulary

PIPELINE = [
    dict(type='mmseg.LoadClipFrames'),
    dict(type='mmseg.LoadClipAudio'),
    dict(type='mmseg.LoadClipLabels'),
    dict(type='mmseg.PackAVSegInputs'),
]


def read_mask(path: str, num_names: int, shape: tuple[int, int]) -> np.ndarray:
    return (cv2.imread(path, cv2.IMREAD_GRAYSCALE) > 0).astype(np.uint8)


class BinaryMasks(ClipDataset):
    """Sounding or not, as in AVSBench S4 and MS3: other clips, other label maps, one name."""

    label_reader = staticmethod(read_mask)

    def __init__(self, data_root, split, **kwargs):
        super().__init__(data_root, split, Vocabulary(['object'], ['object']), **kwargs)

    def rows(self):
        return [
            dict(uid=clip.uid, subset=clip.subset, split=clip.split, names=['object'])
            for clip in archive.CLIPS
            if clip.split == self.split
        ]


def test_a_data_set_of_another_kind(root):
    dataset = BinaryMasks(str(root), 'test', pipeline=PIPELINE, test_mode=True)
    assert dataset.metainfo['classes'] == ('background', 'object')
    tests = {clip.uid: clip for clip in archive.CLIPS if clip.split == 'test'}
    assert len(dataset) == len(tests)
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        clip = tests[sample.clip_id]
        expected = [archive.label_map(clip, t) > 0 for t in range(len(clip.frames))]
        assert np.array_equal(sample.gt_sem_seg.data.numpy(), np.array(expected))
        assert sample.vocabulary == ('object',)
