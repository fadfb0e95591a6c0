"""Draw smooth shapes on a pixel grid: coordinates, soft steps, blurs, noise and curves, all float32.

Every function takes positions and widths as fractions of the picture, so a shape is the same at any size.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
"""A float32 array over the pixels, (H, W), or one that broadcasts to it."""

Shape = tuple[int, int]
"""Height and width in pixels."""


@lru_cache(maxsize=16)
def pixel_grid(shape: Shape) -> tuple[Field, Field]:
    """Return the pixel centres as fractions of the picture: x (1, W) and y (H, 1)."""
    height, width = shape
    x = ((np.arange(width, dtype=np.float32) + 0.5) / width)[None, :]
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
    x.flags.writeable = y.flags.writeable = False
    return x, y


def soft_step(distance: Field, softness: float | Field) -> Field:
    """Rise smoothly from 0 at distance -softness to 1 at +softness (a cubic)."""
    t = distance * (np.float32(0.5) / np.asarray(softness, np.float32))
    t += np.float32(0.5)
    np.clip(t, np.float32(0), np.float32(1), out=t)
    square = t * t
    t *= np.float32(-2)
    t += np.float32(3)
    t *= square
    return t


@lru_cache(maxsize=256)
def _blur_matrix(size: int, sigma_thousandths: int) -> Field:
    sigma = sigma_thousandths / 1000.0 * size
    index = np.arange(size, dtype=np.float32)
    weights = np.exp(-0.5 * ((index[:, None] - index[None, :]) / max(sigma, 0.05)) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def blur(field: Field, sigma: float) -> Field:
    """Blur with a Gaussian of `sigma` (fraction of the picture, in steps of a thousandth)."""
    thousandths = max(1, round(sigma * 1000))
    height, width = field.shape
    return np.asarray(_blur_matrix(height, thousandths) @ field @ _blur_matrix(width, thousandths).T)


@lru_cache(maxsize=64)
def _resize_matrix(size: int, target: int) -> Field:
    """Return the (target, size) matrix of triangle weights, widened when shrinking so that it averages."""
    centre = (np.arange(target, dtype=np.float64) + 0.5) * size / target - 0.5
    reach = max(1.0, size / target)
    weights = np.clip(1 - np.abs(centre[:, None] - np.arange(size)[None, :]) / reach, 0, None)
    return np.asarray((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def resize(field: Field, shape: Shape) -> Field:
    """Resize by linear interpolation, or by area averages when shrinking."""
    height, width = field.shape
    return np.asarray(_resize_matrix(height, shape[0]) @ field @ _resize_matrix(width, shape[1]).T)


@lru_cache(maxsize=64)
def _spread_matrix(size: int, cells: int) -> Field:
    """Return the (size, cells) matrix of cubic B-spline weights from a coarse grid to pixels."""
    position = (np.arange(size, dtype=np.float64) + 0.5) / size * (cells - 1)
    offset = np.abs(position[:, None] - np.arange(cells)[None, :])
    near = 2 / 3 - offset**2 + offset**3 / 2
    far = np.clip(2 - offset, 0, None) ** 3 / 6
    weights = np.where(offset < 1, near, far)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def smooth_noise(rng: np.random.Generator, shape: Shape, cells: int) -> Field:
    """Draw noise of about unit deviation whose grain is 1/`cells` of the picture, the same at any size."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    spread = _spread_matrix(shape[0], cells) @ coarse @ _spread_matrix(shape[1], cells).T
    return np.asarray(spread * np.float32(1.9))


def smooth_series(rng: np.random.Generator, size: int, cells: int) -> Field:
    """Draw a smooth random curve (size,) of about unit deviation, the same at any size."""
    return np.asarray(_spread_matrix(size, cells) @ rng.standard_normal(cells, dtype=np.float32) * 1.4)


def scatter_points(shape: Shape, x: Field, y: Field, weight: Field) -> Field:
    """Add point weights onto the grid, each shared by its four nearest pixels; points outside are dropped."""
    height, width = shape
    column = x.astype(np.float32) * np.float32(width) - np.float32(0.5)
    row = y.astype(np.float32) * np.float32(height) - np.float32(0.5)
    kept = (column >= 0) & (column < width - 1) & (row >= 0) & (row < height - 1)
    column, row, weight = column[kept], row[kept], weight[kept].astype(np.float32)
    left, top = column.astype(np.intp), row.astype(np.intp)
    fx, fy = column - left.astype(np.float32), row - top.astype(np.float32)
    corner = top * width + left
    index = np.concatenate([corner, corner + 1, corner + width, corner + width + 1])
    low, high = weight * (1 - fy), weight * fy
    share = np.concatenate([low * (1 - fx), low * fx, high * (1 - fx), high * fx])
    return np.bincount(index, weights=share, minlength=height * width).astype(np.float32).reshape(shape)


def draw_curve(shape: Shape, points: NDArray[np.float64], line_width: float) -> Field:
    """Draw a smooth curve through `points` (N, 2: x, y) as a ridge of height about 1 and the given width.

    A line thinner than a pixel gets fainter rather than vanishing, as on a detector.
    """
    return draw_paths(shape, smooth_path(points, max(16, 3 * max(shape)))[None], line_width)


def draw_paths(shape: Shape, paths: NDArray[np.float64], line_width: float, taper: float = 1.0) -> Field:
    """Draw polylines `paths` (N, S, 2: x, y) as ridges that add up; `taper` is their height at the end."""
    step = np.diff(paths, axis=1)
    middle = 0.5 * (paths[:, 1:] + paths[:, :-1])
    length = np.hypot(step[..., 0], step[..., 1]) * np.linspace(1.0, taper, step.shape[1])
    sigma = max(line_width / 2.355, 0.001)
    weight = (length * np.sqrt(2 * np.pi) * sigma * shape[0] * shape[1]).ravel()
    return blur(scatter_points(shape, middle[..., 0].ravel(), middle[..., 1].ravel(), weight), sigma)


def smooth_path(points: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Sample `count` points of a Catmull-Rom curve through `points` (N, 2)."""
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    position = np.linspace(0, len(points) - 1 - 1e-9, count)
    segment = position.astype(int)
    t = (position - segment)[:, None]
    p0, p1, p2, p3 = (padded[segment + k] for k in range(4))
    linear = 2 * p1 + (p2 - p0) * t
    return np.asarray(
        0.5 * (linear + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    )
