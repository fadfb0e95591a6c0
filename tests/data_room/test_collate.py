"""Rotary positions, labels, weights and padding, by hand."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model import tiny
from unixcxr.batch import IGNORE, Example, LatentSegment, ReadSegment, TextSegment
from unixcxr.data.collate import collate, next_position

CONFIG = tiny.CONFIG
BOS, EOS, SOI, EOI = (
    CONFIG.tokens.bos,
    CONFIG.tokens.eos,
    CONFIG.tokens.start_of_image,
    CONFIG.tokens.end_of_image,
)


def rows(tensor: Tensor) -> list[list[float]]:
    return tensor.tolist()


def test_reading_by_hand() -> None:
    image = tiny.picture(0)  # 16 px, patches of 8: four tokens
    batch = collate(
        [tiny.example(ReadSegment(image), tiny.text(5, 6), tiny.text(7, 8, has_loss=True))], CONFIG
    )
    und = batch.und
    assert und.token_ids[0, [0, 5]].tolist() == [SOI, EOI]
    assert und.token_ids[0, 6:].tolist() == [BOS, 5, 6, EOS, BOS, 7, 8, EOS]
    assert rows(und.layout.positions) == [[0] * 6 + [1, 2, 3, 4, 5, 6, 7, 8]]
    assert rows(und.image_slots) == [[False, True, True, True, True, False] + [False] * 8]
    assert not und.layout.noisy.any()
    assert torch.equal(und.images, image[None])
    # the answer's start token predicts 7, 7 predicts 8, 8 predicts the end; the end predicts nothing
    assert rows(batch.label_ids) == [[IGNORE] * 10 + [7, 8, EOS, IGNORE]]
    assert rows(batch.logit_slots) == [[False] * 10 + [True, True, True, False]]
    assert rows(batch.label_weights) == [pytest.approx([0.0] * 10 + [1 / sqrt(3)] * 3 + [0.0])]
    assert batch.gen is None


def test_drawing_by_hand() -> None:
    latent = tiny.latent(2, 3)
    batch = collate([tiny.example(tiny.text(5), LatentSegment(latent, 0.7))], CONFIG)
    assert rows(batch.und.token_ids) == [[BOS, 5, EOS, SOI, EOI]]
    assert rows(batch.und.layout.positions) == [[0, 1, 2, 3, 3]]
    assert rows(batch.und.layout.noisy) == [[False, False, False, True, True]]
    gen = batch.gen
    assert gen is not None
    assert rows(gen.layout.positions) == [[3] * 6]
    # the table is 4 x 4, so the second row of latents starts at place 4
    assert rows(gen.grid_ids) == [[0, 1, 2, 4, 5, 6]]
    assert gen.timesteps[0].tolist() == pytest.approx([0.7] * 6)
    assert torch.equal(gen.latents[0, 4], latent[:, 1, 1])
    assert (batch.label_ids, batch.logit_slots, batch.label_weights) == (None, None, None)


def test_unconditional_latents_stand_at_position_zero() -> None:
    batch = collate([tiny.example(LatentSegment(tiny.latent(1, 1), 1.0))], CONFIG)
    assert rows(batch.layout.positions) == [[0, 0, 0]]


def test_context_latents_take_one_position_and_noisy_ones_none() -> None:
    context = LatentSegment(tiny.latent(1, 2), 0.0, is_context=True)
    noisy = LatentSegment(tiny.latent(1, 1), 0.4)
    batch = collate([tiny.example(context, noisy, tiny.text(), noisy)], CONFIG)
    assert rows(batch.und.token_ids) == [[SOI, EOI, SOI, EOI, BOS, EOS, SOI, EOI]]
    assert rows(batch.und.layout.positions) == [[0, 0, 1, 1, 1, 2, 3, 3]]
    assert batch.gen is not None
    assert rows(batch.gen.layout.positions) == [[0, 0, 1, 3]]
    assert rows(batch.gen.layout.noisy) == [[False, False, True, True]]
    assert batch.gen.timesteps[0].tolist() == pytest.approx([0.0, 0.0, 0.4, 0.4])


def test_stretched_positions_spread_a_small_grid_over_the_table() -> None:
    config = replace(CONFIG, stretch_positions=True)
    batch = collate([tiny.example(LatentSegment(tiny.latent(2, 1), 1.0))], config)
    assert batch.gen is not None
    assert rows(batch.gen.grid_ids) == [[0, 8]]  # rows 0 and 2 of 4


def test_weights_of_known_lengths() -> None:
    """1 / sqrt(tokens + 1), each text by its own length."""
    examples = [
        tiny.example(TextSegment(tuple(range(n)), has_loss=True), tiny.text(1, 2, 3, has_loss=True))
        for n in (0, 3, 8)
    ]
    weights = collate(examples, CONFIG).label_weights
    assert weights is not None
    assert weights[0, :1].tolist() == pytest.approx([1.0])
    assert weights[1, :4].tolist() == pytest.approx([0.5] * 4)
    assert weights[2, :9].tolist() == pytest.approx([1 / 3] * 9)
    assert weights[2, 10:14].tolist() == pytest.approx([0.5] * 4)


def test_padding() -> None:
    examples = [tiny.example(tiny.text(1, 2)), tiny.example(LatentSegment(tiny.latent(1, 2), 0.5))]
    batch = collate(examples, CONFIG)
    assert rows(batch.und.layout.valid) == [[True] * 4, [True, True, False, False]]
    assert batch.gen is not None
    assert rows(batch.gen.layout.valid) == [[False, False], [True, True]]
    assert not batch.gen.latents[0].any()


def test_starts_move_positions_alone() -> None:
    examples = [tiny.SAMPLES["mixed"], tiny.SAMPLES["drawing"]]
    plain, moved = collate(examples, CONFIG), collate(examples, CONFIG, starts=[7, 100])
    shift = torch.tensor([[7], [100]])
    for a, b in ((plain.und.layout, moved.und.layout), (plain.gen.layout, moved.gen.layout)):
        assert torch.equal(b.positions[a.valid], (a.positions + shift)[a.valid])
        assert torch.equal(a.order, b.order)
    with pytest.raises(ValueError, match="shorter"):
        collate(examples, CONFIG, starts=[7])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_times_are_float32_whatever_the_latents_are(dtype: torch.dtype) -> None:
    """0.7 in bfloat16 is 0.69921875: another time."""
    batch = collate([tiny.example(LatentSegment(tiny.latent(1, 1).to(dtype), 0.7))], CONFIG)
    assert batch.gen is not None
    assert batch.gen.timesteps.dtype == torch.float32
    assert batch.gen.timesteps.item() == pytest.approx(0.7, abs=1e-7)
    assert batch.gen.latents.dtype == dtype


SEGMENTS = st.one_of(
    st.builds(TextSegment, st.lists(st.integers(0, 99), max_size=5).map(tuple), st.booleans()),
    st.just(ReadSegment(tiny.picture(0))),
    st.builds(LatentSegment, st.just(tiny.latent(1, 2)), st.just(0.5), st.booleans()),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(SEGMENTS, max_size=4).map(lambda s: Example(tuple(s))), min_size=1, max_size=3))
def test_every_token_has_its_place(examples: list[Example]) -> None:
    """Token counts, next positions and labels of arbitrary samples."""
    batch = collate(examples, CONFIG)
    for row, example in enumerate(examples):
        texts = [s for s in example.segments if isinstance(s, TextSegment)]
        pictures = [s for s in example.segments if not isinstance(s, TextSegment)]
        num_read = sum(isinstance(s, ReadSegment) for s in pictures)
        num_und = sum(len(t.token_ids) + 2 for t in texts) + 2 * len(pictures) + 4 * num_read
        valid = batch.und.layout.valid[row]
        assert int(valid.sum()) == num_und
        following = collate([Example((*example.segments, tiny.text()))], CONFIG).und.layout.positions[0, -2]
        assert next_position(example) == int(following)
        num_labels = sum(len(t.token_ids) + 1 for t in texts if t.has_loss)
        assert int(batch.label_ids[row].ne(IGNORE).sum() if batch.label_ids is not None else 0) == num_labels
