# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny_model import draw_weights, give_masks_edges, tiny_config
from torch.nn import functional as F

from ovavss_mm.models import AudioMaskDecHead
from ovavss_mm.models.decode_heads import QueryPredictions

LAYERS, QUERIES, HEADS, AUDIO = 4, 6, 4, 16
SIZES = [(16, 24), (8, 12), (4, 6), (2, 3)]  # f4 to f32


def make_head(**deltas) -> AudioMaskDecHead:
    head = draw_weights(MODELS.build(tiny_config(decode_head=deltas).decode_head))
    give_masks_edges(head)
    return head.double().eval()


@pytest.fixture(scope='module')
def head():
    torch.manual_seed(0)
    return make_head()


def make_input(batch: int = 1, frames: int = 5, sizes=SIZES):
    """Maps of B clips of T frames, and their audio (B, T, Da)."""
    maps = [
        torch.randn(batch * frames, c, *size, dtype=torch.double)
        for c, size in zip([8, 32, 32, 32], sizes, strict=True)
    ]
    return maps, torch.randn(batch, frames, AUDIO, dtype=torch.double)


def make_samples(batch: int = 1, frames: int = 5) -> list[SegDataSample]:
    labels = torch.zeros(frames, 64, 96, dtype=torch.uint8)
    labels[:, 8:40, 10:50] = 3
    return [SegDataSample(gt_sem_seg=PixelData(data=labels)) for _ in range(batch)]


def changed(before: QueryPredictions, after: QueryPredictions, layer: int) -> bool:
    return (before.sound_logits[layer] - after.sound_logits[layer]).abs().max().item() > 1e-6


# ------------------------------------------------------------------ shapes
@settings(max_examples=8, deadline=None)
@given(st.integers(1, 2), st.integers(1, 7), st.integers(1, 3), st.integers(1, 3))
def test_shapes(head, batch, frames, height, width):
    sizes = [(height * s, width * s) for s in (8, 4, 2, 1)]
    predictions = head(make_input(batch, frames, sizes))
    assert predictions.sound_logits.shape == (LAYERS + 1, batch, QUERIES, 2)
    assert predictions.mask_embed.shape == (LAYERS + 1, batch, QUERIES, 32)
    assert predictions.pixel_embed.shape == (batch, frames, 32, *sizes[0])
    assert predictions.masks().shape == (batch, QUERIES, frames, *sizes[0])
    assert all(x.isfinite().all() for x in predictions[:4])


def test_masks_are_query_times_pixel():
    predictions = QueryPredictions(torch.zeros(3, 2, 4, 2), torch.randn(3, 2, 4, 5), torch.randn(2, 3, 5, 6, 7), None)
    for layer in (0, -1):
        masks = predictions.masks(layer)
        for b in range(2):
            for q in range(4):
                for t in range(3):
                    embed = predictions.mask_embed[layer, b, q][:, None, None]
                    expected = (embed * predictions.pixel_embed[b, t]).sum(0)
                    assert torch.allclose(masks[b, q, t], expected, atol=1e-5)


def test_clips_of_a_batch_do_not_mix(head):
    maps, audio = make_input(batch=3, frames=2)
    together = head((maps, audio))
    for b in range(3):
        alone = head(([x[2 * b : 2 * b + 2] for x in maps], audio[b : b + 1]))
        assert torch.allclose(alone.sound_logits[:, 0], together.sound_logits[:, b])
        assert torch.allclose(alone.masks()[0], together.masks()[b])


# ------------------------------------------------------------------ what queries see and hear
def test_prediction_0_hears_but_does_not_see(head):
    maps, audio = make_input()
    before = head((maps, audio))
    other_maps = head(([x + torch.randn_like(x) for x in maps], audio))
    assert torch.equal(before.sound_logits[0], other_maps.sound_logits[0])
    assert torch.equal(before.mask_embed[0], other_maps.mask_embed[0])
    assert changed(before, other_maps, 1)
    other_audio = head((maps, audio.flip(1)))
    assert changed(before, other_audio, 0)


@pytest.mark.parametrize('frame', [0, 2, 4])
def test_queries_see_and_hear_every_frame(head, frame):
    maps, audio = make_input()
    before = head((maps, audio))
    seen = [x.clone() for x in maps]
    for x in seen:
        x[frame] += torch.randn_like(x[frame])
    assert changed(before, head((seen, audio)), -1)
    heard = audio.clone()
    heard[:, frame] += 1.0
    assert changed(before, head((maps, heard)), -1)


