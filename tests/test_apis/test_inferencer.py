# SPDX-License-Identifier: Apache-2.0
"""From a video with sound to labels, files and a timeline."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmseg.registry import MODELS, TRANSFORMS
from PIL import Image
from tiny_inferencer import PIPELINE
from video_files import write_mp4

from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.inferencer import pack
from ovavss_mm.apis.loading import binary_name
from ovavss_mm.apis.video.base import Picture, Source
from ovavss_mm.apis.video.outputs import LabelPictures
from ovavss_mm.apis.video.request import MAX_FPS
from ovavss_mm.apis.video.sources import open_source
from ovavss_mm.datasets.transforms.front_ends import VGGishLogMel
from ovavss_mm.datasets.vocabulary import Vocabulary
from ovavss_mm.models.segmentors.windows import Window

NAMES = ['dog', 'violin', 'a red car']
SIZE = (40, 56)


def noise(count, seed=0):
    """Frames of noise in blocks, which H.264 keeps."""
    blocks = np.random.default_rng(seed).integers(0, 256, (count, 5, 7, 3), dtype=np.uint8)
    return list(blocks.repeat(8, 1).repeat(8, 2))


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """Seven seconds through H.264 and AAC."""
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, 7 * 16000)
    return write_mp4(tmp_path_factory.mktemp('video') / 'clip.mp4', noise(70), 10.0, sound)


def maps_of(inferencer, inputs, **kwargs):
    """Label maps (T, H, W)."""
    (sample,) = inferencer(inputs, NAMES, return_datasamples=True, **kwargs)['predictions']
    return sample.pred_sem_seg.data


# ------------------------------------------------------------------ files
def test_a_video_through_h264_and_aac(inferencer, video, tmp_path):
    result = inferencer(str(video), NAMES, out_dir=tmp_path / 'out')
    (prediction,), (path,) = result['predictions'], result['visualization']
    assert Path(path) == tmp_path / 'out/vis/clip.mp4'
    written = json.loads((tmp_path / 'out/pred/clip.json').read_text())
    frames = written.pop('frames')
    assert written == {k: v for k, v in prediction.items() if k != 'files'}
    assert [frame['time'] for frame in frames] == list(range(7))
    assert written['vocabulary'] == NAMES and written['notes'] == []
    assert written['size'] == [40, 56] and written['duration'] == pytest.approx(7, abs=0.1)
    pngs = sorted((tmp_path / 'out/pred/clip').iterdir())
    assert [png.name for png in pngs] == [f'{t:06d}000.png' for t in range(7)]
    labels = np.stack([np.asarray(Image.open(png)) for png in pngs])
    assert (labels == maps_of(inferencer, str(video)).numpy()).all() and labels.any()
    for frame, label_map in zip(frames, labels, strict=True):
        areas = {name: (label_map == i + 1).mean() for i, name in enumerate(NAMES)}
        found = {name: what['area'] for name, what in frame['names'].items()}
        assert found == pytest.approx({k: v for k, v in areas.items() if v}, abs=1e-5)
    assert not list(tmp_path.rglob('.*'))


def test_what_is_not_wanted_is_not_written(inferencer, video, tmp_path):
    for kwargs, there in (
        (dict(no_save_vis=True), {'pred'}),
        (dict(no_save_pred=True), {'vis'}),
        (dict(no_save_pred=True, no_save_vis=True), set()),
    ):
        out = tmp_path / '_'.join(kwargs)
        result = inferencer(str(video), NAMES, out_dir=str(out), **kwargs)
        assert {p.name for p in out.glob('*')} == there
        assert ('frames' in result['predictions'][0]) == ('pred' not in there)


def test_a_full_disk_leaves_nothing(inferencer, video, tmp_path, monkeypatch):
    def full(self, time, label_map):
        if time == 5:
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(LabelPictures, 'write', full)
    with pytest.raises(OSError, match='No space left'):
        inferencer(str(video), NAMES, out_dir=str(tmp_path))
    assert not [p for p in tmp_path.rglob('*') if p.is_file() or p.name.startswith('clip')]


# ------------------------------------------------------------------ windows
def test_without_overlap_it_is_the_models_own_map(inferencer, video):
    """The model, asked for the whole clip at once, slides the same windows."""
    items = list(inferencer.read(open_source(video)))
    clip = Window(list(range(7)), items)
    with torch.no_grad():
        (sample,) = inferencer.model.test_step(pseudo_collate([pack(clip, Vocabulary(NAMES))]))
    assert torch.equal(maps_of(inferencer, str(video), overlap=0), sample.pred_sem_seg.data)
    assert sample.pred_sem_seg.data.any()


def test_phases_are_videos_of_their_own(inferencer, video):
    """With two labelled frames a second, those at whole seconds are as with one."""
    one = maps_of(inferencer, str(video))
    two = maps_of(inferencer, str(video), fps=2)
    assert len(two) == 14 and torch.equal(two[::2], one)
    batched = maps_of(inferencer, str(video), fps=2, batch_size=2)
    assert (batched == two).float().mean() > 0.999


def test_memory_does_not_depend_on_the_length(inferencer):
    """Of a long source, no more frames are alive than a group of windows has."""
    alive = most = 0

    class Counted(np.ndarray):
        def __array_finalize__(self, other):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    class Long(Source):
        size, rate, duration = (8, 8), 1.0, 60.0

        def pictures(self):
            for i in range(60):
                frame = np.full((8, 8, 3), i, np.uint8)
                yield Picture(i, i + 1, lambda frame=frame: frame.view(Counted))

    request = inferencer.make_request(NAMES)
    times = [frame.time for frame in inferencer.stream(Long('long'), request)]
    assert times == list(range(60))
    assert most <= 2 * inferencer.model.window


def test_patches_belong_to_their_frames(inferencer):
    """Each frame gets the front end's row of its second, moved by what it is later than the second."""
    seconds, rate = 30, 16000
    wave = np.random.default_rng(0).integers(-9999, 9999, seconds * rate, dtype=np.int16)
    frames = np.zeros((seconds, 8, 8, 3), np.uint8)
    source = open_source(dict(frames=frames, sound=wave, sample_rate=rate))
    front_end = VGGishLogMel()
    padded = np.pad(wave / 2**15, (0, rate))
    for fps in (1, 4, 60):
        items = list(inferencer.read(source, fps))
        assert seconds * fps - 2 <= len(items) <= seconds * fps
        for j in (*range(0, len(items), 7), len(items) - 1):
            start = front_end.row_start(j // fps) + round(j % fps * rate / fps)
            expected = front_end.row(padded[start : start + front_end.row_samples])
            np.testing.assert_allclose(items[j]['audio'][0], expected, atol=1e-5)


@pytest.mark.parametrize(('seconds', 'rate'), [(3, 16000), (5, 44100), (13, 16000), (13, 48000), (13, 8000)])
def test_a_clip_gets_the_label_map_of_a_test(inferencer, tmp_path, seconds, rate):
    """The same rows of sound and the same labels as through the config's own test pipeline."""
    (tmp_path / 'clip/frames').mkdir(parents=True)
    paths = [str(tmp_path / f'clip/frames/{i}.jpg') for i in range(seconds)]
    for path, frame in zip(paths, noise(seconds), strict=True):
        Image.fromarray(frame).save(path)
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, (seconds * rate + 4000, 2))
    soundfile.write(tmp_path / 'clip/audio.wav', sound, rate)
    steps = [dict(step) for step in PIPELINE if step['type'] != 'LoadClipLabels']
    data = Compose([TRANSFORMS.build(step) for step in steps])(
        dict(
            clip_id='clip',
            frame_paths=paths,
            audio_path=str(tmp_path / 'clip/audio.wav'),
            num_frames=seconds,
            vocabulary=Vocabulary(NAMES),
        )
    )
    source = open_source(tmp_path / 'clip')
    rows = np.concatenate([item['audio'] for item in inferencer.read(source)])
    np.testing.assert_allclose(rows, data['inputs']['audio'].numpy(), atol=1e-4)
    with torch.no_grad():
        (sample,) = inferencer.model.test_step(pseudo_collate([data]))
    maps = maps_of(inferencer, str(tmp_path / 'clip'), overlap=0)
    assert torch.equal(maps, sample.pred_sem_seg.data) and maps.any()


