"""The normal frontal chest as a smooth field of film density: bright bone on dark air, about 0..1.

Chest coordinates: X runs across (0 the spine, -1 and +1 the inner chest wall, negative the patient's right),
Y runs down (0 the lung apices, 1 the right diaphragm dome). Shapes are tables over |X| or Y that are looked up at
every pixel, so a chest costs a few dozen passes over the picture whatever it contains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unixcxr.phantom.chest_map import ChestMap
from unixcxr.phantom.raster import Field, pixel_grid, smooth_noise, soft_step
from unixcxr.phantom.vessels import draw_vessels

_LOW, _HIGH, _CELLS = -1.0, 3.2, 8192
_AXIS = np.linspace(_LOW, _HIGH, _CELLS)


@dataclass(frozen=True)
class Anatomy:
    """The numbers that make one body and its position on the film; drawn once, rendered at any size."""

    view: str
    centre: tuple[float, float]
    scale: tuple[float, float]
    tilt: float
    heart_right: float
    heart_left: float
    heart_top: float
    knob: float
    aorta: float
    mediastinum: float
    dome_left: float
    dome_bulge: tuple[float, float]
    costophrenic: tuple[float, float]
    rib_spacing: float
    rib_start: float
    rib_slope: tuple[float, float]
    rib_strength: float
    clavicle: tuple[float, float]
    shoulder: float
    torso: float
    breast: float
    bubble: float
    lung_air: float
    arms: bool
    vessel_strength: float
    texture_seed: int


def draw_anatomy(rng: np.random.Generator, view: str) -> Anatomy:
    """Draw the numbers of one body; AP films have a larger heart shadow, higher domes and higher clavicles."""
    ap = view == "AP"

    def near(mean: float, spread: float) -> float:
        return float(mean + spread * np.clip(rng.standard_normal(), -2, 2))

    width = near(0.325, 0.025)
    return Anatomy(
        view=view,
        centre=(near(0.5, 0.015), near(0.155, 0.025)),
        scale=(width, near(0.535 if not ap else 0.50, 0.035)),
        tilt=float(np.deg2rad(near(0, 1.3))),
        heart_right=near(0.27, 0.025),
        heart_left=near(0.62 if not ap else 0.66, 0.04),
        heart_top=near(0.50, 0.02),
        knob=near(0.265, 0.02),
        aorta=near(0.22, 0.02),
        mediastinum=near(0.155, 0.012),
        dome_left=near(1.055, 0.012),
        dome_bulge=(near(0.17, 0.03), near(0.17, 0.03)),
        costophrenic=(near(0.20, 0.02), near(0.20, 0.02)),
        rib_spacing=near(0.122, 0.007),
        rib_start=near(0.02, 0.02),
        rib_slope=(near(0.17, 0.04), near(0.75, 0.08)),
        rib_strength=near(0.055, 0.012),
        clavicle=(near(0.06 if not ap else -0.01, 0.03), near(0.16, 0.04)),
        shoulder=near(-0.06, 0.03),
        torso=near(1.24, 0.05),
        breast=float(max(0.0, rng.normal(0.0, 0.05)) if rng.random() < 0.5 else rng.uniform(0.04, 0.10)),
        bubble=float(rng.uniform(0.5, 1.0) if rng.random() < 0.7 else 0.0),
        lung_air=near(0.40, 0.035),
        arms=bool(rng.random() < 0.6),
        vessel_strength=near(0.10, 0.015),
        texture_seed=int(rng.integers(2**31)),
    )


class _Chest:
    """The pixel grid in chest coordinates, with table lookups over X, |X| and Y."""

    def __init__(self, body: Anatomy, size_px: int) -> None:
        x, y = pixel_grid(size_px, size_px)
        cos, sin = np.float32(np.cos(body.tilt)), np.float32(np.sin(body.tilt))
        dx, dy = x - np.float32(body.centre[0]), y - np.float32(body.centre[1])
        self.x = (cos * dx + sin * dy) / np.float32(body.scale[0])
        self.y = (cos * dy - sin * dx) / np.float32(body.scale[1])
        self.a = np.abs(self.x)
        self.is_left = self.x > 0
        factor = np.float32((_CELLS - 1) / (_HIGH - _LOW))
        self._row = np.clip((self.y - np.float32(_LOW)) * factor, 0, _CELLS - 1).astype(np.intp)
        self._across = np.clip(
            (self.x * np.float32(0.5) + np.float32(0.7 - _LOW)) * factor, 0, _CELLS - 1
        ).astype(np.intp)

    def over_y(self, table: NDArray[np.float64]) -> Field:
        """Look a table over `_AXIS` up at each pixel's Y."""
        return np.asarray(table.astype(np.float32)[self._row])

    def over_x(self, right: NDArray[np.float64], left: NDArray[np.float64]) -> Field:
        """Look up at each pixel's |X| the table of its own side."""
        signed = (_AXIS - 0.7) * 2
        both = np.where(signed < 0, np.interp(-signed, _AXIS, right), np.interp(signed, _AXIS, left))
        return np.asarray(both.astype(np.float32)[self._across])

    def to_picture(self, body: Anatomy, x: float, y: float) -> tuple[float, float]:
        """Return the picture position of a chest position."""
        px, py = x * body.scale[0], y * body.scale[1]
        cos, sin = np.cos(body.tilt), np.sin(body.tilt)
        return float(body.centre[0] + cos * px - sin * py), float(body.centre[1] + sin * px + cos * py)