def test_order_of_frames_matters(head):
    """The same pictures and sounds in another order are another clip: positions run over time."""
    maps, audio = make_input()
    order = [4, 1, 3, 0, 2]
    before = head((maps, audio))
    assert changed(before, head(([x[order] for x in maps], audio[:, order])), -1)
    assert changed(before, head((maps, audio[:, order])), 0), 'audio has positions of its own'
    with torch.no_grad():
        weight = head.audio_embed.weight.clone()
        head.audio_embed.weight.zero_()
        same = head((maps, audio)), head((maps, audio[:, order]))
        head.audio_embed.weight.copy_(weight)
    assert not changed(*same, 0), 'nothing but the positions tells audio tokens apart'


def test_levels_are_taken_in_turn_from_low_to_high_resolution(head, monkeypatch):
    tokens = []
    for layer in head.transformer_decoder.layers:
        forward = layer.forward
        monkeypatch.setattr(layer, 'forward', lambda *a, f=forward: (tokens.append(a[1].shape[1]), f(*a))[1])
    head(make_input(frames=2))
    sizes = [2 * h * w for h, w in SIZES]
    assert tokens == [sizes[3], sizes[2], sizes[1], sizes[3]]


def test_memory_is_level_by_level_with_positions_in_space_and_time(head):
    levels = torch.zeros(6, 32, 2, 3, dtype=torch.double)
    levels[4] = torch.arange(1.0, 7.0).view(2, 3)  # frame 1 of clip 1
    tokens, positions = head._memory(levels, 2, 1)
    assert tokens.shape == positions.shape == (2, 3 * 2 * 3, 32)
    tokens = tokens - head.level_embed.weight[1]
    expected = torch.arange(1.0, 7.0, dtype=torch.double)[:, None].expand(6, 32)
    assert torch.allclose(tokens[1, 6:12], expected), 'row by row, as in the attention masks'
    assert not tokens[0].any() and not tokens[1, :6].any() and not tokens[1, 12:].any()
    assert torch.equal(positions[0], positions[1])
    assert len(positions[0].unique(dim=0)) == 18, 'no two tokens share a position'
    # frame, row and column each move the position
    grid = positions[0].unflatten(0, (3, 2, 3))
    for other in (grid[1, 0, 0], grid[0, 1, 0], grid[0, 0, 1]):
        assert (grid[0, 0, 0] - other).abs().max() > 0.1


# ------------------------------------------------------------------ attention masks
def test_attention_masks_equal_those_of_resized_masks(head, monkeypatch):
    """Pixels are resized before they meet the queries; Mask2Former resizes whole masks."""
    masks = []
    for layer in head.transformer_decoder.layers:
        forward = layer.forward
        monkeypatch.setattr(layer, 'forward', lambda *a, f=forward: (masks.append(a[6]), f(*a))[1])
    predictions = head(make_input(batch=2, frames=3))
    for i, mask in enumerate(masks):
        size = SIZES[3 - i % 3]
        full = predictions.masks(i).flatten(0, 1)  # (B * Q, T, h4, w4)
        small = F.interpolate(full, size, mode='bilinear', align_corners=False)
        expected = small.sigmoid().flatten(1) < 0.5
        expected[expected.all(1)] = False
        expected = expected.view(2, 1, QUERIES, -1).expand(-1, HEADS, -1, -1).flatten(0, 1)
        assert torch.equal(mask, expected)
        assert 0.1 < mask.double().mean() < 0.9, 'the test has something to compare'


def test_a_query_with_an_empty_mask_sees_everything(head):
    pixels = torch.ones(2, 3, 4, 2, 2)
    embed = torch.tensor([[[-1.0] * 4, [1.0] * 4], [[1.0] * 4, [-1.0] * 4]])  # (B, Q, C)
    pixels[0, 1, :, 0, 0] = -2.0
    mask = head._attn_mask(embed, pixels).view(2, HEADS, 2, 12)
    assert not mask[1].any(), 'all or nothing of the pixels is in the mask: all are seen'
    only = torch.ones(12, dtype=torch.bool)
    only[4] = False  # frame 1, row 0, column 0
    assert (mask[0, :, 0] == only).all() and (mask[0, :, 1] == ~only).all()