# ------------------------------------------------------------------ inputs
def test_lists_in_any_order(inferencer, video, tmp_path):
    other = write_mp4(tmp_path / 'clip.mp4', noise(20, 5), 10.0, np.zeros(32000))
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for i, frame in enumerate(noise(3, 7)):
        Image.fromarray(frame).save(folder / f'{i}.png')
    inputs = [str(video), str(other), str(folder)]
    content = []
    for name, order in (('a', inputs), ('b', inputs[::-1])):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            inferencer(order, NAMES, out_dir=str(tmp_path / name), no_save_vis=True)
        files = sorted((tmp_path / name).rglob('*.*'))
        content.append({str(f.relative_to(tmp_path / name)): f.read_bytes() for f in files})
    assert content[0] == content[1]
    names = {Path(name).name for name in content[0] if name.endswith('.json')}
    assert names == {f'{video.parent.name}_clip.json', f'{tmp_path.name}_clip.json', 'pictures.json', 'summary.json'}


def test_no_sound_is_silence_with_a_warning(inferencer, tmp_path):
    path = write_mp4(tmp_path / 'silent.mp4', noise(20))
    with pytest.warns(UserWarning, match='silent has no sound: it is taken as silence'):
        (prediction,) = inferencer(str(path), NAMES)['predictions']
    assert prediction['notes'] == ['silent has no sound: it is taken as silence']
    assert [frame['time'] for frame in prediction['frames']] == [0.0, 1.0]