def _bump(centre: float, width: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * ((_AXIS - centre) / width) ** 2))


def render_anatomy(body: Anatomy, size_px: int) -> tuple[Field, ChestMap]:
    """Render a body as a density field (H, W) and say where its parts lie."""
    chest = _Chest(body, size_px)
    rng = np.random.default_rng(body.texture_seed)
    torso = _torso(body, chest)
    air, mediastinum, heart, floor = _cavities(body, chest)
    right, left = np.where(chest.is_left, 0, air), np.where(chest.is_left, air, 0)
    depth = soft_step(_wall(chest) - chest.a, 0.55) * soft_step(chest.a - 0.05, 0.5)
    upper = chest.over_y(np.interp(_AXIS, [0.0, 0.25, 0.7, 1.1], [0.72, 1.0, 0.95, 0.72]))
    aerated = air * (np.float32(0.80) + np.float32(0.32) * depth) * upper
    field = torso * np.float32(0.585)
    field -= np.float32(body.lung_air) * aerated
    field += _mediastinal_density(body, chest, mediastinum, heart, floor)
    field += _abdomen(body, chest, floor, torso)
    cage = soft_step(chest.y + np.float32(0.12), 0.1) * torso
    bones = _ribs(body, chest) * cage + _shoulder_bones(body, chest)
    field += bones * np.float32(body.rib_strength)
    field += _soft_shadows(body, chest, air)
    vessels = draw_vessels(body, chest.to_picture, rng, size_px) * air * np.float32(body.vessel_strength)
    field += vessels
    coarse = smooth_noise(rng, size_px, size_px, 14) * np.float32(0.008)
    fine = smooth_noise(rng, size_px, size_px, 48) * (np.float32(0.004) + np.float32(0.010) * air)
    field += (coarse + fine) * torso
    field -= _airway(chest)
    heart_box = (
        *chest.to_picture(body, -body.heart_right, body.heart_top),
        *chest.to_picture(body, body.heart_left, 1.02),
    )
    chest_map = ChestMap(
        right=right.astype(np.float32),
        left=left.astype(np.float32),
        midline=(_spine_x(body, 0.0), _spine_x(body, 1.0)),
        heart=heart_box,
        carina=chest.to_picture(body, 0.01, 0.34),
        vessels=vessels,
    )
    return field, chest_map


def _spine_x(body: Anatomy, y: float) -> float:
    return float(body.centre[0] - np.tan(body.tilt) * (y - body.centre[1]))


def _wall_table() -> NDArray[np.float64]:
    """Return the lateral lung wall |X| at each Y: a narrow apex that widens to 1 and stays."""
    t = np.clip(1 - _AXIS / 0.78, 0, 1.0)
    table = 0.36 + 0.64 * np.sqrt(np.clip(1 - t**2.1, 0, 1))
    return np.asarray(np.where(_AXIS < 0, 0.36, table) - 0.015 * np.clip(_AXIS - 0.9, 0, 1))


