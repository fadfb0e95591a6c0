"""Lung vessels: trees that branch and taper from both hila, drawn by scattered points and a blur per order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unixcxr.phantom.raster import Field, blur, scatter_points

if TYPE_CHECKING:
    from unixcxr.phantom.anatomy import Anatomy

_FANS = {"right": (-1.0, 0.50), "left": (1.0, 0.45)}
_WIDTHS = (0.030, 0.020, 0.013, 0.009, 0.006)


def draw_vessels(
    body: Anatomy, to_picture: Callable[..., tuple[float, float]], rng: np.random.Generator, size_px: int
) -> Field:
    """Draw both trees as one layer, about 1 over the largest vessels (fraction of full density)."""
    orders: list[list[NDArray[np.float64]]] = [[] for _ in _WIDTHS]
    for outward, height in _FANS.values():
        _grow(orders, outward, height, rng)
    layer = np.zeros((size_px, size_px), np.float32)
    scale = np.array(body.scale)
    origin = np.array(to_picture(body, 0.0, 0.0))
    turn = np.array([[np.cos(body.tilt), np.sin(body.tilt)], [-np.sin(body.tilt), np.cos(body.tilt)]])
    for width, branches in zip(_WIDTHS, orders, strict=True):
        path = np.concatenate(branches)  # (N, S, 2)
        place = (path * scale) @ turn + origin
        step = np.diff(place, axis=1)
        middle = 0.5 * (place[:, 1:] + place[:, :-1])
        taper = np.linspace(1.0, 0.6, step.shape[1])
        length = np.hypot(step[..., 0], step[..., 1]) * taper
        sigma = width * body.scale[0] / 1.6
        weight = length * np.sqrt(2 * np.pi) * sigma * size_px**2
        points = middle.reshape(-1, 2).astype(np.float32)
        spread = scatter_points(
            size_px, size_px, points[:, 0], points[:, 1], weight.ravel().astype(np.float32)
        )
        layer += blur(spread, sigma) * np.float32((width / _WIDTHS[0]) ** 0.55)
    return layer


def _grow(
    orders: list[list[NDArray[np.float64]]], outward: float, height: float, rng: np.random.Generator
) -> None:
    """Add one lung's branches, (N, S, 2) in chest coordinates for each order."""
    count = 7
    start = np.tile([outward * 0.22, height], (count, 1)) + rng.normal(0, 0.02, (count, 2))
    angle = np.linspace(-1.15, 1.35, count) + rng.normal(0, 0.1, count)
    length = np.full(count, 0.24) * rng.uniform(0.85, 1.15, count)
    for order in range(len(orders)):
        bend = rng.normal(0, 0.22, len(angle))
        path, start, angle = _advance(start, angle, length, bend, outward)
        orders[order].append(path)
        fork = rng.uniform(0.22, 0.5, len(angle))
        start = np.repeat(start, 2, axis=0)
        angle = np.repeat(angle, 2) + np.ravel(
            np.column_stack([fork, -fork * rng.uniform(0.4, 1, len(fork))])
        )
        length = np.repeat(length, 2) * rng.uniform(0.62, 0.88, 2 * len(length))


def _advance(
    start: NDArray[np.float64],
    angle: NDArray[np.float64],
    length: NDArray[np.float64],
    bend: NDArray[np.float64],
    outward: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return each branch's path (N, S, 2), its end and its last direction; angle 0 points outward."""
    samples = 24
    s = np.linspace(0, 1, samples)
    heading = angle[:, None] + bend[:, None] * s
    step = length[:, None] / (samples - 1)
    x = np.cumsum(np.cos(heading) * step * outward, axis=1)
    y = np.cumsum(np.sin(heading) * step * 0.62, axis=1)
    path = start[:, None, :] + np.stack([x, y], axis=-1)
    return path, path[:, -1], heading[:, -1]