# ------------------------------------------------------------------ audio positions
def test_audio_positions_are_the_table_or_between_its_rows(head):
    table = head.audio_embed.weight

    def positions_of(batch, frames):
        return head._audio_tokens(torch.zeros(batch, frames, 1, AUDIO, dtype=torch.double))[1]

    assert torch.equal(positions_of(2, 5), table.expand(2, -1, -1))
    assert torch.allclose(positions_of(1, 1)[0, 0], table[2]), 'the middle'
    for frames in (2, 3, 7, 10):
        positions = positions_of(1, frames)[0]
        assert positions.shape == (frames, 32)
        for i, position in enumerate(positions):
            at = min(max((i + 0.5) * 5 / frames - 0.5, 0.0), 4.0)
            low = min(int(at), 3)
            expected = table[low] + (at - low) * (table[low + 1] - table[low])
            assert torch.allclose(position, expected)


@pytest.mark.parametrize('frames', [1, 3, 5, 7])
def test_positions_are_learned_whatever_the_number_of_frames(frames):
    head = make_head()
    maps, audio = make_input(frames=frames)
    losses = head.loss((maps, audio), make_samples(frames=frames))
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    gradient = head.audio_embed.weight.grad
    assert gradient.isfinite().all()
    # where a token is alone, attention is 1 whatever its position
    assert (gradient.abs().sum(1) > 0).all() == (frames > 1)


@pytest.mark.parametrize('kind', ['NoAudioPrompt', 'ConcatAddPrompt', 'AudioMaskDecPrompt'])
def test_a_frame_may_have_several_audio_tokens(kind):
    """Two tokens that are equal are one token, but in the prompt that counts them."""
    head = make_prompted(kind)
    maps, audio = make_input(frames=3)
    one, two = head((maps, audio)), head((maps, torch.stack([audio, audio], 2)))
    if kind != 'ConcatAddPrompt':
        assert torch.allclose(one.mask_embed, two.mask_embed, atol=1e-6)
    louder = torch.stack([audio, audio + 1], 2)
    assert changed(two, head((maps, louder)), -1) == (kind != 'NoAudioPrompt')


# ------------------------------------------------------------------ ways of hearing
def make_prompted(kind: str = 'AudioMaskDecPrompt', **deltas) -> AudioMaskDecHead:
    return make_head(transformer_decoder=dict(audio_prompt=dict(type=kind, **deltas)))


def heard_after(head: AudioMaskDecHead, audio, other) -> list[bool]:
    """Whether prediction 0 and each layer's differ between two sounds of the same pictures."""
    maps = make_input(frames=audio.shape[1])[0]
    before, after = head((maps, audio)), head((maps, other))
    return [changed(before, after, layer) for layer in range(LAYERS + 1)]


def test_without_a_prompt_queries_do_not_hear():
    head = make_prompted('NoAudioPrompt')
    audio = make_input()[1]
    assert not any(heard_after(head, audio, audio + torch.randn_like(audio)))
    maps = make_input()[0]
    silent = head((maps, audio[..., :0])), head((maps, audio))
    assert not any(changed(*silent, layer) for layer in range(LAYERS + 1)), 'no audio at all will do'
    assert not [n for n, _ in head.named_parameters() if 'audio' in n]
    assert not head.needs_audio and make_head().needs_audio


@pytest.mark.parametrize('frame', [0, 2, 4])
def test_concat_add_tells_the_frames_apart_and_is_a_position(frame):
    head, audio = make_prompted('ConcatAddPrompt'), make_input()[1]
    other = audio.clone()
    other[:, frame] += 1.0
    # a position has no part in what a query says before it has attended to anything
    assert heard_after(head, audio, other) == [False] + [True] * LAYERS
    assert heard_after(head, audio, audio.flip(1))[-1], 'the order of sounds matters'
    prompt, position = head.transformer_decoder.audio_prompt, head.query_embed.weight[None]
    expected = position + prompt.audio_join(audio.flatten(1)).unsqueeze(1)
    assert torch.equal(prompt.query_positions(position, audio), expected)
    for frames in (1, 3, 8):
        one = audio[:, :1].expand(-1, frames, -1)
        same = audio[:, :1].expand(-1, 5, -1)
        positions = [prompt.query_positions(position, rows) for rows in (one, same)]
        assert torch.allclose(*positions)


def test_the_prompt_takes_the_heads_number_of_frames():
    prompt = dict(audio_prompt=dict(type='ConcatAddPrompt'))
    head = make_head(num_frames=3, transformer_decoder=prompt)
    join = head.transformer_decoder.audio_prompt.audio_join
    assert join.in_features == 3 * AUDIO


