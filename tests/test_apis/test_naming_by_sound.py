# SPDX-License-Identifier: Apache-2.0
"""A stream that is heard by two front ends: the network's, and that of a namer."""

import numpy as np
import pytest
import soundfile
import tiny_model
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS, TRANSFORMS
from PIL import Image
from tiny_foundation import CLAP, FRONT_END, roberta_tokenizer
from tiny_inferencer import PIPELINE

from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.video.sources import open_source
from ovavss_mm.datasets.vocabulary import Vocabulary

NAMES = ['dog', 'violin', 'a red car']
HEAR = dict(type='LoadClipAudio', key='naming_audio', front_end=FRONT_END)
DEAF = dict(
    audio_encoder=None,
    neck=dict(fusion=None),
    decode_head=dict(transformer_decoder=dict(audio_prompt=dict(type='NoAudioPrompt'))),
)


@pytest.fixture(scope='module')
def make(tmp_path_factory):
    """Makes an inferencer of a drawn model that names by sound too."""
    init_default_scope('mmseg')
    folder = tmp_path_factory.mktemp('heard')
    tokenizer = roberta_tokenizer(folder)

    def make(**deltas) -> AVSegInferencer:
        torch.manual_seed(3)
        namer = dict(type='SoundNamer', config=CLAP, tokenizer=tokenizer)
        seen = dict(tiny_model.CLASSIFIER, sound_thr=None)
        scorer = dict(_delete_=True, type='SoundNameScorer', classifier=seen, namer=namer, sound_weight=0.5)
        config = tiny_model.tiny_config(classifier=scorer, **deltas)
        config.test_cfg.score_thr = 0.0
        pipeline = [*PIPELINE[:2], HEAR, *PIPELINE[2:]]
        config = Config(dict(model=config, test_dataloader=dict(dataset=dict(pipeline=pipeline))))
        model = tiny_model.draw_weights(MODELS.build(config.model))
        tiny_model.give_masks_edges(model.decode_head)
        torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'model.pth')
        return AVSegInferencer(config, str(folder / 'model.pth'), device='cpu', show_progress=False)

    return make


@pytest.fixture
def clip(tmp_path):
    """A folder of seven pictures and their sound."""
    rng = np.random.default_rng(0)
    (tmp_path / 'clip/frames').mkdir(parents=True)
    for i in range(7):
        Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(tmp_path / f'clip/frames/{i}.jpg')
    soundfile.write(tmp_path / 'clip/audio.wav', rng.uniform(-0.5, 0.5, 7 * 22050 + 4000), 22050)
    return tmp_path / 'clip'


def test_a_clip_gets_the_label_map_of_a_test(make, clip):
    inferencer = make()
    steps = [dict(step) for step in (*PIPELINE[:2], HEAR, *PIPELINE[2:]) if step['type'] != 'LoadClipLabels']
    results = dict(clip_id='clip', audio_path=str(clip / 'audio.wav'), num_frames=7, vocabulary=Vocabulary(NAMES))
    results['frame_paths'] = [str(clip / f'frames/{i}.jpg') for i in range(7)]
    data = Compose([TRANSFORMS.build(step) for step in steps])(results)
    items = list(inferencer.read(open_source(clip)))
    for key in ('audio', 'naming_audio'):
        rows = np.concatenate([item[key] for item in items])
        np.testing.assert_allclose(rows, data['inputs'][key].numpy(), atol=2e-2, err_msg=key)
    with torch.no_grad():
        (sample,) = inferencer.model.test_step(pseudo_collate([data]))
    result = inferencer(str(clip), NAMES, return_datasamples=True, score_thr=0, overlap=0)
    assert (result['predictions'][0].pred_sem_seg.data == sample.pred_sem_seg.data).float().mean() > 0.99


def test_a_model_that_hears_in_naming_only_reads_sound(make, clip):
    deaf = make(**DEAF)
    assert deaf.model.hears
    other = clip.parent / 'silent'
    (other / 'frames').mkdir(parents=True)
    for path in (clip / 'frames').glob('*.jpg'):
        (other / 'frames' / path.name).write_bytes(path.read_bytes())
    soundfile.write(other / 'audio.wav', np.zeros(7 * 22050), 22050)
    own, none = (list(deaf.read(open_source(folder))) for folder in (clip, other))
    assert len(own) == len(none) == 7 and all(np.ptp(x['naming_audio']) > 1 for x in own)
    assert all(np.ptp(x['naming_audio']) == 0 for x in none)
    assert deaf(str(clip), NAMES, score_thr=0)['predictions'][0]['notes'] == []


def test_the_threshold_of_sound_scores_is_that_of_the_wrapped_classifier(make, clip):
    heard = make()
    assert heard(str(clip), NAMES, min_sound_score=0)['predictions'][0]['names']
    assert heard(str(clip), NAMES, min_sound_score=1)['predictions'][0]['silent']['intervals'] == [[0, 7]]


def test_channels_that_cancel_each_other_out_are_noted_once(make, clip):
    wave = np.random.default_rng(1).uniform(-0.5, 0.5, 7 * 22050)
    soundfile.write(clip / 'audio.wav', np.stack([wave, -wave], 1), 22050)
    (note,) = [x for x in make()(str(clip), NAMES)['predictions'][0]['notes'] if 'cancel' in x]
    assert float(note.split(' s, as')[0].rpartition(' ')[2]) < 7.5, note
