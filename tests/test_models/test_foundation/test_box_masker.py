# SPDX-License-Identifier: Apache-2.0
"""SAM masks boxes: as the library with its own processor, box by box as all at once."""

import pytest
import tiny_foundation
import torch

from ovavss_mm.models import BoxMasker

SHAPE = (45, 60)
BOXES = torch.tensor([[3.0, 4, 30, 40], [10, 20, 55, 44], [0, 0, 60, 45]])


def make(**keys) -> BoxMasker:
    torch.manual_seed(0)
    return BoxMasker(tiny_foundation.SAM, **keys)


@pytest.fixture(scope='module')
def masker() -> BoxMasker:
    return make()


@pytest.fixture(scope='module')
def frames() -> torch.Tensor:
    return torch.randint(256, (2, 3, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope='module')
def embedding(masker, frames) -> torch.Tensor:
    return masker.embed(frames)[0]


def test_masks_are_those_of_the_library(masker, frames, embedding):
    from transformers import SamProcessor

    inputs = SamProcessor(masker.processor)(
        images=frames[0], input_boxes=[BOXES.tolist()], original_sizes=[SHAPE], return_tensors='pt'
    )
    sizes = inputs.pop('original_sizes'), inputs.pop('reshaped_input_sizes')
    inputs['input_boxes'] = inputs['input_boxes'].float()
    with torch.no_grad():
        out = masker.model(**inputs, multimask_output=False)
    (expected,) = masker.processor.post_process_masks(
        out.pred_masks, *sizes, binarize=False, pad_size=dict(height=64, width=64)
    )
    logits, ious = masker(embedding, BOXES, SHAPE)
    torch.testing.assert_close(logits, expected[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(ious, out.iou_scores[0, :, 0], atol=1e-5, rtol=0)


def test_all_boxes_are_decoded_at_once_as_one_by_one(masker, embedding):
    calls = []
    handle = masker.model.mask_decoder.register_forward_pre_hook(lambda *_: calls.append(1))
    prompts = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(2))
    logits, ious = masker(embedding, BOXES, SHAPE, prompts)
    assert len(calls) == 1
    handle.remove()
    for i in range(3):
        some = slice(i, i + 1)
        for one in (masker, make(chunk_size=1)):
            mask, iou = one(embedding, BOXES[some], SHAPE, prompts[some])
            torch.testing.assert_close((mask[0], iou[0]), (logits[i], ious[i]), atol=1e-5, rtol=0)
    assert not torch.allclose(masker(embedding, BOXES, SHAPE)[0], logits), 'prompts have an effect'


def test_a_mask_prompt_lies_on_the_frame_not_on_the_square(masker):
    mask = torch.full((1, *SHAPE), 5.0)
    prompt = masker._prompts(mask, SHAPE, 32)
    assert prompt.shape == (1, 1, 32, 32)
    assert (prompt[0, 0, :24] == 5).all() and (prompt[0, 0, 24:] == 0).all()  # 45 of 60 rows of the square


def test_embeddings_of_frames_are_independent_and_portraits_are_fine(masker, frames):
    both = masker.embed(frames)
    torch.testing.assert_close(masker.embed(frames[1:]), both[1:])
    assert not torch.allclose(both[0], both[1])
    tall = masker.embed(frames.mT.contiguous())[0]
    assert masker(tall, BOXES[:, [1, 0, 3, 2]], SHAPE[::-1])[0].shape == (3, *SHAPE[::-1])


def test_no_boxes_and_another_size(masker, embedding):
    assert masker(embedding, BOXES[:0], SHAPE)[0].shape == (0, *SHAPE)
    large, _ = masker(embedding, BOXES, SHAPE, out_shape=(90, 120))
    small, _ = masker(embedding, BOXES, SHAPE)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(large, 2), small, atol=2e-3, rtol=0)


def test_bfloat16_is_near(frames, masker, embedding):
    half = make(dtype='bfloat16')
    logits, _ = half(half.embed(frames)[0], BOXES, SHAPE)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, masker(embedding, BOXES, SHAPE)[0], atol=0.02, rtol=0)


def test_a_bad_chunk_is_named():
    with pytest.raises(ValueError, match='chunk_size must be at least 1, got 0'):
        make(chunk_size=0)