def test_sound_that_is_too_short_or_empty(inferencer, tmp_path):
    frames = np.stack(noise(4))
    short = dict(frames=frames, sound=np.ones(16000, np.float32), sample_rate=16000)
    with pytest.warns(UserWarning, match=r'ends at 1\.00 s, its picture at 4\.00 s'):
        inferencer(short, NAMES)
    empty = dict(frames=frames, sound=np.zeros(0, np.float32), sample_rate=16000, name='x')
    with pytest.warns(UserWarning, match='the sound of x has no samples'):
        inferencer(empty, NAMES)
    empty = write_mp4(tmp_path / 'e.mp4', noise(10), sound=np.zeros(0))
    with pytest.warns(UserWarning, match='e (has no sound|has no samples)|the sound of e has no'):
        inferencer(str(empty), NAMES)


def test_truncated_video(inferencer, tmp_path):
    """What decodes is labelled and written, and the rest is said to be missing."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 6 * 16000)
    whole = write_mp4(tmp_path / 'w.mp4', noise(60), 10.0, sound, options={'movflags': 'faststart'})
    cut = tmp_path / 'cut.mp4'
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.warns(UserWarning, match='cut is damaged or incomplete: its pictures end'):
        (prediction,) = inferencer(str(cut), NAMES, out_dir=str(tmp_path / 'out'))['predictions']
    count = prediction['num_frames']
    assert 1 <= count < 6 and count - 1 < prediction['duration'] <= count
    assert len(list((tmp_path / 'out/pred/cut').iterdir())) == count
    assert (tmp_path / 'out/vis/cut.mp4').stat().st_size > 1000


def test_bad_inputs_can_be_skipped(inferencer, video, tmp_path):
    (tmp_path / 'bad.mp4').write_text('no video')
    inputs = [str(tmp_path / 'bad.mp4'), str(video)]
    with pytest.raises(ValueError, match='cannot be read as a video'):
        inferencer(inputs, NAMES)
    bad, good = inferencer(inputs, NAMES, on_error='skip')['predictions']
    assert 'cannot be read as a video' in bad['error'] and good['num_frames'] == 7


def test_what_is_odd_with_a_video_is_said(inferencer, tmp_path):
    """In the prediction, its file and as a warning; duration, frames and intervals agree."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * 16000)
    path = write_mp4(tmp_path / 'a.mp4', noise(20), 10.0, np.stack([sound, -sound]))
    with pytest.warns(UserWarning, match='the channels of the sound of a cancel each other out for 4'):
        (prediction,) = inferencer(str(path), [*NAMES, '\u9752\u3044'], out_dir=str(tmp_path))['predictions']
    assert prediction['num_frames'] == prediction['duration'] == 5
    ends = [end for name in prediction['names'].values() for _, end in name['intervals']]
    assert max(ends) == 5
    overlay = open_source(tmp_path / 'vis/a.mp4')
    assert overlay.sound is not None and overlay.duration == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize('names', ['dog,cat', ['dog,cat'], ['dog, cat'], ['["dog", "cat"]'], 'dog'])
def test_names_in_one_text_are_refused(inferencer, video, names):
    with pytest.raises(ValueError, match=r'must be a list'):
        inferencer(str(video), names)


# ------------------------------------------------------------------ names
def test_names_and_synonyms_count(inferencer, video):
    """A synonym moves a name; renaming moves labels; unknown names are fine."""
    maps = maps_of(inferencer, str(video))
    (swapped,) = inferencer(str(video), NAMES[::-1], return_datasamples=True)['predictions']
    turned = torch.tensor([0, 3, 2, 1], dtype=torch.uint8)[swapped.pred_sem_seg.data.long()]
    assert (turned == maps).float().mean() > 0.99
    seen = []
    hook = inferencer.model.classifier.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    inferencer(str(video), NAMES, synonyms={'dog': ['puppy']}, prompt_templates=['{}!'])
    hook.remove()
    assert seen[0] == tuple(NAMES) and seen[0].synonyms['dog'] == ('puppy',)
    assert seen[0].templates == ('{}!',)


