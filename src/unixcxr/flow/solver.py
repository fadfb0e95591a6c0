"""Walk the flow from noise (t = 1) to a picture (t = 0); knows no network.

Letters: B samples, G tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

VelocityField = Callable[[Float[Tensor, "B G C"], float], Float[Tensor, "B G C"]]
"""v(x, t): the velocity at one time for all samples."""

OnStep = Callable[[int, Float[Tensor, "B G C"], Float[Tensor, "B G C"], float], None]
"""Called after step k (from 1) with the new x, the velocity used, and the new time."""


def solve(
    field: VelocityField,
    noise: Float[Tensor, "B G C"],
    times: Float[Tensor, " points"],
    solver: str = "euler",
    on_step: OnStep | None = None,
) -> Float[Tensor, "B G C"]:
    """Integrate dx/dt = v(x, t) along decreasing `times`, as `walk` does, with a field at hand."""
    steps = walk(noise, times, solver, on_step)
    x, timestep = next(steps)
    while True:
        try:
            x, timestep = steps.send(field(x, timestep))
        except StopIteration as end:
            picture: Tensor = end.value
            return picture


def walk(
    noise: Float[Tensor, "B G C"],
    times: Float[Tensor, " points"],
    solver: str = "euler",
    on_step: OnStep | None = None,
) -> Generator[tuple[Tensor, float], Tensor, Tensor]:
    """Walk along decreasing `times`: yield (x, t), be sent v(x, t), and at last return the picture.

    "euler" evaluates once a step (the released sampler); "heun" twice, except in the last step to t = 0, where
    the corrector would need the velocity of a clean picture (Karras et al. 2022, algorithm 1).
    """
    x, grid = noise, [float(t) for t in times]
    for index, (now, then) in enumerate(pairwise(grid)):
        velocity = yield x, now
        if solver == "heun" and then > 0:
            predicted = x - (now - then) * velocity
            velocity = (velocity + (yield predicted, then)) / 2
        x = x - (now - then) * velocity
        if on_step is not None:
            on_step(index + 1, x, velocity, then)
    return x
