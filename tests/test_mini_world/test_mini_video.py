# SPDX-License-Identifier: Apache-2.0
"""A clip of the mini world survives as a video file."""

import av
import numpy as np
import pytest

from ovavss_mm.apis.video.base import frames_at
from ovavss_mm.apis.video.sound import SoundReader
from ovavss_mm.apis.video.video_source import VideoSource
from ovavss_mm.mini_world.drawing import iter_pictures
from ovavss_mm.mini_world.sound import render_sound
from ovavss_mm.mini_world.video import SCENE_SECONDS, video_scenes, write_video


def test_pictures_and_sound_are_those_of_the_scene(tmp_path):
    (scene,) = video_scenes(4, seed=2, sounding=['red-star'], silent=['blue-disc'])
    assert {obj.name for obj in scene.objects} == {'red-star', 'blue-disc'}
    path = tmp_path / 'deep' / 'clip.mp4'
    write_video(path, [scene], fps=10, scale=1)
    with av.open(str(path)) as file:
        codecs = [stream.codec_context.name for stream in file.streams]
        assert codecs[0] == 'h264' and codecs[1] == 'aac'
    source = VideoSource(str(path))
    assert source.size == (96, 128) and source.duration == pytest.approx(4, abs=0.05)
    frames = [frame for frame, _ in iter_pictures(scene, 1)]
    got = [rgb for _, rgb in frames_at(source, 1)]
    assert len(got) == 4
    for a, b in zip(frames, got, strict=True):
        assert np.abs(a.astype(int) - b).mean() < 6
    wave = render_sound(scene)
    heard = SoundReader(source.sound, 16000).span(0, 4 * 16000)
    assert np.corrcoef(wave, heard)[0, 1] > 0.9
    assert [p.name for p in path.parent.iterdir()] == ['clip.mp4']


def test_long_videos_have_several_scenes_of_the_same_names():
    scenes = list(video_scenes(SCENE_SECONDS + 3, seed=1))
    assert [scene.num_seconds for scene in scenes] == [SCENE_SECONDS, 3]
    first, second = ({obj.name for obj in scene.objects} for scene in scenes)
    assert first == second and len(first) == 3
    assert scenes[0] == next(video_scenes(SCENE_SECONDS, seed=1))
    assert scenes[0] != next(video_scenes(SCENE_SECONDS, seed=2))


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match='at least 1 second, got 0'):
        next(video_scenes(0))
    with pytest.raises(ValueError, match='pink-star'):
        next(video_scenes(1, sounding=['pink-star']))
    with pytest.raises(ValueError, match='got 0 and 3'):
        write_video(tmp_path / 'a.mp4', video_scenes(1), fps=0)
    assert not list(tmp_path.iterdir())