def test_each_part_of_the_decoder_starts_by_itself():
    """The layers by Xavier, whose bound is known; the projection of 'concat + add' stays as torch draws it."""
    decoder = make_prompted('ConcatAddPrompt').transformer_decoder
    matrix, join = decoder.layers[0].self_attn.attn.in_proj_weight, decoder.audio_prompt.audio_join
    with torch.no_grad():
        matrix.fill_(9)
    before = join.weight.clone()
    decoder.init_weights()
    assert 0 < matrix.abs().max() <= (6 / sum(matrix.shape)) ** 0.5
    assert torch.equal(before, join.weight)


def test_cross_attention_hears_before_the_layers_only():
    head, audio = make_prompted('CrossAttentionPrompt'), make_input()[1]
    assert all(heard_after(head, audio, audio.roll(1, 1)))
    with torch.no_grad():
        head.transformer_decoder.audio_prompt.query_audio_attn.norm.weight.zero_()  # what was heard is lost
    assert not any(heard_after(head, audio, audio + 1))
    ours = make_head()
    with torch.no_grad():
        ours.transformer_decoder.audio_prompt.query_audio_attn.norm.weight.zero_()
    assert heard_after(ours, audio, audio + 1) == [False] + [True] * LAYERS


def test_audio_attends_to_itself_once_or_before_each_layer(monkeypatch):
    maps, audio = make_input()
    for kind, number in (('shared', 1), ('per_layer', LAYERS)):
        head, calls, tokens = make_prompted(audio_self_attn=kind), [], []
        for module in head.transformer_decoder.audio_prompt.audio_self_attn:
            module.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        for layer in head.transformer_decoder.layers:
            layer.register_forward_pre_hook(lambda _, a, tokens=tokens: tokens.append(a[2]))
        head((maps, audio))
        assert len(calls) == number
        assert sum(not torch.equal(a, b) for a, b in zip(tokens, tokens[1:], strict=False)) == (number - 1)


