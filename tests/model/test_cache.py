"""Cached passes against one uncached pass; rows picked, frozen, grown."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model import tiny
from unixcxr.batch import Example, Layout
from unixcxr.data.collate import collate, next_position
from unixcxr.model.cache import Cache
from unixcxr.model.unix import UniX

MODEL = tiny.build()
ROOM = 64


@torch.no_grad()
def feed(model: UniX, cache: Cache, examples: list[Example], starts: list[int] | None = None) -> list[Tensor]:
    """Run examples behind a cache; return each row's und states, then its velocities."""
    device = model.device
    batch = collate(examples, tiny.CONFIG, starts).to(device)
    output = model(batch, cache)
    parts = [row[valid] for row, valid in zip(output.und, batch.und.layout.valid, strict=True)]
    if batch.gen is not None:
        parts += [row[valid] for row, valid in zip(output.velocity, batch.gen.layout.valid, strict=True)]
    return parts


def split(sample: Example) -> tuple[Example, Example]:
    return Example(sample.segments[:-1]), Example(sample.segments[-1:])


@pytest.mark.parametrize("name", [n for n, s in tiny.SAMPLES.items() if len(s.segments) > 1])
@torch.no_grad()
def test_segment_by_segment_is_all_at_once(name: str, device: str) -> None:
    model = tiny.build().to(device)
    sample = tiny.SAMPLES[name]
    whole = model(collate([sample], tiny.CONFIG).to(device))
    cache = model.new_cache(1, ROOM)
    position, und, velocity = 0, [], []
    for segment in sample.segments:
        piece = Example((segment,))
        output = model(collate([piece], tiny.CONFIG, [position]).to(device), cache)
        und.append(output.und)
        velocity += [] if output.velocity is None else [output.velocity]
        position += next_position(piece)
    assert torch.allclose(torch.cat(und, 1), whole.und, atol=1e-5, rtol=1e-5)
    if whole.velocity is not None:
        assert torch.allclose(torch.cat(velocity, 1), whole.velocity, atol=1e-5)


@torch.no_grad()
def test_rows_of_different_lengths_continue_as_if_alone() -> None:
    """Padding of a shorter prefix stays a hole in the cache that nobody sees."""
    names = ["drawing", "context latents", "image and text to image"]
    samples = [tiny.SAMPLES[name] for name in names]
    prefixes, rests = zip(*map(split, samples), strict=True)
    cache = MODEL.new_cache(len(samples), ROOM)
    feed(MODEL, cache, list(prefixes))
    together = feed(MODEL, cache, list(rests), [next_position(p) for p in prefixes])
    for row, sample in enumerate(samples):
        whole = MODEL(collate([sample], tiny.CONFIG))
        num_latents = sample.segments[-1].latent[0].numel()
        assert torch.allclose(together[len(samples) + row], whole.velocity[0, -num_latents:], atol=1e-5)


@torch.no_grad()
def test_select_copies_rows_and_empties_where_asked() -> None:
    prefix, rest = split(tiny.SAMPLES["drawing"])
    other = tiny.example(tiny.text(40, 41, 42, 43))
    cache = MODEL.new_cache(2, ROOM)
    feed(MODEL, cache, [other, prefix])
    start, other_start = next_position(prefix), next_position(other)
    picked = cache.select([1, None, 0, 1])
    assert picked.batch_size == 4
    found = feed(MODEL, picked, [rest] * 4, [start, 0, other_start, start])[4:]

    def alone(before: Example) -> Tensor:
        return MODEL(collate([Example((*before.segments, *rest.segments))], tiny.CONFIG)).velocity[0]

    for velocity, before in zip(found, [prefix, Example(()), other, prefix], strict=True):
        assert torch.allclose(velocity, alone(before), atol=1e-5)


@torch.no_grad()
def test_a_picked_cache_is_its_own() -> None:
    prefix, _ = split(tiny.SAMPLES["drawing"])
    cache = MODEL.new_cache(1, ROOM)
    feed(MODEL, cache, [prefix])
    before = [k.clone() for k in cache.keys]
    feed(MODEL, cache.select([0]), [tiny.example(tiny.text(1, 2, 3))], [5])
    assert cache.length == 5
    assert all(torch.equal(a, b) for a, b in zip(cache.keys, before, strict=True))


@torch.no_grad()
def test_a_frozen_cache_answers_the_same_again_and_again() -> None:
    prefix, rest = split(tiny.SAMPLES["drawing"])
    cache = MODEL.new_cache(1, ROOM)
    feed(MODEL, cache, [prefix])
    filled = [buffer[:, :, : cache.length].clone() for buffer in (*cache.keys, *cache.values)]
    start = next_position(prefix)
    assert cache.freeze() is cache
    first = feed(MODEL, cache, [rest], [start])[1]
    feed(MODEL, cache, [tiny.example(tiny.text(1, 2))], [start])
    second = feed(MODEL, cache, [rest], [start])[1]
    assert torch.equal(first, second)
    assert cache.length == len(prefix.segments[0].token_ids) + 2
    now = [buffer[:, :, : cache.length] for buffer in (*cache.keys, *cache.values)]
    assert all(torch.equal(a, b) for a, b in zip(filled, now, strict=True))
    whole = MODEL(collate([tiny.SAMPLES["drawing"]], tiny.CONFIG)).velocity[0]
    assert torch.allclose(first, whole, atol=1e-5)


@torch.no_grad()
def test_noisy_latents_leave_nothing_visible_behind() -> None:
    sample = tiny.SAMPLES["drawing"]
    cache = MODEL.new_cache(1, ROOM)
    feed(MODEL, cache, [sample])
    assert cache.valid[0].tolist() == [True] * 5 + [False] * (cache.length - 5)
    after = feed(MODEL, cache, [tiny.example(tiny.text(7))], [5])[0]
    plain = MODEL(collate([tiny.example(sample.segments[0], tiny.text(7))], tiny.CONFIG)).und[0, 5:]
    assert torch.allclose(after, plain, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("capacity", [0, 1, 5, 7])
def test_a_cache_grows_beyond_its_capacity(capacity: int) -> None:
    small, ample = MODEL.new_cache(2, capacity), MODEL.new_cache(2, ROOM)
    position = 0
    for length in (2, 1, 6):
        piece = [tiny.example(tiny.text(*range(length))), tiny.example(tiny.text(*range(9, 9 + length)))]
        a, b = (feed(MODEL, cache, piece, [position] * 2) for cache in (small, ample))
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        position += length + 2
    assert small.length == ample.length == 15
    assert torch.equal(small.valid, ample.valid)


def test_growing_at_least_doubles() -> None:
    """Growing one token at a time copies the buffers a logarithmic number of times."""
    cache = Cache(tiny.TRANSFORMER, 1, 4)
    one = torch.zeros(1, 1, dtype=torch.int64)
    layout = Layout(one, one, one.bool())
    sizes = set()
    for _ in range(100):
        cache.reserve(1)
        cache.commit(layout)
        sizes.add(cache.keys[0].shape[2])
    assert sizes == {4, 8, 16, 32, 64, 128}