def test_names_beyond_what_the_text_encoder_reads(inferencer):
    with pytest.warns(UserWarning, match='1 names are longer than the text encoder reads'):
        inferencer.make_request(['dog', 'very ' * 60 + 'long dog'])


def test_many_names(inferencer, video, tmp_path):
    """Label maps have 16 bits then, in memory and in files."""
    names = [f'thing number {i}' for i in range(300)]
    (sample,) = inferencer(str(video), names, out_dir=str(tmp_path), no_save_vis=True, return_datasamples=True)[
        'predictions'
    ]
    assert sample.pred_sem_seg.data.dtype == torch.int16
    png = Image.open(tmp_path / 'pred/clip/000000000.png')
    assert png.mode == 'I;16'
    assert (np.asarray(png) == sample.pred_sem_seg.data[0].numpy()).all()


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(classes=[]), '1 to 32766 names, got 0'),
        (dict(classes='dog'), 'must be a list'),
        (dict(classes=['dog', ' ']), 'not blank'),
        (dict(classes=['dog', 'Dog ']), 'given twice'),
        (dict(fps=0), f'from 1 to {MAX_FPS}, got 0'),
        (dict(fps=1.5), 'whole number'),
        (dict(overlap=5), 'less 1, got 5'),
        (dict(score_thr=2), 'score_thr must be from 0 to 1'),
        (dict(min_sound_score=1.5), 'min_sound_score must be from 0 to 1, got 1.5'),
        (dict(min_sound_score=-0.1), 'got -0.1'),
        (dict(opacity=-1), 'opacity'),
        (dict(batch_size=0), 'batch_size'),
        (dict(on_error='stop'), 'on_error'),
        (dict(speed=3), 'unknown argument'),
    ],
    ids=lambda value: '-'.join(value) if isinstance(value, dict) else '',
)
def test_bad_arguments(inferencer, video, kwargs, message):
    with pytest.raises(ValueError, match=message):
        inferencer(str(video), **{'classes': NAMES, **kwargs})


def test_threshold(inferencer, video):
    """A call's threshold is for that call."""
    before = dict(inferencer.model.test_cfg)
    assert not maps_of(inferencer, str(video), score_thr=1.0).any()
    assert dict(inferencer.model.test_cfg) == before
    assert maps_of(inferencer, str(video)).any()


# ------------------------------------------------------------------ construction
def test_construction_errors(tiny, tmp_path):
    config, weights = tiny
    with pytest.raises(FileNotFoundError, match=r"no config 'ovavss_nano'; .*ovavss_mini"):
        AVSegInferencer('ovavss_nano', weights)
    with pytest.raises(ValueError, match='no weights were given'):
        AVSegInferencer(config)
    with pytest.raises(ValueError, match=r"no device 'tpu' here; choose of cpu"):
        AVSegInferencer(config, weights, device='tpu')
    with pytest.raises(ValueError, match='does not fit the model'):
        AVSegInferencer('ovavss_mini', weights, device='cpu')
    without = Config(dict(model=config.model))
    with pytest.raises(ValueError, match=r'no test_dataloader\.dataset\.pipeline'):
        AVSegInferencer(without, weights, device='cpu')


# ------------------------------------------------------------------ other models
def variant(tiny, folder, meta=None, **model):
    """An inferencer of the tiny model with other parts and drawn weights."""
    config = Config(dict(tiny[0], model=tiny_model.tiny_config(**model)))
    torch.manual_seed(3)
    path = folder / 'variant.pth'
    state = tiny_model.draw_weights(MODELS.build(config.model)).state_dict()
    torch.save(dict(state_dict=state, meta=meta or {}), path)
    return AVSegInferencer(config, str(path), device='cpu', show_progress=False)


CLOSED = dict(decode_head=dict(num_classes=3), classifier=dict(_delete_=True, type='ClosedSetClassifier'))