@pytest.mark.parametrize(
    'prompt',
    [
        dict(kind='NoAudioPrompt'),
        dict(kind='ConcatAddPrompt'),
        dict(kind='CrossAttentionPrompt'),
        dict(audio_self_attn='shared'),
        dict(audio_self_attn='per_layer'),
    ],
    ids=['none', 'concat_add', 'cross_attention', 'shared', 'per_layer'],
)
def test_no_variant_has_a_weight_that_does_not_learn(prompt):
    head = make_prompted(**prompt)
    losses = head.loss(make_input(frames=3), make_samples(frames=3))
    sum(losses.values()).backward()
    assert not [n for n, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


# ------------------------------------------------------------------ closed set
def test_a_closed_set_head_gives_names():
    head = make_head(num_classes=3, criterion=dict(loss_sound=dict(num_classes=3)))
    x = make_input(batch=2, frames=3)
    predictions = head(x)
    assert predictions.sound_logits.shape[-1] == 4
    for b, queries in enumerate(head.predict(x)):
        expected = predictions.sound_logits[-1, b].softmax(-1).float()
        assert torch.allclose(queries.name_scores, expected[:, :3])
        assert torch.allclose(queries.scores, 1 - expected[:, 3])
    assert all(v.isfinite() for v in head.loss(make_input(), make_samples()).values())


# ------------------------------------------------------------------ losses and predictions
def test_losses_have_a_name_a_layer_and_are_means_over_clips(head, fixed_points):
    maps, audio = make_input(batch=2)
    samples = make_samples(2)
    samples[1].gt_sem_seg = PixelData(data=samples[1].gt_sem_seg.data.flip(-1) * 2)
    losses = head.loss((maps, audio), samples)
    kinds = ('loss_sound', 'loss_mask', 'loss_dice')
    names = set(kinds) | {f'd{i}.{kind}' for i in range(LAYERS) for kind in kinds}
    assert losses.keys() == names
    alone = [head.loss(([x[5 * b : 5 * b + 5] for x in maps], audio[b : b + 1]), [samples[b]]) for b in range(2)]
    for name, value in losses.items():
        assert torch.allclose(value, (alone[0][name] + alone[1][name]) / 2, atol=1e-5)
    assert len({round(value.item(), 6) for value in losses.values()}) == len(losses)


def test_last_layer_has_the_plain_name(head, fixed_points):
    x, samples = make_input(), make_samples()
    losses, predictions = head.loss(x, samples), head(x)
    for layer, name in ((-1, 'loss_sound'), (0, 'd0.loss_sound'), (LAYERS - 1, 'd3.loss_sound')):
        logits = predictions.sound_logits[layer, 0].float()
        # one target: one query of weight 1, the others 0.1
        entropy = -logits.log_softmax(-1)
        options = [
            (entropy[q, 0] + 0.1 * (entropy[:, 1].sum() - entropy[q, 1])) / (1 + 0.1 * (QUERIES - 1))
            for q in range(QUERIES)
        ]
        assert min(abs(2 * option - losses[name]) for option in options) < 1e-5


def test_predict_gives_the_last_layer(head):
    x = make_input(batch=2, frames=3)
    predictions = head(x)
    for b, queries in enumerate(head.predict(x)):
        expected = predictions.sound_logits[-1, b].exp()
        expected = (expected[:, 0] / expected.sum(-1)).float()
        assert torch.allclose(queries.scores, expected)
        assert queries.masks.shape == (QUERIES, 3, *SIZES[0])
        assert torch.allclose(queries.masks, predictions.masks(-1)[b].float())


def test_a_head_that_only_predicts_needs_no_criterion():
    config = tiny_config().decode_head
    config.pop('criterion')
    head = MODELS.build(config).double().eval()
    assert len(head.predict(make_input())) == 1


# ------------------------------------------------------------------ weights and arguments
def test_init_weights_draws_the_decoder_and_the_pixel_decoder():
    head = make_head().float()
    before = {name: p.clone() for name, p in head.named_parameters()}
    head.init_weights()
    for name, parameter in head.named_parameters():
        if parameter.dim() > 1 and name.startswith(('transformer_decoder.', 'pixel_decoder.')):
            assert not torch.equal(parameter, before[name]), name
    weight = head.transformer_decoder.layers[0].ffn.layers[1].weight
    bound = (6 / sum(weight.shape)) ** 0.5
    assert 0.9 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize(
    ('deltas', 'message'),
    [
        (dict(num_frames=0), 'at least 1, got 0, 6'),
        (dict(num_queries=0), 'at least 1, got 5, 0'),
        (dict(num_classes=0), 'at least 1, got 5, 6, 0'),
        (dict(transformer_decoder=dict(audio_prompt=dict(type='Loud'))), "prompt, got 'Loud'"),
        (dict(transformer_decoder=dict(audio_prompt=dict(audio_self_attn='twice'))), "got 'twice'"),
        (dict(feat_channels=64), '32 channels, feat_channels is 64'),
    ],
)
def test_arguments_are_checked(deltas, message):
    with pytest.raises(ValueError, match=message):
        make_head(**deltas)


# ------------------------------------------------------------------ scores of frames
SCORES = [dict(type='FrameSoundScore'), dict(type='PresenceScore')]


def test_scores_of_frames_gate_the_sound_scores():
    """Silent frames have no score, and a query has that of its loudest frame."""
    head = make_head(frame_scores=SCORES)
    x = make_input(2)
    predictions, clips = head(x), head.predict(x)
    plain = predictions.sound_logits[-1].softmax(-1)[..., 0]
    gates = predictions.frame_logits[0][-1].sigmoid() * predictions.frame_logits[1][-1].sigmoid()
    for clip, scores, gate in zip(clips, plain, gates, strict=True):
        assert clip.frame_sounds.shape == (QUERIES, 5)
        assert torch.allclose(clip.frame_sounds, (scores[:, None] * gate).float(), atol=1e-6)
        assert torch.equal(clip.scores, clip.frame_sounds.amax(1))
    assert 'frame_sounds' not in make_head().predict(x)[0]


def test_each_score_of_frames_has_a_loss_a_layer_and_learns():
    head = make_head(frame_scores=SCORES)
    losses = head.loss(make_input(2), make_samples(2))
    for name in ('loss_frame_sound', 'loss_presence'):
        assert {f'd{i}.{name}' for i in range(LAYERS)} < set(losses) and losses[name] > 0
    sum(value for name, value in losses.items() if 'frame_sound' in name or 'presence' in name).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.frame_scores.parameters())


def test_scores_of_frames_need_tokens():
    with pytest.raises(ValueError, match='frame_scores need a prompt with audio tokens .* got NoAudioPrompt and 1'):
        make_head(frame_scores=SCORES, transformer_decoder=dict(audio_prompt=dict(type='NoAudioPrompt')))
    with pytest.raises(ValueError, match='num_classes=1, got AudioMaskDecPrompt and 3'):
        make_head(frame_scores=SCORES, num_classes=3)
