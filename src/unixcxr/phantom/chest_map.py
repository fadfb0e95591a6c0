"""Where things lie on a frontal chest picture: the map that the finding painters work from.

A map comes with every phantom and can be estimated on a real picture; painters know nothing else of the
anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unixcxr.phantom.raster import Field, blur, pixel_grid, soft_step


@dataclass(frozen=True)
class LungFrame:
    """One lung as numbers per row and column, all fractions of the picture.

    `top` and `bottom` are its first and last row; `outer` and `inner` (H,) the lateral and the medial edge in
    each row; `floor` (W,) the lowest lung row in each column (NaN where the column has no lung).
    """

    mask: Field
    top: float
    bottom: float
    outer: Field
    inner: Field
    floor: Field
    is_left: bool

    @property
    def outward(self) -> float:
        """Return +1 where lateral means larger x (the patient's left lung), else -1."""
        return 1.0 if self.is_left else -1.0

    @cached_property
    def cover(self) -> Field:
        """Return the mask widened over its soft edge, for painters that only brighten."""
        return np.asarray(np.clip(blur(self.mask, 0.006) * np.float32(2.2), 0, 1))

    @cached_property
    def basal_cover(self) -> Field:
        """Return the cover widened further near the base, where a mask may miss the costophrenic angle."""
        wide = np.clip(blur(self.mask, 0.016) * np.float32(5), 0, 1)
        return np.asarray(np.maximum(self.cover, wide * soft_step(self.descent - np.float32(0.7), 0.25)))

    @cached_property
    def depth(self) -> Field:
        """Return each pixel's way in from the lateral wall: 0 at the wall, 1 at the medial edge, (H, W)."""
        x, _ = pixel_grid(self.mask.shape)
        width = np.maximum(np.abs(self.outer - self.inner), 0.02)[:, None]
        return np.asarray((self.outer[:, None] - x) * self.outward / width)

    @cached_property
    def descent(self) -> Field:
        """Return how far each row lies from apex (0) to base (1), (H, 1)."""
        _, y = pixel_grid(self.mask.shape)
        return (y - self.top) / max(self.bottom - self.top, 0.05)

    def place(self, depth: float, descent: float) -> tuple[float, float]:
        """Return the picture position (x, y) of a depth and a descent."""
        y = self.top + descent * (self.bottom - self.top)
        row = int(np.clip(y * self.mask.shape[0], 0, self.mask.shape[0] - 1))
        outer, inner = float(self.outer[row]), float(self.inner[row])
        return outer + depth * (inner - outer), y


@dataclass(frozen=True)
class ChestMap:
    """The places on one frontal picture, as fractions of it; masks are 0..1 float32 (H, W).

    `right` and `left` are the patient's lungs, so `right` lies on the left of the picture. `midline` gives
    the spine's x at the top and at the bottom edge. `heart` is the heart's box (x0, y0, x1, y1). `vessels`,
    where it is known, is what the lung vessels add to the picture, so that they can be taken out of a
    collapsed lung.
    """

    right: Field
    left: Field
    midline: tuple[float, float]
    heart: tuple[float, float, float, float]
    carina: tuple[float, float]
    vessels: Field | None = None

    def midline_at(self, y: float) -> float:
        """Return the spine's x at height y."""
        return self.midline[0] + (self.midline[1] - self.midline[0]) * y

    @cached_property
    def frames(self) -> dict[str, LungFrame]:
        """Return the lung frames by the patient's side."""
        return {
            "right": measure_lung(self.right, is_left=False),
            "left": measure_lung(self.left, is_left=True),
        }

    @cached_property
    def lungs(self) -> Field:
        """Return both lungs as one mask."""
        return np.maximum(self.right, self.left)

    @property
    def cardiothoracic_ratio(self) -> float:
        """Return the heart's width over the widest distance between the lateral lung walls."""
        right, left = self.frames["right"], self.frames["left"]
        return (self.heart[2] - self.heart[0]) / float(left.outer.max() - right.outer.min())


def measure_lung(mask: Field, *, is_left: bool) -> LungFrame:
    """Measure one lung's mask row by row and column by column."""
    inside = mask > 0.5
    height, width = inside.shape
    rows = np.flatnonzero(inside.any(axis=1))
    top, bottom = int(rows[0]), int(rows[-1])
    first = inside.argmax(axis=1) / width
    last = (width - inside[:, ::-1].argmax(axis=1)) / width
    outer, inner = (last, first) if is_left else (first, last)
    known = np.clip(np.arange(height), top, bottom)
    known = rows[np.searchsorted(rows, known)]
    # Under the dome only a sliver beside the wall is lung: carry the medial edge down from above it.
    steady = int(top + 0.78 * (bottom - top))
    inner = np.where(np.arange(height) > steady, inner[steady], inner)
    columns = inside.any(axis=0)
    floor = np.where(columns, (height - inside[::-1].argmax(axis=0)) / height, np.nan)
    return LungFrame(
        mask=mask,
        top=top / height,
        bottom=(bottom + 1) / height,
        outer=_smooth(outer[known]),
        inner=_smooth(inner[known]),
        floor=_as_field(floor),
        is_left=is_left,
    )


def _smooth(edge: NDArray[np.float64]) -> Field:
    """Smooth an edge over neighbouring rows, so that it does not step from pixel to pixel."""
    return blur(_as_field(edge)[:, None], 0.012)[:, 0]


def _as_field(values: NDArray[np.float64]) -> Field:
    return values.astype(np.float32)
