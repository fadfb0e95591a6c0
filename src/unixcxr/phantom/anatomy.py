"""The normal frontal chest as a smooth field of film density: bright bone on dark air, about 0..1."""

from __future__ import annotations

import numpy as np

from unixcxr.phantom.body import Body, wall_table
from unixcxr.phantom.bones import draw_ribs, draw_shoulders, draw_spine
from unixcxr.phantom.chest_grid import AXIS, ChestGrid, Table, bump, knots
from unixcxr.phantom.chest_map import ChestMap
from unixcxr.phantom.raster import Field, smooth_noise, soft_step
from unixcxr.phantom.vessels import draw_vessels


def render_body(body: Body, size_px: int) -> tuple[Field, ChestMap]:
    """Render a body as a density field (H, W) and say where its parts lie."""
    grid = ChestGrid((size_px, size_px), body.centre, body.scale, body.tilt)
    rng = np.random.default_rng(body.texture_seed)
    wall = grid.over_y(wall_table())
    tissue = _tissue(body, grid)
    heart = _heart_inside(body, grid)
    floor = _floor(body, grid)
    mediastinum = _mediastinum(body, grid)
    air = soft_step(wall - grid.a, 0.03) * soft_step(floor, 0.014) * _below_apex(grid)
    air *= (1 - mediastinum) * (1 - soft_step(heart, 0.05))
    field = tissue * np.float32(0.58)
    field -= _aeration(body, grid, wall) * air
    field += _central_shadows(body, grid, mediastinum, heart, floor)
    field += _abdomen(body, grid, floor) * tissue
    ribs = draw_ribs(body, grid, wall) * (np.float32(0.45) + np.float32(0.55) * air)
    field += (ribs + draw_shoulders(body, grid)) * np.float32(body.rib_strength) * np.minimum(2 * tissue, 1)
    if body.breast:
        field += _breasts(body, grid)
    vessels = draw_vessels(grid, body.scale[0], rng) * air * np.float32(body.vessel_strength)
    field += vessels + _texture(grid, air, rng) * tissue
    field -= _airway(grid)
    top, bottom = grid.to_picture(np.array([[-body.heart_right, body.heart_top], [body.heart_left, 1.02]]))
    carina = grid.to_picture(np.array([0.01, 0.34]))
    chest_map = ChestMap(
        right=np.where(grid.is_left, np.float32(0), air),
        left=np.where(grid.is_left, air, np.float32(0)),
        midline=grid.midline(),
        heart=(float(top[0]), float(top[1]), float(bottom[0]), float(bottom[1])),
        carina=(float(carina[0]), float(carina[1])),
        vessels=vessels,
    )
    return field, chest_map


def _tissue(body: Body, grid: ChestGrid) -> Field:
    """Return the soft tissue: trunk, neck and shoulders, arms; 1 where thick, 0 in free air."""
    flare = 0.9 * np.exp(-np.clip(AXIS - 0.05, 0, None) / 0.16)
    waist = body.torso + flare + 0.06 * np.clip(AXIS - 0.6, 0, 1)
    trunk = np.sqrt(soft_step(grid.over_y(waist) - grid.a, 0.28))
    slope = knots(
        (0.2, -0.45), (0.35, -0.36), (0.6, -0.24), (1.1, -0.15), (1.55, -0.08), (1.9, 0.1), (2.2, 0.5)
    )
    shoulder = grid.y - grid.over_x(slope, slope) - np.float32(body.shoulder)
    neck = np.float32(0.40) - grid.a
    tissue = trunk * np.sqrt(soft_step(np.maximum(shoulder, neck) - np.float32(0.06), 0.20))
    if body.has_arms:
        axis = knots((0, 1.55), (0.5, 1.72), (1.6, 1.86))
        arm = soft_step(np.float32(0.24) - np.abs(grid.a - grid.over_y(axis)), 0.2)
        tissue = np.maximum(tissue, arm * soft_step(grid.y - np.float32(0.05), 0.2) * np.float32(0.75))
    return tissue


def _below_apex(grid: ChestGrid) -> Field:
    roof = 0.14 * (np.abs(AXIS - 0.36) / 0.36) ** 2.2
    return soft_step(grid.y - grid.over_x(roof, roof), 0.03)


def _floor(body: Body, grid: ChestGrid) -> Field:
    """Return the height above the diaphragm."""
    right = _dome(1.0, body.dome_bulge[0], body.costophrenic[0])
    left = _dome(body.dome_left, body.dome_bulge[1], body.costophrenic[1])
    return grid.over_x(right, left) - grid.y


def _dome(top: float, bulge: float, costophrenic: float) -> Table:
    """Return one dome's Y over |X|: high in mid lung, deep at the wall, joined to the other at the spine."""
    t = (AXIS - 0.42) / 0.58
    table = np.where(t > 0, costophrenic * np.clip(t, 0, 1.04) ** 3.2, bulge * 0.45 * np.abs(t) ** 2)
    meet = np.clip((0.30 - AXIS) / 0.3, 0, 1) ** 2
    return np.asarray((top + table) * (1 - meet) + 1.10 * meet)


def _mediastinum(body: Body, grid: ChestGrid) -> Field:
    """Return the mediastinum's mask: vena cava and atrium right, aortic knob and pulmonary trunk left."""
    right = body.mediastinum + 0.02 * bump(0.2, 0.2) + (body.heart_right - body.mediastinum) * bump(0.8, 0.17)
    right += 0.03 * bump(0.47, 0.07) + 0.10 * np.clip(0.06 - AXIS, 0, 1)
    left = body.mediastinum - 0.005 + (body.knob - body.mediastinum) * bump(0.255, 0.055)
    left += 0.07 * bump(0.44, 0.08) + 0.14 * bump(0.66, 0.13)
    edge = np.where(grid.is_left, grid.over_y(left), grid.over_y(right))
    return soft_step(edge - grid.a, 0.045)


