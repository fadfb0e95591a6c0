"""The skeleton of the drawn chest as density of about 0..1: ribs, clavicles, shoulder blades, arms, spine."""

from __future__ import annotations

import numpy as np

from unixcxr.phantom.body import Body
from unixcxr.phantom.chest_grid import AXIS, ChestGrid, Table, knots, look_up
from unixcxr.phantom.raster import Field, soft_step


def draw_ribs(body: Body, grid: ChestGrid, wall: Field) -> Field:
    """Draw posterior and anterior ribs: periodic tables along curves that fall away from the spine."""
    u = grid.a / (np.float32(0.35) + np.float32(0.70) * wall)
    square = u * u
    arc = np.float32(body.rib_slope[0]) * square + np.float32(0.20) * square * square * u
    arc -= np.float32(0.035) * np.sin(np.float32(np.pi) * np.minimum(u, 1))
    posterior = look_up(grid.y - arc, _rib_table(body.rib_start, body.rib_spacing, 0.029))
    front = grid.y + np.float32(body.rib_slope[1]) * (grid.a - np.float32(0.12) * grid.a * grid.a)
    table = _rib_table(body.rib_start + 0.74, body.rib_spacing * 1.16, 0.034, count=6)
    anterior = look_up(front, table) * soft_step(grid.a - np.float32(0.44), 0.22)
    outside = wall - grid.a
    cage = soft_step(outside + np.float32(0.02), 0.05) * soft_step(grid.a - np.float32(0.11), 0.07)
    rim = soft_step(np.float32(0.03) - np.abs(outside + np.float32(0.03)), 0.04)
    fade = grid.over_y(knots((-0.12, 0.0), (0.0, 1.0), (0.95, 0.9), (1.10, 0.45), (1.35, 0.2)))
    return (cage * (posterior + np.float32(0.42) * anterior) + np.float32(0.85) * rim) * fade


def _rib_table(start: float, spacing: float, half_width: float, count: int = 11) -> Table:
    """Return rib density over the unrolled height: a plateau with a brighter lower edge per rib."""
    index = np.clip(np.floor((AXIS - start) / spacing + 0.5), 0, count - 1)
    offset = (AXIS - start - spacing * index) / half_width
    plateau = 1 / (1 + np.exp(np.clip((np.abs(offset) - 0.85) * 8, -40, 40)))
    lower = np.exp(-0.5 * ((offset - 0.75) / 0.22) ** 2)
    upper = np.exp(-0.5 * ((offset + 0.75) / 0.22) ** 2)
    return np.asarray(0.75 * plateau + 0.40 * lower + 0.20 * upper)


def draw_shoulders(body: Body, grid: ChestGrid) -> Field:
    """Draw clavicles, shoulder blades, humeral heads and shafts."""
    sides = []
    for medial, lift in body.clavicles:
        u = np.clip((AXIS - 0.12) / 1.1, 0, 1.15)
        sides.append(medial - lift * u - 0.022 * np.sin(2 * np.pi * u))
    half = knots((0.1, 0.042), (0.4, 0.028), (0.9, 0.028), (1.2, 0.036))
    offset = np.abs(grid.y - grid.over_x(sides[0], sides[1])) / grid.over_x(half, half)
    clavicle = np.float32(0.65) * soft_step(np.float32(1) - offset, 0.45)
    clavicle += np.float32(0.30) * soft_step(np.float32(0.20) - np.abs(offset - np.float32(0.75)), 0.30)
    ends = knots((0.10, 0.0), (0.17, 1.0), (1.15, 1.0), (1.28, 0.0))
    clavicle *= grid.over_x(ends, ends)
    return clavicle * np.float32(0.95) + _shoulder_blade(body, grid) + _humerus(body, grid)


def _shoulder_blade(body: Body, grid: ChestGrid) -> Field:
    border = knots((-0.1, 0.98), (0.08, 0.88), (0.35, 0.96), (0.62, 1.08), (0.8, 1.25))
    inward = grid.a - grid.over_y(border + body.scapula)
    tall = grid.over_y(knots((-0.10, 0.0), (0.04, 1.0), (0.50, 0.8), (0.70, 0.0)))
    blade = soft_step(inward, 0.035) * soft_step(np.float32(0.40) - inward, 0.5) * np.float32(0.6)
    rim = soft_step(np.float32(0.025) - np.abs(inward - np.float32(0.02)), 0.04) * np.float32(0.38)
    return (blade + rim) * tall


def _humerus(body: Body, grid: ChestGrid) -> Field:
    """Draw the humeral head, the shaft, the joint socket and the acromion above it."""
    place = 1.42 + body.scapula
    dx, dy = (grid.a - np.float32(place)) / np.float32(0.19), (grid.y - np.float32(0.06)) / np.float32(0.115)
    head = np.sqrt(dx * dx + dy * dy)
    joint = soft_step(np.float32(1) - head, 0.30) * np.float32(0.6)
    joint += soft_step(np.float32(0.10) - np.abs(head - np.float32(0.92)), 0.16) * np.float32(0.28)
    axis = grid.a - np.float32(place + 0.05) - np.float32(0.25) * grid.y
    shaft = soft_step(np.float32(0.085) - np.abs(axis), 0.05) * np.float32(0.6)
    shaft += soft_step(np.float32(0.02) - np.abs(np.abs(axis) - np.float32(0.075)), 0.025) * np.float32(0.5)
    shaft *= soft_step(grid.y - np.float32(0.12), 0.1)
    ridge = grid.y + np.float32(0.05) + np.float32(0.16) * (grid.a - np.float32(place - 0.25))
    acromion = soft_step(np.float32(0.035) - np.abs(ridge), 0.03) * np.float32(0.6)
    acromion *= soft_step(np.float32(0.26) - np.abs(grid.a - np.float32(place - 0.15)), 0.12)
    dx, dy = (
        (grid.a - np.float32(place - 0.25)) / np.float32(0.07),
        (grid.y - np.float32(0.07)) / np.float32(0.10),
    )
    socket = soft_step(np.float32(1) - np.sqrt(dx * dx + dy * dy), 0.4) * np.float32(0.6)
    return joint + shaft + acromion + socket


def draw_spine(body: Body, grid: ChestGrid) -> Field:
    """Draw the vertebral column: bodies with darker discs, pedicles and spinous processes."""
    half = knots((-0.5, 0.085), (0.0, 0.095), (1.0, 0.125), (1.5, 0.15))
    phase = 2 * np.pi * AXIS / (0.094 + 0.018 * np.clip(AXIS, 0, 1))
    distance = grid.over_y(half) - grid.a
    column = soft_step(distance, 0.06)
    plates = grid.over_y(np.clip(np.cos(phase), -0.6, 0.8))
    pedicles = soft_step(np.float32(0.026) - np.abs(distance - np.float32(0.035)), 0.025)
    process = soft_step(np.float32(0.020) - grid.a, 0.02)
    waves = grid.over_y(np.clip(np.sin(phase + 0.6), 0, 1))
    detail = column * plates * np.float32(0.16) + (pedicles + np.float32(0.8) * process) * waves * np.float32(
        0.22
    )
    strength = grid.over_y(knots((-0.6, 0.55), (-0.1, 0.7), (0.25, 0.85), (0.9, 1.0)))
    return (column + detail * np.float32(body.spine_detail)) * strength
