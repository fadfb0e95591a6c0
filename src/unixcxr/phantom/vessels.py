"""Lung vessels: trees that branch and taper from both hila, one blur per order of branching."""

from __future__ import annotations

import numpy as np

from unixcxr.phantom.chest_grid import ChestGrid, Table
from unixcxr.phantom.raster import Field, draw_paths

_WIDTHS = (0.034, 0.024, 0.016, 0.011, 0.0075)
"""Vessel widths by order, in chest units across."""

_STRENGTH = (0.75, 0.72, 0.50, 0.32, 0.22)
_SAMPLES = (22, 18, 14, 10, 8)


def draw_vessels(grid: ChestGrid, width_scale: float, rng: np.random.Generator) -> Field:
    """Draw both trees as one layer (H, W), about 1 over the largest vessels."""
    orders: list[list[Table]] = [[] for _ in _WIDTHS]
    for outward, height in ((-1.0, 0.49), (1.0, 0.44)):
        _grow(orders, outward, height, rng)
    layer = np.zeros(grid.shape, np.float32)
    for width, strength, branches in zip(_WIDTHS, _STRENGTH, orders, strict=True):
        paths = grid.to_picture(np.concatenate(branches))
        layer += draw_paths(grid.shape, paths, width * width_scale * 1.4, taper=0.65) * np.float32(strength)
    return layer


def _grow(orders: list[list[Table]], outward: float, height: float, rng: np.random.Generator) -> None:
    """Add one lung's branches, (N, S, 2) in chest coordinates, to each order.

    Main branches leave a hilum that is taller than wide; those that run down are longer and more in number.
    """
    angle = np.array([-1.25, -0.95, -0.55, -0.1, 0.35, 0.75, 1.0, 1.25, 1.45]) + rng.normal(0, 0.10, 9)
    spread = np.sin(angle)
    start = np.column_stack([outward * (0.24 + 0.02 * np.cos(angle)), height + 0.075 * spread])
    start += rng.normal(0, 0.012, start.shape)
    length = (0.20 + 0.05 * spread) * rng.uniform(0.85, 1.2, len(angle))
    for order, samples in zip(orders, _SAMPLES, strict=True):
        bend = rng.normal(0, 0.28, len(angle))
        heading = angle[:, None] + bend[:, None] * np.linspace(0, 1, samples)
        step = length[:, None] / (samples - 1)
        run = np.stack([np.cos(heading) * outward, np.sin(heading) * 0.62], axis=-1) * step[..., None]
        path = start[:, None, :] + np.cumsum(run, axis=1)
        order.append(path)
        fork = rng.uniform(0.18, 0.50, len(angle))
        start = np.repeat(path[:, -1], 2, axis=0)
        angle = np.repeat(heading[:, -1], 2)
        angle += np.column_stack([fork, -fork * rng.uniform(0.3, 1, len(fork))]).ravel()
        length = np.repeat(length, 2) * rng.uniform(0.58, 0.86, 2 * len(length))