def _wall(chest: _Chest) -> Field:
    return chest.over_y(_wall_table())


def _torso(body: Anatomy, chest: _Chest) -> Field:
    """Return the soft tissue: trunk, neck and shoulders, arms; 1 where thick, 0 in free air."""
    flare = 0.9 * np.exp(-np.clip(_AXIS - 0.05, 0, None) / 0.16)
    waist = body.torso + flare + 0.06 * np.clip(_AXIS - 0.6, 0, 1)
    trunk = soft_step(chest.over_y(waist) - chest.a, 0.30) ** np.float32(0.65)
    slope = np.interp(
        _AXIS, [0, 0.26, 0.36, 0.6, 1.1, 1.55, 1.9, 2.2], [-9, -2.2, -0.30, -0.20, -0.11, -0.06, 0.1, 0.5]
    )
    top = chest.over_x(slope, slope) + np.float32(body.shoulder)
    tissue = trunk * soft_step(chest.y - top - np.float32(0.03), 0.20) ** np.float32(0.6)
    if body.arms:
        arm_axis = np.interp(_AXIS, [0, 0.5, 1.6], [1.55, 1.72, 1.86])
        arm = soft_step(np.float32(0.24) - np.abs(chest.a - chest.over_y(arm_axis)), 0.2)
        arm *= soft_step(chest.y - np.float32(0.05), 0.2) * np.float32(0.75)
        tissue = np.maximum(tissue, arm)
    return tissue


def _cavities(body: Anatomy, chest: _Chest) -> tuple[Field, Field, Field, Field]:
    """Return lung air, mediastinum and heart as masks, and the height above the diaphragm."""
    dome_right = _dome(1.0, body.dome_bulge[0], body.costophrenic[0])
    dome_left = _dome(body.dome_left, body.dome_bulge[1], body.costophrenic[1])
    floor = chest.over_x(dome_right, dome_left) - chest.y
    apex = 0.14 * (np.abs(_AXIS - 0.36) / 0.36) ** 2.2
    roof = chest.y - chest.over_x(apex, apex)
    right = (
        body.mediastinum + 0.02 * _bump(0.2, 0.2) + (body.heart_right - body.mediastinum) * _bump(0.8, 0.17)
    )
    right += 0.03 * _bump(0.47, 0.07) + 0.10 * np.clip(0.06 - _AXIS, 0, 1)
    left = body.mediastinum - 0.005 + (body.knob - body.mediastinum) * _bump(0.255, 0.055)
    left += 0.06 * _bump(0.44, 0.07) + 0.17 * _bump(0.66, 0.15)
    edge = np.where(chest.is_left, chest.over_y(left), chest.over_y(right))
    mediastinum = soft_step(edge - chest.a, 0.035)
    heart = soft_step(_heart_inside(body, chest), 0.045)
    air = soft_step(_wall(chest) - chest.a, 0.03) * soft_step(roof, 0.03) * soft_step(floor, 0.014)
    air *= (1 - mediastinum) * (1 - heart)
    return air, mediastinum, heart, floor


def _heart_inside(body: Anatomy, chest: _Chest) -> Field:
    """Return how far inside the heart's outline a pixel lies: a tilted ellipse, wide to the patient's left."""
    middle = 0.5 * (body.heart_left - body.heart_right)
    half = 0.5 * (body.heart_left + body.heart_right)
    dx = (chest.x - np.float32(middle)) / np.float32(half)
    dy = (chest.y - np.float32(0.86) - np.float32(0.13) * dx) / np.float32(0.86 - body.heart_top)
    return np.float32(1) - np.sqrt(dx * dx + dy * dy)


def _dome(top: float, bulge: float, costophrenic: float) -> NDArray[np.float64]:
    t = (_AXIS - 0.42) / 0.58
    table = np.where(t > 0, costophrenic * np.clip(t, 0, 1.3) ** 2.4, bulge * 0.45 * np.abs(t) ** 2)
    meet = np.clip((0.30 - _AXIS) / 0.3, 0, 1) ** 2
    return np.asarray((top + table) * (1 - meet) + 1.10 * meet)


