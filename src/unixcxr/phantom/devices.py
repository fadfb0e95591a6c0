"""Paint support devices: a pacemaker with leads, a central venous line, an endotracheal tube.

Lines are drawn wide and bright enough to survive at 128 px, where a true 2 mm catheter is under one pixel.
"""

from __future__ import annotations

import numpy as np

from unixcxr.phantom.chest_map import ChestMap
from unixcxr.phantom.raster import Field, draw_curve, pixel_grid, soft_step


def _outward(side: str | None) -> float:
    return 1.0 if side == "left" else -1.0


def _cavoatrial(chest: ChestMap, descent: float) -> tuple[float, float]:
    """Return a point of the superior vena cava, right of the spine; 0 at the carina, 1 in the atrium."""
    y = chest.carina[1] + descent * (chest.heart[3] - chest.carina[1]) * 0.62
    middle = chest.midline_at(y)
    return middle - (0.035 + 0.022 * descent) * _scale(chest), y


def _scale(chest: ChestMap) -> float:
    """Return the chest's width over that of a chest filling two thirds of the picture."""
    right, left = chest.frames["right"], chest.frames["left"]
    return float(left.outer.max() - right.outer.min()) / 0.66


def paint_central_line(
    field: Field, chest: ChestMap, side: str | None, contrast: float, rng: np.random.Generator
) -> Field:
    """Draw a jugular or subclavian catheter down to the superior vena cava."""
    out, scale = _outward(side), _scale(chest)
    top = min(frame.top for frame in chest.frames.values())
    middle = chest.midline_at(top)
    tip = _cavoatrial(chest, rng.uniform(0.25, 0.6))
    joint = _cavoatrial(chest, -0.25)
    if rng.random() < 0.5:
        entry = [(middle + out * 0.115 * scale, top - 0.13), (middle + out * 0.085 * scale, top - 0.02)]
    else:
        entry = [
            (middle + out * 0.27 * scale, top + 0.035),
            (middle + out * 0.18 * scale, top + 0.005),
            (middle + out * 0.09 * scale, top + 0.03),
        ]
    if out > 0:
        entry.append((middle + 0.02 * scale, top + 0.11))
    points = np.array([*entry, joint, _cavoatrial(chest, 0.1), tip])
    line = draw_curve(field.shape, points, 0.010)
    return np.asarray(field + np.float32(0.50 * contrast) * np.minimum(line, 1))


def paint_pacemaker(
    field: Field, chest: ChestMap, side: str | None, contrast: float, rng: np.random.Generator
) -> Field:
    """Draw a generator below the clavicle and one or two leads into the right heart."""
    out, scale = _outward(side), _scale(chest)
    frame = chest.frames[side or "left"]
    x, y = pixel_grid(field.shape)
    cx, cy = frame.place(rng.uniform(0.10, 0.22), rng.uniform(0.16, 0.22))
    u, v = (x - cx) / (0.060 * scale), (y - cy) / (0.050 * scale)
    radius = (np.abs(u) ** 3 + np.abs(v) ** 3) ** np.float32(1 / 3)
    case = soft_step((1 - radius).astype(np.float32), 0.10)
    parts = 0.84 + 0.16 * soft_step((v - np.float32(0.1)).astype(np.float32), 0.4)
    lit = field + case * np.float32(1.0) * (np.maximum(0.97 * parts + 0.03 - field, 0.12)).astype(np.float32)
    top = frame.top
    middle = chest.midline_at(top)
    vein = [
        (cx - out * 0.02, cy - 0.055),
        (middle + out * 0.16 * scale, top + 0.02),
        (middle + out * 0.07, top + 0.06),
    ]
    cava = [_cavoatrial(chest, -0.2), _cavoatrial(chest, 0.45)]
    x0, _, x1, y1 = chest.heart
    ventricle = (x0 + 0.66 * (x1 - x0), y1 - 0.05)
    turn = (chest.midline_at(y1) - 0.01 * scale, y1 - 0.055)
    leads = draw_curve(field.shape, np.array([*vein, *cava, turn, ventricle]), 0.010)
    if rng.random() < 0.6:
        hook = (_cavoatrial(chest, 0.9)[0] - 0.012, _cavoatrial(chest, 0.8)[1])
        second = draw_curve(field.shape, np.array([*vein, *cava, _cavoatrial(chest, 0.95), hook]), 0.010)
        leads = np.maximum(leads, second)
    return np.asarray(lit + np.float32(0.45 * contrast) * np.minimum(leads, 1) * (1 - case))


def paint_endotracheal_tube(
    field: Field, chest: ChestMap, side: str | None, contrast: float, rng: np.random.Generator
) -> Field:
    """Draw a tube down the trachea that ends a few centimetres above the carina."""
    scale = _scale(chest)
    end_y = chest.carina[1] - rng.uniform(0.045, 0.075)
    shift = rng.uniform(-0.004, 0.004)
    start = (chest.midline_at(0.0) + 0.004, -0.02)
    mid_y = 0.5 * end_y
    spine = np.array([start, (chest.midline_at(mid_y) + shift, mid_y), (chest.carina[0] + shift, end_y)])
    wide = draw_curve(field.shape, spine, 0.022 * scale)
    stripe = draw_curve(field.shape, spine + np.array([0.007 * scale, 0]), 0.007)
    return np.asarray(
        field + np.float32(contrast) * (0.22 * np.minimum(wide, 1) + 0.40 * np.minimum(stripe, 1))
    )