def test_a_closed_vocabulary_is_that_of_training(tiny, video, tmp_path):
    meta = dict(dataset_meta=dict(classes=('background', *NAMES)))
    closed = variant(tiny, tmp_path, meta, **CLOSED)
    (sample,) = closed(str(video), NAMES, score_thr=0, return_datasamples=True)['predictions']
    assert sample.pred_sem_seg.data.shape == (7, *SIZE) and sample.pred_sem_seg.data.any()
    with pytest.raises(ValueError, match=r"was not trained on 'cat', 'Dog'; it knows dog, violin, a red car"):
        closed(str(video), ['violin', 'cat', 'Dog'])
    (default,) = closed(str(video), score_thr=0, return_datasamples=True)['predictions']
    assert (default.pred_sem_seg.data == sample.pred_sem_seg.data).all()
    with pytest.raises(ValueError, match='synonyms and prompt templates have no effect'):
        closed(str(video), NAMES, synonyms=dict(dog=['puppy']))
    with pytest.raises(ValueError, match='min_sound_score has no effect'):
        closed(str(video), NAMES, min_sound_score=0.5)


def test_a_closed_vocabulary_that_is_not_noted(tiny, video, tmp_path):
    closed = variant(tiny, tmp_path, **CLOSED)
    for names in (['dog'], None):
        with pytest.raises(ValueError, match='closed vocabulary, and its weights do not say which'):
            closed(str(video), names)


@MODELS.register_module()
class TinyDenseHead(torch.nn.Conv2d):
    """Logits of background and three classes from the finest map, which needs no classifier."""

    needs_audio = align_corners = False
    num_classes = out_channels = 4

    def __init__(self):
        super().__init__(8, 4, 1)

    def predict(self, x, batch_img_metas, test_cfg):
        feats, audio = x
        return self(feats[0]).unflatten(0, audio.shape[:2])  # (B, T, K, h, w)


def test_a_dense_head(tiny, video, tmp_path):
    """It labels with the names of its training, by the greatest logit."""
    meta = dict(dataset_meta=dict(classes=('background', *NAMES)))
    head = dict(_delete_=True, type='TinyDenseHead')
    dense = variant(tiny, tmp_path, meta, decode_head=head, classifier=None)
    (sample,) = dense(str(video), NAMES, return_datasamples=True)['predictions']
    assert sample.pred_sem_seg.data.shape == (7, *SIZE)
    assert set(sample.metainfo['timeline']['names']) <= set(NAMES)
    with pytest.raises(ValueError, match="closed vocabulary and was not trained on 'cat'"):
        dense(str(video), [*NAMES, 'cat'])
    with pytest.raises(ValueError, match='score_thr has no effect'):
        dense(str(video), NAMES, score_thr=0.9)
    with pytest.raises(ValueError, match='min_sound_score has no effect'):
        dense(str(video), NAMES, min_sound_score=0.9)
    assert sample.metainfo['timeline']['silent']['seconds'] < 7
    binary = variant(tiny, tmp_path, decode_head=head, classifier=None)
    binary.model.decode_head.dense_classes = 1
    assert binary_name(binary.model) == ('sounding',)
    (some,) = dense(str(video), ['a red car', 'dog'], return_datasamples=True)['predictions']
    place = torch.tensor([0, 2, 0, 1], dtype=torch.uint8)  # of the names of training among those asked for
    found = place[sample.pred_sem_seg.data.long()]
    alone = [0, -1]  # where windows overlap, the other names have a say in what is labelled
    assert (found[alone] == some.pred_sem_seg.data[alone]).all() and some.pred_sem_seg.data.any()


def test_names_must_be_given_to_an_open_vocabulary(inferencer, video):
    with pytest.raises(ValueError, match='give the names to look for'):
        inferencer(str(video))


def test_a_model_without_sound(tiny, video, tmp_path):
    """No sound is read, and none is missed."""
    deaf = variant(
        tiny,
        tmp_path,
        audio_encoder=None,
        neck=dict(fusion=None),
        decode_head=dict(transformer_decoder=dict(audio_prompt=dict(type='NoAudioPrompt'))),
        classifier=dict(sound_thr=None),
    )
    muted = dict(frames=np.stack(noise(7)), name='muted')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for inputs in (muted, str(video)):
            (prediction,) = deaf(inputs, NAMES, score_thr=0)['predictions']
            assert prediction['num_frames'] == 7 and prediction['notes'] == []


def test_show(inferencer, video, monkeypatch):
    """Labelled frames come to the window, drawn."""
    shown = []

    class Window:
        def show(self, picture, name, wait_time):
            shown.append((picture, name, wait_time))

    monkeypatch.setattr('ovavss_mm.apis.video.record.Visualizer', Window)
    inferencer(str(video), NAMES, show=True, wait_time=0.5)
    assert len(shown) == 7 and shown[0][1:] == ('clip', 0.5)
    assert shown[0][0].shape == (*SIZE, 3) and shown[0][0].dtype == np.uint8
