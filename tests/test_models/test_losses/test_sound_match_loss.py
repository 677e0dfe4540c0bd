# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from ovavss_mm.models.losses import SoundMatchLoss
from ovavss_mm.models.losses.sound_match_loss import known_sounds, position_labels

NAMES = ('dog', 'cat', 'bird')
SHAPES = [(1, 2), (2, 4)]
L = 10  # positions of both


def make_sample(label_map: torch.Tensor, *names: str, **meta) -> SegDataSample:
    sample = SegDataSample(metainfo=dict(vocabulary=NAMES, names=names, **meta))
    sample.gt_sem_seg = PixelData(data=label_map.to(torch.uint8))
    return sample


def make_samples() -> list[SegDataSample]:
    """A dog that sounds in the first of two frames, and a cat in the first frame alone of which is known."""
    dog, cat = torch.zeros(2, 4, 8), torch.full((2, 4, 8), 255)
    dog[0, :, :4] = 1
    cat[0] = 0
    cat[0, :, 4:] = 2
    return [make_sample(dog, 'dog'), make_sample(cat, 'cat')]


def test_what_is_known_to_sound():
    dog, cat = (known_sounds(sample)[:, :4].tolist() for sample in make_samples())
    assert dog == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert cat == [[1, 0, 1, 0], [0, 0, -1, 0]], 'in the frame that is not annotated the cat may sound, nothing else'
    mixed = make_samples()[0]
    mixed.set_metainfo(dict(sound='off_screen_3dB'))
    assert (known_sounds(mixed) == -1).all()
    mixed.set_metainfo(dict(sound='own'))
    assert known_sounds(mixed)[:, :4].tolist() == dog


def test_positions_have_the_labels_of_their_places():
    label_map = torch.arange(32).view(1, 4, 8)
    assert position_labels(label_map, SHAPES).tolist() == [[0, 4, 0, 2, 4, 6, 16, 18, 20, 22]]


def reference(logits, samples) -> torch.Tensor:
    """By loops over pairs of frames and positions."""
    labels = [row for sample in samples for row in position_labels(sample.gt_sem_seg.data, SHAPES).tolist()]
    sounds = [row for sample in samples for row in known_sounds(sample).tolist()]
    parts = ([], [], [])
    for m, row in enumerate(labels):
        for a in range(len(labels)):
            for place, label in enumerate(row):
                if label == 255 or (label == 0 and a != m):
                    continue
                wanted = int(label > 0) if a == m else sounds[a][label]
                if wanted >= 0:
                    value = logits[m, a, place]
                    part = parts[0 if wanted else 1 if a == m else 2]
                    part.append(F.softplus(value) - value * wanted)
    return sum(w * torch.stack(p).mean() for w, p in zip((1.0, 0.5, 0.5), parts, strict=True))


def loss_of(logits, samples, loss=None) -> torch.Tensor:
    """The loss where positions and sounds match so well."""
    tokens = torch.zeros(len(logits), 1, 3, dtype=logits.dtype)
    return (loss or SoundMatchLoss())(lambda visual, audio: logits, None, tokens, SHAPES, samples)


def test_equals_plain_loops_in_value_and_gradient():
    samples = make_samples()
    logits = torch.randn(4, 4, L, dtype=torch.double, requires_grad=True)
    found, expected = loss_of(logits, samples, SoundMatchLoss(2.0)), 2 * reference(logits, samples)
    assert torch.allclose(found, expected)
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (found, expected)]
    assert torch.allclose(*gradients)


def test_order_of_clips_does_not_matter():
    first, second = make_samples()
    logits = torch.randn(4, 4, L, dtype=torch.double)
    order = torch.tensor([2, 3, 0, 1])
    assert torch.allclose(loss_of(logits, [first, second]), loss_of(logits[order][:, order], [second, first]))


@pytest.mark.parametrize('label', [0, 255], ids=['silent', 'not annotated'])
def test_one_clip_of_which_nothing_sounds_has_a_finite_loss(label):
    sample = make_sample(torch.full((2, 4, 8), label), sound='silence')
    logits = torch.randn(2, 2, L, dtype=torch.double, requires_grad=True)
    loss = loss_of(logits, [sample])
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    assert (loss > 0) == (label == 0)


def test_memory_makes_of_single_clips_what_a_batch_has():
    """The second clip meets the first one's sounds as in a batch of both, without a gradient for these."""
    first, second = make_samples()
    weights = torch.randn(3, L, dtype=torch.double)
    audio = torch.randn(4, 1, 3, dtype=torch.double, requires_grad=True)

    def match(visual, tokens):
        return (visual + tokens[None, :, 0]) @ weights  # (M, A, L)

    def loss_of_clips(loss, clips, part):
        return loss(match, visual[part], audio[part], SHAPES, clips)

    visual = torch.randn(4, 1, 3, dtype=torch.double)
    loss = SoundMatchLoss(memory=1)
    before = loss_of_clips(loss, [first], slice(0, 2))
    assert torch.equal(before, loss_of_clips(SoundMatchLoss(), [first], slice(0, 2)))
    after = loss_of_clips(loss, [second], slice(2, 4))
    assert not torch.allclose(after, loss_of_clips(SoundMatchLoss(), [second], slice(2, 4)))
    (gradient,) = torch.autograd.grad(after, audio)
    assert (gradient[:2] == 0).all() and (gradient[2:] != 0).any()
    assert len(loss.memory) == 1 and not loss.memory[0][0].requires_grad
    assert not loss.state_dict()


def test_a_label_of_no_listed_name_is_an_error():
    """As of binary data, where what sounds in two clips cannot be told apart."""
    sample = make_sample(torch.ones(1, 4, 8), 'cat', clip_id='c7')
    with pytest.raises(ValueError, match=r"clip c7 has the label 'dog', which is none of its names \(cat\)"):
        known_sounds(sample)


@pytest.mark.parametrize('wrong', [dict(loss_weight=-1), dict(memory=-1)], ids=str)
def test_numbers_are_checked(wrong):
    with pytest.raises(ValueError, match='must not be negative, got .*-1'):
        SoundMatchLoss(**wrong)
