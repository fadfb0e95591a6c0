"""Find the two lungs on a real frontal: a shape prior placed by correlation, then a threshold inside it.

Classical and modest: made to place composites on normal adult films, not to measure patients. It answers None
where the result does not look like two lungs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from unixcxr.phantom.body import wall_table
from unixcxr.phantom.chest_grid import AXIS, ChestGrid, bump
from unixcxr.phantom.chest_map import ChestMap, measure_lung
from unixcxr.phantom.raster import Field, blur, resize, soft_step

_WORK = 96
_WIDTHS = tuple(np.linspace(0.24, 0.43, 9))
_HEIGHTS = tuple(np.linspace(0.36, 0.68, 9))

_Mask = NDArray[np.bool_]


def estimate_anatomy(image: NDArray[np.uint8]) -> ChestMap | None:
    """Locate the lungs on a uint8 picture (H, W), bright bone on dark air; None when not convincing."""
    if image.ndim != 2 or min(image.shape) < 32 or int(image.max()) - int(image.min()) < 30:
        return None
    small = resize(image.astype(np.float32) / np.float32(255), (_WORK, _WORK))
    small = blur(small, 0.006)
    placed = _place_template(small)
    if placed is None:
        return None
    right, left = (_grow_lung(small, template) for template in placed)
    if not _looks_like_lungs(small, right, left, placed):
        return None
    shape = (image.shape[0], image.shape[1])
    return _describe(resize(_soften(right), shape), resize(_soften(left), shape))


@lru_cache(maxsize=128)
def _template(width: float, height: float) -> tuple[Field, Field]:
    """Return the two expected lungs (right, left), centred on the working picture."""
    grid = ChestGrid((_WORK, _WORK), (0.5, 0.5 - 0.5 * height), (width, height), 0.0)
    roof = 0.14 * (np.abs(AXIS - 0.36) / 0.36) ** 2.2
    t = np.clip((AXIS - 0.42) / 0.58, 0, 1.04)
    dome = 1.0 + 0.22 * t**3
    right = 0.17 + 0.09 * bump(0.8, 0.2)
    left = 0.17 + 0.08 * bump(0.25, 0.07) + 0.36 * bump(0.95, 0.30)
    edge = np.where(grid.is_left, grid.over_y(left), grid.over_y(right))
    lung = soft_step(grid.over_y(wall_table()) - grid.a, 0.04) * soft_step(grid.a - edge, 0.04)
    lung *= soft_step(grid.y - grid.over_x(roof, roof), 0.04) * soft_step(
        grid.over_x(dome, dome) - grid.y, 0.03
    )
    return np.where(grid.is_left, np.float32(0), lung), np.where(grid.is_left, lung, np.float32(0))


def _place_template(small: Field) -> tuple[Field, Field] | None:
    """Return the template pair whose inside is darkest against its rim, over widths, heights and places."""
    spectrum = np.fft.rfft2(small - small.mean(), s=(2 * _WORK, 2 * _WORK))
    best, best_score = None, 0.0
    for width in _WIDTHS:
        for height in _HEIGHTS:
            if not 1.15 < height / width < 2.3:
                continue
            lungs = sum(_template(float(width), float(height)), start=np.zeros_like(small))
            rim = np.clip(blur(lungs, 0.035) * 3, 0, 1) * (1 - lungs)
            kernel = rim / rim.sum() - lungs / lungs.sum()
            response = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(kernel, s=(2 * _WORK, 2 * _WORK))))
            reach = int(0.16 * _WORK)
            near = np.roll(response, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
            row, column = np.unravel_index(int(near.argmax()), near.shape)
            score = float(near[row, column]) * float(lungs.sum()) ** 0.25
            if score > best_score:
                best, best_score = (width, height, int(row) - reach, int(column) - reach), score
    if best is None:
        return None
    width, height, down, across = best
    right, left = (np.roll(t, (down, across), (0, 1)) for t in _template(float(width), float(height)))
    return right, left


def _grow_lung(small: Field, template: Field) -> _Mask:
    """Return the dark region around a template lung, with ribs and vessels filled in."""
    allowed = blur(template, 0.03) > 0.16
    core = blur(template, 0.03) > 0.80
    inside, around = small[core], small[(blur(template, 0.03) > 0.05) & (template < 0.2)]
    if not inside.size or not around.size:
        return np.zeros_like(allowed)
    threshold = 0.45 * np.median(inside) + 0.55 * np.median(around)
    dark = allowed & (small < threshold)
    dark = blur(dark.astype(np.float32), 0.012) > 0.5
    lung = core & dark
    for _ in range(_WORK):
        grown = dark & (_spread(lung) | lung)
        if (grown == lung).all():
            break
        lung = grown
    lung = _fill_rows(_fill_rows(lung).T).T
    return blur(lung.astype(np.float32), 0.015) > 0.5


def _spread(mask: _Mask) -> _Mask:
    wide = np.zeros_like(mask)
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    return wide


def _fill_rows(mask: _Mask) -> _Mask:
    """Fill each row between its first and its last pixel."""
    seen = np.maximum.accumulate(mask, axis=1)
    ahead = np.maximum.accumulate(mask[:, ::-1], axis=1)[:, ::-1]
    return seen & ahead


def _looks_like_lungs(small: Field, right: _Mask, left: _Mask, placed: tuple[Field, Field]) -> bool:
    areas = right.mean(), left.mean()
    if (
        min(areas) < 0.035
        or max(areas) > 0.30
        or not 0.45 < areas[0] / areas[1] < 2.4
        or (right & left).any()
    ):
        return False
    for mask, template in zip((right, left), placed, strict=True):
        expected = template > 0.5
        if (mask & expected).sum() < 0.55 * (mask | expected).sum():
            return False
        rim = small[(blur(mask.astype(np.float32), 0.03) > 0.1) & ~mask]
        inside = float(np.median(small[mask]))
        step = float(np.median(rim)) - inside
        if step < 0.10 or float((rim < inside + 0.25 * step).mean()) > 0.22:
            return False
    tops = [int(np.flatnonzero(mask.any(axis=1))[0]) for mask in (right, left)]
    middle = 0.5 * (np.flatnonzero(right.any(axis=0))[0] + np.flatnonzero(left.any(axis=0))[-1]) / _WORK
    return abs(tops[0] - tops[1]) < 0.10 * _WORK and 0.33 < float(middle) < 0.67


def _soften(mask: _Mask) -> Field:
    return np.clip(blur(mask.astype(np.float32), 0.008) * np.float32(2) - np.float32(0.5), 0, 1)


def _describe(right: Field, left: Field) -> ChestMap:
    """Return the map of two lung masks: midline, heart and carina follow from their medial edges."""
    frames = {"right": measure_lung(right, is_left=False), "left": measure_lung(left, is_left=True)}
    height = right.shape[0]
    top = max(frame.top for frame in frames.values())
    bottom = min(frame.bottom for frame in frames.values())
    rows = np.arange(height)
    y = (rows + 0.5) / height
    upper = (y > top + 0.12 * (bottom - top)) & (y < top + 0.5 * (bottom - top))
    middle = 0.5 * (frames["right"].inner + frames["left"].inner)[upper]
    slope, start = np.polyfit(y[upper], middle, 1)
    slope = float(np.clip(slope, -0.06, 0.06))
    start = float(np.mean(middle) - slope * np.mean(y[upper]))
    lower = (y > top + 0.55 * (bottom - top)) & (y < top + 0.90 * (bottom - top))
    x0 = float(np.percentile(frames["right"].inner[lower], 15))
    x1 = float(np.percentile(frames["left"].inner[lower], 85))
    base = float(np.nanmedian(np.concatenate([frames["right"].floor, frames["left"].floor])))
    carina_y = top + 0.30 * (bottom - top)
    return ChestMap(
        right=right,
        left=left,
        midline=(start, start + slope),
        heart=(x0, top + 0.45 * (bottom - top), x1, base),
        carina=(start + slope * carina_y, carina_y),
    )
