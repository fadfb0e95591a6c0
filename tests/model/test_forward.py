"""The forward pass against the slow reference, and what must not change it: padding, order in memory, masks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model import reference, tiny
from unixcxr.batch import (
    Batch,
    Example,
    GenTokens,
    LatentSegment,
    Layout,
    Output,
    ReadSegment,
    Segment,
    TextSegment,
    UndTokens,
)
from unixcxr.config import ModelConfig
from unixcxr.data.collate import collate
from unixcxr.model.unix import UniX

TOLERANCE = 3e-5

CONFIGS: dict[str, ModelConfig] = {
    "grouped heads": tiny.CONFIG,
    "one head group": tiny.with_transformer(num_kv_heads=1),
    "all heads": tiny.with_transformer(num_kv_heads=4, num_layers=1),
    "tied head": tiny.with_transformer(tied_text_head=True),
    "no bias, other theta and eps": tiny.with_transformer(qkv_bias=False, rope_theta=50.0, norm_eps=1e-2),
    "tanh connector, stretched positions": replace(
        tiny.CONFIG,
        vision=replace(tiny.VISION, connector_gelu="tanh", in_channels=1),
        stretch_positions=True,
    ),
}


def whole(batch: Batch) -> Batch:
    """Ask for logits at every und token."""
    return replace(batch, logit_slots=torch.ones_like(batch.und.token_ids, dtype=torch.bool))


def close(found: Tensor | None, expected: Tensor, tolerance: float = TOLERANCE) -> bool:
    return found is not None and torch.allclose(found.double(), expected, rtol=tolerance, atol=tolerance)


def with_channels(example: Example, channels: int) -> Example:
    """Give read images as many channels as a config wants."""
    return Example(
        tuple(ReadSegment(s.pixels[:channels]) if isinstance(s, ReadSegment) else s for s in example.segments)
    )


@pytest.mark.parametrize("sample", tiny.SAMPLES.values(), ids=tiny.SAMPLES.keys())
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_hidden_logits_and_velocity(config: ModelConfig, sample: Example) -> None:
    model = tiny.build(config)
    sample = with_channels(sample, config.vision.in_channels)
    expected = reference.run(reference.released_weights(model), config, sample)
    output = model(whole(collate([sample], config)))
    assert close(output.und[0], expected.und)
    assert close(output.logits, expected.logits)
    if expected.velocity.numel():
        assert close(output.velocity[0], expected.velocity)
    else:
        assert output.velocity is None


@pytest.mark.parametrize("sample", tiny.SAMPLES.values(), ids=tiny.SAMPLES.keys())
@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
def test_gradients_of_every_parameter(sample: Example, tied: bool) -> None:
    config = tiny.with_transformer(tied_text_head=tied)
    model = tiny.build(config)
    weights = reference.released_weights(model)
    generator = torch.Generator().manual_seed(3)

    def loss(und: Tensor, logits: Tensor, velocity: Tensor | None) -> Tensor:
        parts = [logits.log_softmax(-1)[:, :20], und] + ([] if velocity is None else [velocity])
        generator.manual_seed(3)
        directions = [torch.randn(part.shape, generator=generator) for part in parts]
        return torch.stack([(p * d).mean() for p, d in zip(parts, directions, strict=True)]).sum()

    answer = reference.run(weights, config, sample)
    loss(answer.und, answer.logits, answer.velocity if answer.velocity.numel() else None).backward()
    output = model(whole(collate([sample], config)))
    loss(output.und[0], output.logits, None if output.velocity is None else output.velocity[0]).backward()

    names = {name: reference.released_name(name) for name, _ in model.named_parameters()}
    expected = {name: weights[theirs].grad for name, theirs in names.items()}
    for name, parameter in model.named_parameters():
        if name == "latent_positions":
            assert parameter.grad is None
            continue
        found, wanted = parameter.grad, expected[name]
        if wanted is None or not wanted.any():
            assert found is None or not found.any(), name
        else:
            wanted = wanted[0] if name == "vision.positions" else wanted
            scale = float(wanted.abs().max())
            assert close(found, wanted, 2e-4 * max(scale, 1e-3)), name


def test_every_weight_matters_somewhere() -> None:
    """Guards the test above: over all samples each parameter has a gradient."""
    model = tiny.build()
    for sample in tiny.SAMPLES.values():
        output = model(whole(collate([sample], tiny.CONFIG)))
        loss = output.logits.square().sum()
        (loss if output.velocity is None else loss + output.velocity.square().sum()).backward()
    untouched = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == ["latent_positions"]


def segments() -> st.SearchStrategy[list[Segment]]:
    token = st.integers(0, tiny.CONFIG.transformer.vocab_size - 1)
    texts = st.builds(TextSegment, st.lists(token, max_size=4).map(tuple))
    reads = st.builds(lambda seed: ReadSegment(tiny.picture(seed)), st.integers(0, 99))
    sides = st.integers(1, 2)
    latents = st.builds(
        lambda h, w, seed, t: LatentSegment(tiny.latent(h, w, seed), t, is_context=t == 0.0),
        sides,
        sides,
        st.integers(0, 99),
        st.sampled_from([0.0, 0.25, 1.0]),
    )
    return st.lists(st.one_of(texts, reads, latents), min_size=1, max_size=4)


MODEL = tiny.build(tiny.with_transformer(num_layers=2))
WEIGHTS = reference.released_weights(MODEL)


@settings(max_examples=25, deadline=None)
@given(st.lists(segments(), min_size=1, max_size=3), st.lists(st.integers(0, 9), min_size=3, max_size=3))
@torch.no_grad()
def test_any_batch_of_any_segments(samples: list[list[Segment]], starts: list[int]) -> None:
    """Padded batches, each row starting at its own position, equal the reference row by row."""
    examples = [Example(tuple(row)) for row in samples]
    starts = starts[: len(examples)]
    output = MODEL(collate(examples, MODEL.config, starts))
    assert torch.isfinite(output.und).all()
    for row, (sample, start) in enumerate(zip(examples, starts, strict=True)):
        expected = reference.run(WEIGHTS, MODEL.config, sample, start)
        assert close(output.und[row, : len(expected.und)], expected.und)
        if expected.velocity.numel():
            assert close(output.velocity[row, : len(expected.velocity)], expected.velocity)


@torch.no_grad()
def test_a_batch_is_its_rows_one_at_a_time(device: str) -> None:
    model = tiny.build().to(device)
    examples = list(tiny.SAMPLES.values())
    together = model(collate(examples, tiny.CONFIG).to(device))
    labels = collate(examples, tiny.CONFIG).logit_slots
    assert labels is not None
    seen = 0
    for row, sample in enumerate(examples):
        alone = model(collate([sample], tiny.CONFIG).to(device))
        count = alone.und.shape[1]
        assert torch.allclose(together.und[row, :count], alone.und[0], atol=1e-5, rtol=1e-5)
        if alone.velocity is not None:
            count = alone.velocity.shape[1]
            assert torch.allclose(together.velocity[row, :count], alone.velocity[0], atol=1e-5)
        if alone.logits is not None:
            mine = together.logits[seen : seen + len(alone.logits)]
            assert torch.allclose(mine, alone.logits, atol=1e-5, rtol=1e-5)
            seen += len(alone.logits)
    assert seen == int(labels.sum())


def permuted(layout: Layout, order: Tensor) -> Layout:
    return Layout(layout.positions[:, order], layout.order[:, order], layout.noisy[:, order])


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
def test_order_in_memory_is_free(seed: int) -> None:
    """Any order of tokens inside each stream gives the same answer in that order."""
    model = tiny.build()
    batch = collate([tiny.SAMPLES["context latents"]], tiny.CONFIG)
    gen = batch.gen
    assert gen is not None
    generator = torch.Generator().manual_seed(seed)
    und_order = torch.randperm(batch.und.token_ids.shape[1], generator=generator)
    gen_order = torch.randperm(gen.grid_ids.shape[1], generator=generator)
    shuffled = Batch(
        UndTokens(batch.und.token_ids[:, und_order], permuted(batch.und.layout, und_order)),
        GenTokens(
            gen.latents[:, gen_order],
            gen.timesteps[:, gen_order],
            gen.grid_ids[:, gen_order],
            permuted(gen.layout, gen_order),
        ),
    )
    expected, found = model(batch), model(shuffled)
    assert torch.allclose(found.und, expected.und[:, und_order], atol=1e-5)
    assert torch.allclose(found.velocity, expected.velocity[:, gen_order], atol=1e-5)


@torch.no_grad()
def test_noisy_latents_are_invisible_and_context_is_not() -> None:
    model = tiny.build()

    def last_text(latent_seed: int, is_context: bool) -> Tensor:
        picture = LatentSegment(tiny.latent(seed=latent_seed), 0.0 if is_context else 0.5, is_context)
        output: Output = model(collate([tiny.example(tiny.text(1), picture, tiny.text(2))], tiny.CONFIG))
        return output.und[0, -3:]

    assert torch.equal(last_text(1, is_context=False), last_text(2, is_context=False))
    assert not torch.allclose(last_text(1, is_context=True), last_text(2, is_context=True), atol=1e-3)


@torch.no_grad()
def test_training_mode_changes_nothing_without_dropout() -> None:
    model: UniX = tiny.build()
    batch = collate([tiny.SAMPLES["mixed"]], tiny.CONFIG)
    expected = model(batch).velocity
    assert torch.equal(model.train()(batch).velocity, expected)


@torch.no_grad()
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_gen_hidden_is_the_output_of_the_asked_layer(layer: int) -> None:
    """The gen stream that a shallower model hands to its last norm."""
    model = tiny.build()
    batch = collate([tiny.SAMPLES["drawing"]], tiny.CONFIG)
    hidden = model(batch, gen_hidden_at=layer).gen_hidden
    shallow = tiny.build(tiny.with_transformer(num_layers=layer + 1))
    shallow.load_state_dict(model.state_dict(), strict=False)
    velocity = shallow(batch).velocity
    assert torch.allclose(model.latent_out(model.norm_gen(hidden)), velocity, atol=1e-6)
    assert model(batch).gen_hidden is None
