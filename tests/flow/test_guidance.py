"""Guidance and its renormalisation: closed forms, hand-worked numbers, and edges of the interval."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unixcxr.flow.guidance import NORM_AXES, guide, is_active
from unixcxr.flow.path import time_grid

RENORMS = list(NORM_AXES)


def rows(*values: list[list[float]]) -> Tensor:
    return torch.tensor(values)


def velocities(seed: int = 0, num_samples: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(3, num_samples, 4, 2, generator=generator))  # type: ignore[return-value]


def direction(guided: Tensor, unscaled: Tensor) -> Tensor:
    """By how much `guided` is `unscaled` shortened, elementwise."""
    return guided / unscaled


def test_global_by_hand() -> None:
    """c = (3, 0; 0, 4) of norm 5, u = (0, 0; 0, 0): at scale 2 the guided norm 10 shrinks back to 5."""
    conditional, free = rows([[3.0, 0.0], [0.0, 4.0]]), rows([[0.0, 0.0], [0.0, 0.0]])
    guided = guide(conditional, free, None, text_scale=2.0)
    assert torch.allclose(guided, conditional)
    # u = (3, 0; 0, 0): guided (3, 0; 0, 8) of norm sqrt 73 shrinks by 5 / sqrt 73
    free = rows([[3.0, 0.0], [0.0, 0.0]])
    guided = guide(conditional, free, None, text_scale=2.0)
    assert torch.allclose(guided, rows([[3.0, 0.0], [0.0, 8.0]]) * 5 / 73**0.5)


def test_channel_by_hand() -> None:
    """Each token by its own norm: the first stays, the second shrinks from 8 to 4."""
    conditional, free = rows([[3.0, 0.0], [0.0, 4.0]]), rows([[3.0, 0.0], [0.0, 0.0]])
    guided = guide(conditional, free, None, text_scale=2.0, renorm="channel")
    assert torch.allclose(guided, conditional)


def test_text_channel_shrinks_before_the_image_step() -> None:
    """Text step 8 -> 4 a token, then from the image-free 1 by 3: 1 + 3 (4 - 1) = 10, left as it is."""
    conditional, free, image_free = rows([[4.0]]), rows([[0.0]]), rows([[1.0]])
    arguments = {"text_scale": 2.0, "image_scale": 3.0}
    assert guide(conditional, free, image_free, renorm="text_channel", **arguments).item() == 10.0
    # with "channel" the image step comes first: 1 + 3 (8 - 1) = 22, shrunk to 4
    assert guide(conditional, free, image_free, renorm="channel", **arguments).item() == pytest.approx(4.0)


def test_global_batch_couples_the_pictures_and_global_does_not() -> None:
    c, u, _ = velocities()
    alone = torch.cat([guide(c[i : i + 1], u[i : i + 1], None, text_scale=3.0) for i in range(3)])
    assert torch.allclose(guide(c, u, None, text_scale=3.0), alone)
    unscaled = u + 3 * (c - u)
    ratio = c.norm() / unscaled.norm()
    assert ratio < 1
    assert torch.allclose(guide(c, u, None, text_scale=3.0, renorm="global_batch"), unscaled * ratio)


def test_image_guidance_without_renorm_against_the_condition_itself() -> None:
    """v + s_i (v_text - v) with v = c is text guidance of scale 1 + s_i (s_t - 1)."""
    c, u, _ = velocities()
    unbounded = {"renorm_min": 1.0}  # clamped to 1: no renormalisation
    both = guide(c, u, c, text_scale=3.0, image_scale=1.5, **unbounded)
    assert torch.allclose(both, guide(c, u, None, text_scale=4.0, **unbounded), atol=1e-5)


@pytest.mark.parametrize("renorm", RENORMS)
def test_scale_one_is_the_conditional_velocity(renorm: str) -> None:
    c, u, image_free = velocities()
    guided = guide(c, u, image_free, text_scale=1.0, image_scale=1.0, renorm=renorm)
    assert torch.allclose(guided, c, atol=1e-6)


@given(st.sampled_from(["global", "channel", "global_batch"]), st.floats(1, 20), st.integers(0, 50))
def test_guidance_never_lengthens_a_velocity(renorm: str, scale: float, seed: int) -> None:
    c, u, image_free = velocities(seed)
    guided = guide(c, u, image_free, text_scale=scale, image_scale=1.7, renorm=renorm)
    axes = NORM_AXES[renorm]
    length, wanted = (x.square().sum(axes).sqrt() for x in (guided, c))
    assert (length <= wanted * (1 + 1e-5)).all()
    # and only shortens: the direction stays
    unscaled = image_free + 1.7 * (u + scale * (c - u) - image_free)
    cosine = (guided * unscaled).sum(axes) / (length * unscaled.square().sum(axes).sqrt())
    assert torch.allclose(cosine, torch.ones_like(cosine), atol=1e-4)


def test_text_channel_never_lengthens_the_text_step() -> None:
    c, u, _ = velocities()
    guided = guide(c, u, None, text_scale=5.0, renorm="text_channel")
    assert (guided.norm(dim=2) <= c.norm(dim=2) * (1 + 1e-5)).all()


def test_renorm_min_keeps_a_part_of_the_length() -> None:
    """Norm 10 would shrink to 1; no less than 0.4 of it is left."""
    guided = guide(rows([[1.0]]), rows([[-2.0]]), None, text_scale=4.0, renorm_min=0.4)
    assert guided.item() == pytest.approx(0.4 * 10)


def test_a_velocity_of_zero_stays_finite() -> None:
    zero = torch.zeros(1, 2, 2)
    assert not guide(zero, zero, None, text_scale=2.0).any()


def test_interval_is_open_below_and_closed_above() -> None:
    assert [is_active(t, (0.25, 0.75)) for t in (0.2, 0.25, 0.26, 0.75, 0.76)] == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_interval_ends_on_a_float32_grid() -> None:
    """Times are float32, where 0.4 and 0.8 lie above what Python calls so: the ends must still be ends."""
    times = time_grid(5, 1.0).tolist()
    assert times[3] > 0.4
    assert times[1] > 0.8
    assert [is_active(t, (0.4, 1.0)) for t in times] == [True, True, True, False, False, False]
    assert [is_active(t, (0.0, 0.8)) for t in times] == [False, True, True, True, True, False]
    assert [is_active(0.7, ends) for ends in ((0.7, 1.0), (0.0, 0.7))] == [False, True]
