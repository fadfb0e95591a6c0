"""Half precision against float32, within stated bounds, and rotary frequencies rounded where asked.

Relative errors (norm of the difference over norm) of the tiny models of four seeds over all samples were at
most 0.027 (logits) and 0.015 (velocity) in bfloat16, 0.005 and 0.003 in float16, measured on a CPU. The bounds
leave room for other devices' order of summation.
"""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from model import tiny
from unixcxr.data.collate import collate

BOUNDS = {torch.bfloat16: (0.05, 0.03), torch.float16: (0.01, 0.006)}


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.float().cpu() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", BOUNDS.keys(), ids=str)
@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_half_precision_stays_near_float32(dtype: torch.dtype, seed: int, device: str) -> None:
    exact, rough = tiny.build(seed=seed), tiny.build(seed=seed).to(device, dtype)
    for sample in tiny.SAMPLES.values():
        batch = collate([sample], tiny.CONFIG)
        expected, found = exact(batch), rough(batch.to(device, dtype))
        assert found.und.dtype == dtype
        if expected.logits is not None:
            assert relative_error(found.logits, expected.logits) < BOUNDS[dtype][0]
        if expected.velocity is not None:
            assert relative_error(found.velocity, expected.velocity) < BOUNDS[dtype][1]


@torch.no_grad()
def test_cached_half_precision_stays_near_float32() -> None:
    sample = tiny.SAMPLES["reading"]
    expected = tiny.build()(collate([sample], tiny.CONFIG)).logits
    model = tiny.build().bfloat16()
    cache = model.new_cache(1, 8)
    first = collate([tiny.example(*sample.segments[:-1])], tiny.CONFIG).to("cpu", torch.bfloat16)
    model(first, cache)
    last = collate([tiny.example(sample.segments[-1])], tiny.CONFIG, [6])
    assert cache.keys[0].dtype == torch.bfloat16
    assert relative_error(model(last, cache).logits, expected) < BOUNDS[torch.bfloat16][0]


@torch.no_grad()
def test_rotary_frequencies_follow_the_dtype_where_the_config_says_so() -> None:
    """A long text, so that rounded frequencies have drifted apart."""
    batch = collate([tiny.example(tiny.text(*range(100), has_loss=True))], tiny.CONFIG)
    Frequencies = Literal["float32", "bfloat16", "dtype"]  # noqa: N806  (a type)

    def logits(frequencies: Frequencies, dtype: torch.dtype) -> Tensor:
        model = tiny.build(tiny.with_transformer(rope_frequencies=frequencies))
        return model.to(dtype)(batch).logits

    for dtype, same in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16"), (torch.float16, "float32")):
        other = "bfloat16" if same == "float32" else "float32"
        assert torch.equal(logits("dtype", dtype), logits(same, dtype))
        assert not torch.allclose(logits("dtype", dtype), logits(other, dtype), atol=1e-2)