def _mediastinal_density(
    body: Anatomy, chest: _Chest, mediastinum: Field, heart: Field, floor: Field
) -> Field:
    above = soft_step(floor + np.float32(0.05), 0.1)
    centre = soft_step(np.float32(0.16) - chest.a, 0.10)
    vertebra = np.cos(2 * np.pi * _AXIS / 0.118)
    discs = chest.over_y(0.35 * np.clip(vertebra, -0.2, 1.0))
    pedicles = soft_step(np.float32(0.035) - np.abs(chest.a - np.float32(0.085)), 0.03)
    spine = centre * (np.float32(0.135) + np.float32(0.035) * discs * (np.float32(0.6) + pedicles))
    spine += np.float32(0.02) * soft_step(np.float32(0.02) - np.abs(chest.a - np.float32(0.15)), 0.02)
    body_heart = np.sqrt(np.clip(_heart_inside(body, chest), 0, 1)) * np.float32(0.10)
    aorta = soft_step(np.float32(0.045) - np.abs(chest.x - np.float32(0.13)), 0.05) * chest.over_y(
        _bump(0.45, 0.3)
    )
    tall = chest.over_y(np.interp(_AXIS, [-0.4, -0.05, 0.3, 1.0], [0.35, 0.7, 1.0, 1.0]))
    return (mediastinum * np.float32(0.05) + body_heart + heart * np.float32(0.02)) * above + (
        spine + aorta * np.float32(0.025)
    ) * tall


def _abdomen(body: Anatomy, chest: _Chest, floor: Field, torso: Field) -> Field:
    beside = np.clip(chest.a - np.float32(0.93), 0, 0.3)
    below = soft_step(-floor, np.float32(0.03) + np.float32(1.5) * beside)
    below *= soft_step(np.float32(1.12) - chest.a, 0.35)
    deep = chest.over_y(np.interp(_AXIS, [0.9, 1.1, 1.5], [0.13, 0.20, 0.25]))
    tissue = below * deep * torso
    if body.bubble:
        dx = (chest.x - np.float32(0.48)) / np.float32(0.22)
        dy = (chest.y - np.float32(body.dome_left + 0.13)) / np.float32(0.075)
        gas = soft_step(np.float32(1) - np.sqrt(dx * dx + dy * dy), 0.5)
        tissue -= gas * np.float32(0.16 * body.bubble)
    return tissue


def _ribs(body: Anatomy, chest: _Chest) -> Field:
    """Return posterior and anterior ribs: periodic tables along curves that fall away from the spine."""
    slope, fall = body.rib_slope
    u = _AXIS / 1.05
    arc = slope * u**2 - 0.06 * np.sin(np.pi * np.clip(u, 0, 1)) + 0.24 * np.clip(u, 0, 1.2) ** 5
    back = chest.y - chest.over_x(arc, arc)
    front = chest.y + np.float32(fall) * chest.a - np.float32(0.09) * chest.a * chest.a
    cage = soft_step(_wall(chest) + np.float32(0.055) - chest.a, 0.03) * soft_step(
        chest.a - np.float32(0.10), 0.08
    )
    posterior = _lookup(back, _rib_table(body.rib_start, body.rib_spacing, 0.036))
    reach = soft_step(chest.a - np.float32(0.42), 0.16)
    anterior = _lookup(front, _rib_table(body.rib_start + 0.80, body.rib_spacing * 1.12, 0.030, count=6))
    rim = soft_step(np.float32(0.028) - np.abs(chest.a - _wall(chest) - np.float32(0.025)), 0.03)
    low = chest.over_y(np.interp(_AXIS, [1.05, 1.3], [1.0, 0.15]))
    return (cage * (posterior + np.float32(0.55) * reach * anterior) + np.float32(0.9) * rim) * low


def _rib_table(start: float, spacing: float, half_width: float, count: int = 11) -> NDArray[np.float64]:
    """Return rib density over the unrolled height: a plateau with brighter cortical edges per rib."""
    table = np.zeros(_CELLS)
    for index in range(count):
        centre = start + spacing * index * (1 + 0.008 * index)
        offset = (_AXIS - centre) / half_width
        plateau = 1 / (1 + np.exp(np.clip((np.abs(offset) - 0.85) * 9, -40, 40)))
        edge = np.exp(-0.5 * ((offset - 0.75) / 0.2) ** 2) + 0.5 * np.exp(-0.5 * ((offset + 0.75) / 0.2) ** 2)
        table += 0.75 * plateau + 0.55 * edge
    return table


