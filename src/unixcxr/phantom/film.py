"""From density to film: exposure, contrast, scatter, noise, collimation and the side marker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unixcxr.phantom.raster import Field, blur, pixel_grid, soft_step

_LETTERS = {
    "L": ("1000", "1000", "1000", "1000", "1000", "1000", "1111"),
    "R": ("1110", "1001", "1001", "1110", "1010", "1001", "1001"),
}


@dataclass(frozen=True)
class Film:
    """The numbers of one exposure."""

    brightness: float
    contrast: float
    gamma: float
    scatter: float
    grain: float
    border: tuple[float, float, float, float]
    marker: str | None
    marker_place: tuple[float, float]


def draw_film(rng: np.random.Generator, view: str) -> Film:
    """Draw the numbers of one exposure."""
    border = np.where(rng.random(4) < 0.12, rng.uniform(0.0, 0.05, 4), 0.0)
    side = str(rng.choice(["L", "R"], p=[0.7, 0.3]))
    across = rng.uniform(0.86, 0.93)
    return Film(
        brightness=float(rng.normal(0.0, 0.05)),
        contrast=float(np.clip(rng.normal(1.0, 0.10), 0.78, 1.2)),
        gamma=float(np.clip(rng.normal(1.0, 0.18), 0.65, 1.45)),
        scatter=float(rng.uniform(0.02, 0.10) + (0.05 if view == "AP" else 0.0)),
        grain=float(rng.uniform(0.003, 0.011)),
        border=(float(border[0]), float(border[1]), float(border[2]), float(border[3])),
        marker=side if rng.random() < 0.65 else None,
        marker_place=(float(across if side == "L" else 1 - across), float(rng.uniform(0.05, 0.12))),
    )


def expose(field: Field, film: Film, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn a density field into the uint8 picture of one exposure."""
    scattered = field + np.float32(film.scatter) * (blur(field, 0.12) - field)
    grey = np.clip(scattered, 0.0, None) ** np.float32(film.gamma)
    grey = (grey - np.float32(0.5)) * np.float32(film.contrast) + np.float32(0.5 + film.brightness)
    noise = rng.standard_normal(field.shape, dtype=np.float32)
    noise = noise + np.float32(0.5) * (np.roll(noise, 1, 0) + np.roll(noise, 1, 1))
    grey += noise * np.float32(film.grain) * (np.float32(0.45) + np.float32(0.6) * np.clip(grey, 0, 1))
    shoulder = np.float32(0.86)
    over = np.clip(grey - shoulder, 0, None)
    grey = np.minimum(grey, shoulder) + over / (1 + over / np.float32(0.14))
    grey = np.maximum(grey, np.float32(0.02))
    if film.marker is not None:
        _stamp(grey, film.marker, film.marker_place)
    if any(film.border):
        x, y = pixel_grid(field.shape)
        left, top, right, bottom = film.border
        inside = soft_step(np.minimum(x - left, 1 - right - x), 0.006) * soft_step(
            np.minimum(y - top, 1 - bottom - y), 0.006
        )
        grey = grey * inside + np.float32(0.01) * (1 - inside)
    return np.clip(grey * 255 + 0.5, 0, 255).astype(np.uint8)


def _stamp(grey: Field, letter: str, place: tuple[float, float]) -> None:
    """Write a lead letter of 7/128 of the picture's height."""
    pattern = np.array([[float(cell) for cell in row] for row in _LETTERS[letter]], np.float32)
    height, width = grey.shape
    rows, columns = max(5, round(0.055 * height)), max(3, round(0.032 * width))
    top = int(place[1] * height)
    left = min(int(place[0] * width), width - columns)
    row = (2 * np.arange(rows) + 1) * pattern.shape[0] // (2 * rows)
    column = (2 * np.arange(columns) + 1) * pattern.shape[1] // (2 * columns)
    patch = grey[top : top + rows, left : left + columns]
    stamp = pattern[row][:, column][: patch.shape[0], : patch.shape[1]]
    np.maximum(patch, stamp * np.float32(0.95), out=patch)
