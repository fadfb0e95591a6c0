"""Chest coordinates on the pixel grid, and table lookups over them.

X runs across (0 the spine, -1 and +1 the inner chest wall, negative the patient's right), Y runs down (0 the
lung apices, 1 the right diaphragm dome). A shape is a table over |X| or Y that is looked up at every pixel,
so that a chest costs a few dozen passes over the picture whatever it contains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unixcxr.phantom.raster import Field, Shape, pixel_grid

Table = NDArray[np.float64]

_LOW, _HIGH, _CELLS = -1.0, 3.0, 4096
AXIS: Table = np.linspace(_LOW, _HIGH, _CELLS)
"""The places (|X| or Y) at which every table is sampled."""
AXIS.flags.writeable = False

_FACTOR = np.float32((_CELLS - 1) / (_HIGH - _LOW))
_SIGNED = (AXIS - 0.75) * 2.0


class ChestGrid:
    """The pixel centres of one picture in chest coordinates; `a` is |X|."""

    def __init__(
        self, shape: Shape, centre: tuple[float, float], scale: tuple[float, float], tilt: float
    ) -> None:
        self.shape = shape
        self._centre, self._scale, self._tilt = centre, scale, tilt
        x, y = pixel_grid(shape)
        cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
        self.x: Field = (cos * dx + sin * dy) / np.float32(scale[0])
        self.y: Field = (cos * dy - sin * dx) / np.float32(scale[1])
        self.a: Field = np.abs(self.x)
        self.is_left = self.x > 0
        self._rows = _index(self.y)
        self._columns = _index(self.x * np.float32(0.5) + np.float32(0.75))

    def over_y(self, table: Table) -> Field:
        """Look a table over Y up at each pixel."""
        return np.asarray(table.astype(np.float32)[self._rows])

    def over_x(self, right: Table, left: Table) -> Field:
        """Look up at each pixel's |X| the table of its own side."""
        both = np.where(_SIGNED < 0, np.interp(-_SIGNED, AXIS, right), np.interp(_SIGNED, AXIS, left))
        return np.asarray(both.astype(np.float32)[self._columns])

    def to_picture(self, points: Table) -> Table:
        """Return the picture positions (..., 2) of chest positions (..., 2)."""
        scaled = points * np.array(self._scale)
        cos, sin = np.cos(self._tilt), np.sin(self._tilt)
        return np.asarray(scaled @ np.array([[cos, sin], [-sin, cos]]) + np.array(self._centre))

    def midline(self) -> tuple[float, float]:
        """Return the spine's x at the top and at the bottom edge of the picture."""
        slope = np.tan(self._tilt)
        x, y = self._centre
        return float(x + slope * y), float(x - slope * (1 - y))


def look_up(values: Field, table: Table) -> Field:
    """Look a table up at any values."""
    return np.asarray(table.astype(np.float32)[_index(values)])


def bump(centre: float, width: float) -> Table:
    """Return a Gaussian bump as a table."""
    return np.asarray(np.exp(-0.5 * ((AXIS - centre) / width) ** 2))


def knots(*points: tuple[float, float]) -> Table:
    """Return the table through a few (place, value) points, flat beyond the ends."""
    places, values = zip(*points, strict=True)
    return np.asarray(np.interp(AXIS, places, values))


def _index(values: Field) -> NDArray[np.intp]:
    scaled = (values - np.float32(_LOW)) * _FACTOR
    return np.clip(scaled, 0, _CELLS - 1).astype(np.intp)