def _lookup(value: Field, table: NDArray[np.float64]) -> Field:
    index = np.clip((value - np.float32(_LOW)) * np.float32((_CELLS - 1) / (_HIGH - _LOW)), 0, _CELLS - 1)
    return np.asarray(table.astype(np.float32)[index.astype(np.intp)])


def _shoulder_bones(body: Anatomy, chest: _Chest) -> Field:
    """Return clavicles, scapulae and humeral heads."""
    medial, lift = body.clavicle
    u = np.clip((_AXIS - 0.12) / 1.1, 0, 1.1)
    axis = medial - lift * u - 0.05 * np.sin(2 * np.pi * np.clip(u, 0, 1))
    offset = np.abs(chest.y - chest.over_x(axis, axis)) / np.float32(0.034)
    bar = soft_step(np.float32(1) - offset, 0.25) + np.float32(0.7) * soft_step(
        np.float32(0.22) - np.abs(offset - np.float32(0.8)), 0.2
    )
    bar *= soft_step(chest.a - np.float32(0.13), 0.05) * soft_step(np.float32(1.22) - chest.a, 0.08)
    border = np.interp(_AXIS, [-0.1, 0.1, 0.35, 0.62, 0.75], [0.95, 0.86, 0.94, 1.06, 1.25])
    from_border = chest.a - chest.over_y(border)
    blade = soft_step(from_border, 0.03) * soft_step(np.float32(0.42) - from_border, 0.5)
    blade *= soft_step(chest.y + np.float32(0.05), 0.1) * soft_step(np.float32(0.70) - chest.y, 0.15)
    rim = soft_step(np.float32(0.03) - np.abs(from_border - np.float32(0.02)), 0.03)
    rim *= soft_step(chest.y - np.float32(0.0), 0.08) * soft_step(np.float32(0.68) - chest.y, 0.1)
    dx, dy = (chest.a - np.float32(1.52)) / np.float32(0.2), (chest.y - np.float32(0.06)) / np.float32(0.125)
    head = np.sqrt(dx * dx + dy * dy)
    joint = soft_step(np.float32(1) - head, 0.12) * np.float32(0.9)
    joint += soft_step(np.float32(0.12) - np.abs(head - np.float32(0.95)), 0.1) * np.float32(0.5)
    shaft = soft_step(
        np.float32(0.085) - np.abs(chest.a - np.float32(1.56) - np.float32(0.22) * chest.y), 0.04
    )
    shaft *= soft_step(chest.y - np.float32(0.1), 0.1)
    return (
        bar * np.float32(1.3)
        + blade * np.float32(0.8)
        + rim * np.float32(0.7)
        + joint
        + shaft * np.float32(0.8)
    )


def _soft_shadows(body: Anatomy, chest: _Chest, air: Field) -> Field:
    """Return breast shadows over the lower lungs."""
    if not body.breast:
        return np.zeros_like(air)
    dx, dy = (chest.a - np.float32(0.62)) / np.float32(0.56), (chest.y - np.float32(0.80)) / np.float32(0.34)
    inside = np.float32(1) - np.sqrt(dx * dx + dy * dy)
    lower = soft_step(inside, 0.25) * chest.over_y(np.interp(_AXIS, [0.45, 1.0], [0.2, 1.0]))
    return lower * np.float32(body.breast)


def _airway(chest: _Chest) -> Field:
    """Return the darkening of the trachea and the main bronchi."""
    trachea = soft_step(np.float32(0.065) - np.abs(chest.x - np.float32(0.01)), 0.045)
    trachea *= chest.over_y(np.interp(_AXIS, [-0.6, -0.2, 0.30, 0.37], [0.7, 1.0, 0.8, 0.0]))
    below = chest.y - np.float32(0.34)
    bronchi = soft_step(
        np.float32(0.045) - np.abs(chest.a - below * np.float32(1.1) - np.float32(0.02)), 0.045
    )
    bronchi *= chest.over_y(np.interp(_AXIS, [0.31, 0.36, 0.42, 0.48], [0.0, 0.7, 0.5, 0.0]))
    return (trachea + bronchi) * np.float32(0.085)
