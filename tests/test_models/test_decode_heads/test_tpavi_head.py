# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny_model import draw_weights
from torch import nn

from ovavss_mm.models import TPAVIHead

C, DA = 8, 6
AVM = dict(type='AudioVisualMatchLoss')


def make_head(num_classes: int = 4, **options) -> TPAVIHead:
    torch.manual_seed(0)
    return draw_weights(TPAVIHead(num_classes, C, DA, (4, 4), **options)).double().eval()


def make_clips(batch: int, frames: int) -> tuple:
    torch.manual_seed(1)
    maps = [torch.randn(batch * frames, C, 32 // s, 64 // s).double() for s in (4, 8, 16, 32)]
    return maps, torch.randn(batch, frames, DA).double()


def make_samples(batch: int, frames: int, annotated: list[int] | None = None, **meta) -> list[SegDataSample]:
    torch.manual_seed(2)
    samples = []
    for _ in range(batch):
        labels = torch.randint(0, 3, (frames, 32, 64), dtype=torch.uint8)
        if annotated is not None:
            labels[[t for t in range(frames) if t not in annotated]] = 255
        samples.append(SegDataSample(metainfo=meta))
        samples[-1].gt_sem_seg = PixelData(data=labels)
    return samples


def rows(x: tuple, keep: slice) -> tuple:
    """Some clips of several."""
    maps, audio = x
    return [m.unflatten(0, audio.shape[:2])[keep].flatten(0, 1) for m in maps], audio[keep]


def test_logits_are_at_the_size_of_the_input_and_of_each_clip_by_itself():
    head, x = make_head(), make_clips(2, 10)
    logits = head.predict(x)
    assert logits.shape == (2, 10, 4, 32, 64)
    assert torch.allclose(logits[1:], head.predict(rows(x, slice(1, 2))), atol=1e-12)


def test_several_tokens_a_frame_count_as_their_mean():
    head, (maps, audio) = make_head(), make_clips(1, 5)
    both = torch.stack([audio + 1, audio - 1], 2)  # (B, T, S, Da)
    assert torch.allclose(head.predict((maps, both)), head.predict((maps, audio)))


def test_padding_frames_are_0_and_clips_are_filled_up_with_them():
    """A clip of 7 frames, or one of 10 of which 3 are padding: the same, whatever is in these."""
    head, x = make_head(), make_clips(1, 10)
    exists = (torch.arange(10) < 7)[None]
    logits = head(x, exists)
    assert (logits[0, 7:] == 0).all()
    short = [m[:7] for m in x[0]], x[1][:, :7]
    with pytest.warns(UserWarning, match='clips of 7 frames are filled up to 10, as windows have 5'):
        assert torch.allclose(head.predict(short), logits[:, :7], atol=1e-12)
    assert not torch.allclose(logits[:, 5:7], head.predict(x)[:, 5:7]), 'a real frame there would have been seen'


def test_only_annotated_frames_count_and_the_others_are_not_decoded():
    head, x = make_head(loss_avm=AVM), make_clips(2, 5)
    samples = make_samples(2, 5, [0, 3])
    decoded = []
    handle = head.output.register_forward_hook(lambda module, args, out: decoded.append(len(out)))
    losses = head.loss(x, samples)
    handle.remove()
    assert decoded == [4] and set(losses) == {'loss_ce', 'loss_avm'}
    logits = head.predict(x)
    frames = [(b, t) for b in range(2) for t in (0, 3)]
    each = [
        nn.functional.cross_entropy(logits[b, t][None], samples[b].gt_sem_seg.data[t][None].long()) for b, t in frames
    ]
    assert torch.allclose(losses['loss_ce'], sum(each) / 4)


def test_pixels_without_label_do_not_count():
    head, x = make_head(), make_clips(1, 5)
    samples = make_samples(1, 5, [2])
    samples[0].gt_sem_seg.data[2, :, 40:] = 255
    logits = head.predict(x)[0, 2, None, :, :, :40]
    wanted = nn.functional.cross_entropy(logits, samples[0].gt_sem_seg.data[None, 2, :, :40].long())
    assert torch.allclose(head.loss(x, samples)['loss_ce'], wanted)


def test_one_class_tells_sounding_pixels_from_others():
    head, x = make_head(1), make_clips(1, 5)
    samples = make_samples(1, 5, [0])
    target = (samples[0].gt_sem_seg.data[:1] > 0).double()
    wanted = nn.functional.binary_cross_entropy_with_logits(head.predict(x)[0, :1, 0], target)
    assert torch.allclose(head.loss(x, samples)['loss_ce'], wanted)


def test_no_annotated_frame_gives_0_with_gradients():
    head, x = make_head(loss_avm=AVM), make_clips(1, 5)
    losses = head.loss(x, make_samples(1, 5, []))
    sum(losses.values()).backward()
    assert all(value == 0 for value in losses.values())


def test_filled_up_frames_enter_the_batch_norm_of_training():
    """As published: their number changes what the others get."""
    head, x = make_head().train(), make_clips(1, 10)
    nn.init.ones_(head.blocks[0].norm.weight)
    losses = [head.loss(x, make_samples(1, 10, [0], valid_frames=n))['loss_ce'].item() for n in (5, 10)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


def test_published_oddities_are_keys():
    head, x = make_head(loss_avm=AVM), make_clips(1, 5)
    other = make_head(loss_avm=AVM, relu_residual=False)
    other.load_state_dict(head.state_dict())
    assert not torch.allclose(head.predict(x), other.predict(x))
    samples = make_samples(1, 5)
    sees_z = other.loss(x, samples)
    other.relu_residual = True  # now of the loss only: it sees relu(z)
    sees_relu = other.loss(x, samples)
    assert torch.equal(sees_z['loss_ce'], sees_relu['loss_ce'])
    assert not torch.allclose(sees_z['loss_avm'], sees_relu['loss_avm'])
    unused = {key for key in head.state_dict() if key.startswith('refine.3.skip_unit.')}
    assert len(unused) == 4
    assert set(make_head(unused_unit=False).state_dict()) == set(head.state_dict()) - unused
    resnet = dict(type='ResNet', depth=18, base_channels=4, stem_channels=4)
    branch = set(make_head(extra_branch=resnet).state_dict()) - set(head.state_dict())
    assert {key.split('.')[1] for key in branch} == {'layer3', 'layer4'}


def test_wrong_numbers_are_named():
    with pytest.raises(ValueError, match='at least 1, output_channels two numbers, got 0, 5 and'):
        TPAVIHead(0)
