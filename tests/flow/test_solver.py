"""Solvers on velocities with known integrals: exact where they must be, and of the order they claim."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from unixcxr.flow.path import time_grid
from unixcxr.flow.solver import solve

NOISE = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def grid(num_steps: int, shift: float = 1.0) -> Tensor:
    return time_grid(num_steps, shift).double()


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_a_straight_flow_is_exact_in_any_number_of_steps(solver: str, num_steps: int) -> None:
    """v = noise - picture whatever x and t: one step arrives."""
    picture = torch.zeros_like(NOISE) + 5
    found = solve(lambda x, t: NOISE - picture, NOISE, grid(num_steps), solver)
    assert torch.allclose(found, picture, atol=1e-12)


def test_euler_by_hand() -> None:
    """v = x t: from 8 at t = 1 over 0.5 to 0: 8 - 0.5 (8 x 1) = 4, then 4 - 0.5 (4 x 0.5) = 3."""
    noise = torch.full((1, 1, 1), 8.0)
    assert solve(lambda x, t: x * t, noise, torch.tensor([1.0, 0.5, 0.0])).item() == 3.0


def test_heun_by_hand() -> None:
    """The first step averages 8 x 1 and 4 x 0.5: 8 - 0.5 (8 + 2) / 2 = 5.5; the last is Euler's: 4.125."""
    noise = torch.full((1, 1, 1), 8.0)
    found = solve(lambda x, t: x * t, noise, torch.tensor([1.0, 0.5, 0.0]), "heun")
    assert found.item() == 5.5 - 0.5 * 5.5 * 0.5


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_order_of_convergence(solver: str, order: int, shift: float) -> None:
    """dx/dt = x + cos(3 t) has a known solution; halving the steps divides the error by 2 ** order."""

    def particular(t: float) -> float:  # solves the equation: (3 sin 3t - cos 3t) / 10
        return (3 * math.sin(3 * t) - math.cos(3 * t)) / 10

    exact = (NOISE - particular(1)) * math.exp(-1) + particular(0)
    errors = []
    for num_steps in (100, 200, 400):
        found = solve(lambda x, t: x + math.cos(3 * t), NOISE, grid(num_steps, shift), solver)
        errors.append(float((found - exact).abs().max()))
    slopes = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert slopes == pytest.approx([order] * 2, abs=0.15)


@pytest.mark.parametrize(("solver", "expected"), [("euler", 5), ("heun", 9)])
def test_evaluations_of_the_network(solver: str, expected: int) -> None:
    """Heun asks twice a step, and once in the last: a clean picture has no velocity."""
    asked: list[float] = []

    def field(x: Tensor, t: float) -> Tensor:
        asked.append(t)
        return torch.zeros_like(x)

    solve(field, NOISE, time_grid(5, 1.0), solver)
    assert len(asked) == expected
    assert max(asked) == 1.0
    assert min(asked) == pytest.approx(0.2)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_every_step_is_told(solver: str) -> None:
    told: list[tuple[int, Tensor, Tensor, float]] = []
    times = torch.tensor([1.0, 0.75, 0.5, 0.0], dtype=torch.float64)
    found = solve(lambda x, t: x * 0 + t, NOISE, times, solver, lambda k, x, v, t: told.append((k, x, v, t)))
    assert [(k, t) for k, _, _, t in told] == [(1, 0.75), (2, 0.5), (3, 0.0)]
    before = NOISE
    for (_, x, velocity, _), width in zip(told, (0.25, 0.25, 0.5), strict=True):
        assert torch.allclose(before - width * velocity, x, atol=1e-15)
        before = x
    assert torch.equal(told[-1][1], found)
