"""The straight path and its times: closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unixcxr.flow.path import (
    interpolate,
    picture_from_velocity,
    sample_timesteps,
    shift_time,
    time_grid,
    velocity_target,
)


def pair(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, *shape, generator=generator, dtype=dtype))  # type: ignore[return-value]


def test_ends_of_the_path() -> None:
    picture, noise = pair(2, 5, 3)
    assert torch.equal(interpolate(picture, noise, torch.zeros(2)), picture)
    assert torch.equal(interpolate(picture, noise, torch.ones(2)), noise)
    assert interpolate(torch.tensor([2.0]), torch.tensor([10.0]), torch.tensor([0.25])).item() == 4.0


def test_velocity_is_the_derivative_along_the_path() -> None:
    picture, noise = pair(2, 5, 3)
    t, dt = torch.tensor([0.3, 0.8], dtype=torch.float64), 1e-6
    slope = (interpolate(picture, noise, t + dt) - interpolate(picture, noise, t - dt)) / (2 * dt)
    assert torch.allclose(slope, velocity_target(picture, noise), atol=1e-8)


@given(st.floats(0, 1))
def test_picture_and_velocity_round_trip_in_float64(t: float) -> None:
    picture, noise = pair(2, 5, 3)
    times = torch.full((2,), t, dtype=torch.float64)
    noisy = interpolate(picture, noise, times)
    back = picture_from_velocity(noisy, velocity_target(picture, noise), times)
    assert torch.allclose(back, picture, atol=1e-14, rtol=0)


def test_times_broadcast_from_the_left() -> None:
    """One time a sample and one a token are both times."""
    picture, noise = pair(2, 3, 4)
    per_sample = torch.tensor([0.2, 0.6], dtype=torch.float64)
    per_token = per_sample[:, None].expand(2, 3)
    assert torch.equal(
        interpolate(picture, noise, per_sample), interpolate(picture, noise, per_token.clone())
    )
    mixed = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.0]], dtype=torch.float64)
    out = interpolate(picture, noise, mixed)
    assert torch.equal(out[0, 0], picture[0, 0])
    assert torch.equal(out[0, 1], noise[0, 1])
    assert torch.equal(out[0, 2], (picture[0, 2] + noise[0, 2]) / 2)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_shift_moves_the_odds(shift: float) -> None:
    """t / (1 - t) is multiplied by the shift; the ends stay."""
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    moved = shift_time(t, shift)
    assert torch.allclose(moved / (1 - moved), shift * t / (1 - t), rtol=1e-12)
    assert shift_time(torch.tensor([0.0, 1.0]), shift).tolist() == [0.0, 1.0]


def test_the_released_schedule_counts_points_and_ours_steps() -> None:
    """The released 50 points are 49 steps: t = linspace(1, 0, 50), then 3 t / (1 + 2 t)."""
    grid = time_grid(49, 3.0)
    expected = [3 * t / (1 + 2 * t) for t in (1 - i / 49 for i in range(50))]
    assert grid.tolist() == pytest.approx(expected, abs=1e-6)
    assert time_grid(4, 1.0).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert time_grid(2, 1.0, start=0.5).tolist() == [0.5, 0.25, 0.0]


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_training_times_are_logit_normal(shift: float) -> None:
    """log(t / (1 - t)) is normal with mean log(shift) and deviation 1."""
    n = 40_000
    t = sample_timesteps(n, shift, torch.Generator().manual_seed(0)).double()
    assert 0 < t.min() < t.max() < 1
    logits = torch.log(t / (1 - t)) - math.log(shift)
    assert logits.mean().abs() < 4 / math.sqrt(n)
    assert (logits.std() - 1).abs() < 4 / math.sqrt(2 * n)
    for z, below in ((-1.0, 0.158655), (0.0, 0.5), (1.0, 0.841345)):
        assert (logits < z).double().mean().item() == pytest.approx(below, abs=4 / math.sqrt(n))


def test_training_times_follow_the_generator() -> None:
    draws = [sample_timesteps(5, 1.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