def _heart_inside(body: Body, grid: ChestGrid) -> Field:
    """Return how far inside the heart, an ellipse, a pixel lies: 1 at its centre, 0 on its outline."""
    middle = 0.5 * (body.heart_left - body.heart_right)
    half = 0.5 * (body.heart_left + body.heart_right)
    dx = (grid.x - np.float32(middle)) / np.float32(half)
    dy = (grid.y - np.float32(0.90) - np.float32(body.heart_turn) * dx) / np.float32(0.90 - body.heart_top)
    return np.float32(1) - np.sqrt(dx * dx + dy * dy)


def _aeration(body: Body, grid: ChestGrid, wall: Field) -> Field:
    """Return how much darker air makes a lung pixel: most in the middle of the upper half."""
    depth = soft_step(wall - grid.a, 0.55) * soft_step(grid.a - np.float32(0.05), 0.5)
    height = grid.over_y(knots((0.0, 0.74), (0.25, 1.0), (0.7, 0.95), (1.1, 0.74)))
    tone = np.where(grid.is_left, np.float32(1 + body.sides_tone), np.float32(1 - body.sides_tone))
    return (np.float32(0.80) + np.float32(0.32) * depth) * height * tone * np.float32(body.lung_air)


def _central_shadows(body: Body, grid: ChestGrid, mediastinum: Field, heart: Field, floor: Field) -> Field:
    """Return the density of mediastinum, heart, aorta, hila and spine."""
    above = soft_step(floor + np.float32(0.05), 0.1)
    tall = grid.over_y(knots((-0.30, 0.25), (0.0, 0.6), (0.3, 1.0)))
    cardiac = np.sqrt(np.clip(heart, 0, 1)) * np.float32(0.115) + soft_step(heart, 0.05) * np.float32(0.02)
    aorta = soft_step(np.float32(0.05) - np.abs(grid.x - np.float32(0.14)), 0.05) * grid.over_y(
        bump(0.45, 0.3)
    )
    hilum = np.zeros_like(heart)
    for x, y in ((-0.25, 0.50), (0.26, 0.45)):
        dx, dy = (grid.x - np.float32(x)) / np.float32(0.10), (grid.y - np.float32(y)) / np.float32(0.115)
        hilum += np.clip(1 - (dx * dx + dy * dy) * np.float32(0.4), 0, 1) ** 2
    centre = mediastinum * np.float32(0.06) * tall + cardiac + aorta * np.float32(0.03)
    return centre * above + hilum * np.float32(0.085) + draw_spine(body, grid) * np.float32(0.105)


def _abdomen(body: Body, grid: ChestGrid, floor: Field) -> Field:
    """Return the density of what lies under the diaphragm, less gas in the stomach."""
    beside = np.clip(grid.a - np.float32(0.93), 0, 0.3)
    below = soft_step(-floor, np.float32(0.03) + np.float32(1.5) * beside)
    below *= soft_step(np.float32(1.18) - grid.a, 0.30)
    below *= grid.over_y(knots((0.9, 0.13), (1.1, 0.20), (1.5, 0.25)))
    for x, under, half_width, strength in body.bubbles:
        dx = (grid.x - np.float32(x)) / np.float32(half_width)
        dy = (grid.y - np.float32(body.dome_left + under)) / np.float32(0.42 * half_width)
        gas = soft_step(np.float32(1) - np.sqrt(dx * dx + dy * dy), 0.3)
        gas *= soft_step(np.float32(0.35) - dy, 0.25)  # upright, gas ends in a fluid level
        below -= gas * np.float32(max(strength, 0))
    return below


def _breasts(body: Body, grid: ChestGrid) -> Field:
    x, y = body.breast_place
    dx, dy = (grid.a - np.float32(x)) / np.float32(0.56), (grid.y - np.float32(y)) / np.float32(0.36)
    lower = soft_step(np.float32(1) - np.sqrt(dx * dx + dy * dy), 0.25)
    return lower * grid.over_y(knots((0.45, 0.15), (1.0, 1.0))) * np.float32(body.breast)


def _texture(grid: ChestGrid, air: Field, rng: np.random.Generator) -> Field:
    coarse = smooth_noise(rng, grid.shape, 14) * np.float32(0.009)
    fine = smooth_noise(rng, grid.shape, 56)
    return coarse + fine * (np.float32(0.003) + np.float32(0.011) * air)


def _airway(grid: ChestGrid) -> Field:
    """Return the darkening of the trachea and the main bronchi."""
    trachea = soft_step(np.float32(0.050) - np.abs(grid.x - np.float32(0.01)), 0.05)
    trachea *= grid.over_y(knots((-0.6, 0.7), (-0.2, 1.0), (0.30, 0.8), (0.37, 0.0)))
    below = grid.y - np.float32(0.34)
    bronchi = soft_step(np.float32(0.045) - np.abs(grid.a - below * np.float32(1.1) - np.float32(0.02)), 0.05)
    bronchi *= grid.over_y(knots((0.31, 0.0), (0.36, 0.7), (0.42, 0.5), (0.48, 0.0)))
    return (trachea + np.float32(0.7) * bronchi) * np.float32(0.11)
