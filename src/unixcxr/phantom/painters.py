"""Paint findings onto a chest picture, drawn or real, from the map of where things lie.

Every painter takes a density field (bright bone on dark air), works in units of the contrast between that
picture's own lung and soft tissue, and returns a new field. Texture is drawn on coarse grids: the same at any
size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unixcxr.phantom.chest_map import ChestMap
from unixcxr.phantom.devices import paint_central_line, paint_endotracheal_tube, paint_pacemaker
from unixcxr.phantom.finding import PhantomFinding, check_findings
from unixcxr.phantom.raster import Field, blur, draw_curve, pixel_grid, smooth_noise, smooth_series, soft_step


@dataclass(frozen=True)
class Canvas:
    """What a painter needs: the picture's map, its grey levels and the finding's own random numbers.

    `detail` is what ribs and texture add inside the lungs of the unpainted picture; it shines through
    fillings.
    """

    chest: ChestMap
    lung: float
    solid: float
    detail: Field
    rng: np.random.Generator

    @property
    def contrast(self) -> float:
        """Return how much brighter soft tissue is than lung."""
        return max(self.solid - self.lung, 0.05)


Painter = Callable[[Field, Canvas, PhantomFinding], Field]


def paint_findings(
    image: NDArray[np.uint8], anatomy: ChestMap, findings: Sequence[PhantomFinding], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Paint findings onto a uint8 picture (H, W), drawn or real, whose parts `anatomy` locates.

    Raises ConfigError where the findings cannot be shown together.
    """
    field = paint_density(image.astype(np.float32) / np.float32(255), anatomy, findings, rng)
    return np.clip(field * 255 + 0.5, 0, 255).astype(np.uint8)


def paint_density(
    field: Field, anatomy: ChestMap, findings: Sequence[PhantomFinding], rng: np.random.Generator
) -> Field:
    """Paint findings onto a density field, inner ones first and devices last."""
    chosen = check_findings(findings)
    lung, solid = float(np.median(field[anatomy.lungs > 0.5])), _heart_level(field, anatomy)
    core = np.clip(4 * blur(anatomy.lungs, 0.014) - 3, 0, 1)
    detail = (field - blur(field, 0.016)) * core if chosen else field
    for kind, painter in _PAINTERS.items():
        for finding in chosen:
            if finding.kind == kind:
                own = np.random.default_rng(rng.integers(2**63))
                field = painter(field, Canvas(anatomy, lung, solid, detail, own), finding)
    return field


def _heart_level(field: Field, anatomy: ChestMap) -> float:
    """Return the grey level of the heart beside the spine."""
    x, y = pixel_grid((field.shape[0], field.shape[1]))
    x0, y0, x1, y1 = anatomy.heart
    box = (x > x0) & (x < x1) & (y > 0.6 * y0 + 0.4 * y1) & (y < y1)
    beside = box & (np.abs(x - anatomy.midline_at(y1)) > 0.05)
    return float(np.median(field[beside if beside.sum() > 8 else box]))


def _fill(field: Field, canvas: Canvas, level: float | Field, share: Field) -> Field:
    """Move the field toward a level, never downwards; ribs and texture stay faintly visible."""
    through = np.asarray(level, np.float32) + np.float32(0.45) * canvas.detail
    return field + share * np.maximum(through - field, 0)


def _paint_cardiomegaly(field: Field, canvas: Canvas, finding: PhantomFinding) -> Field:
    """Widen the heart shadow to a cardiothoracic ratio of about 0.56, 0.62 or 0.69."""
    chest = canvas.chest
    x, y = pixel_grid(field.shape)
    x0, y0, x1, y1 = chest.heart
    middle = chest.midline_at(y1)
    outer = {
        side: float(f.outer[int(min(y1, f.bottom) * len(f.outer)) - 2]) for side, f in chest.frames.items()
    }
    ratio = {"small": 0.565, "moderate": 0.625, "large": 0.69}[finding.size or "moderate"]
    width = (ratio + canvas.rng.uniform(-0.012, 0.012)) * (outer["left"] - outer["right"])
    share_left = float(np.clip((x1 - middle) / max(x1 - x0, 0.01), 0.62, 0.74))
    left, right = middle + share_left * width, middle - (1 - share_left) * width
    top = y0 - 0.02
    low = y1 + 0.02
    u = (x - 0.5 * (left + right)) / (0.5 * (left - right))
    v = (y - (top + 0.66 * (low - top)) - 0.10 * (low - top) * u) / np.float32(0.62 * (low - top))
    inside = soft_step((1 - np.sqrt(u * u + v * v)).astype(np.float32), 0.09)
    above = soft_step((_floor(chest) - y).astype(np.float32), 0.02)
    level = canvas.solid + canvas.contrast * (0.22 * np.sqrt(np.clip(1 - u * u - v * v, 0, 1)) - 0.12)
    return _fill(field, canvas, level.astype(np.float32), inside * above)


def _floor(chest: ChestMap) -> Field:
    """Return the diaphragm's height in each column (1, W), carried level across heart and spine."""
    columns = np.arange(chest.right.shape[1])
    known, heights = [], []
    for side in ("right", "left"):
        frame = chest.frames[side]
        row = int((frame.top + 0.75 * (frame.bottom - frame.top)) * len(frame.outer))
        middle = 0.5 * (frame.outer[row] + frame.inner[row]) * len(columns)
        lateral = ~np.isnan(frame.floor) & ((columns - middle) * frame.outward > 0)
        known.append(columns[lateral])
        heights.append(frame.floor[lateral])
    return np.interp(columns, np.concatenate(known), np.concatenate(heights)).astype(np.float32)[None, :]


def _paint_effusion(field: Field, canvas: Canvas, finding: PhantomFinding) -> Field:
    """Fill the base up to a meniscus that climbs along the lateral wall and blunts the angle."""
    for side in finding.sides:
        frame = canvas.chest.frames[side]
        tall = frame.bottom - frame.top
        rise = {"small": 0.19, "moderate": 0.38, "large": 0.64}[finding.size or "moderate"]
        rise *= canvas.rng.uniform(0.9, 1.1)
        depth = np.clip(frame.depth, -0.1, 1.1)
        climb = rise + 0.20 * np.exp(-np.clip(depth, 0, None) / 0.16) - 0.05 * np.clip(depth, 0, 1)
        climb += 0.01 * smooth_series(canvas.rng, field.shape[1], 6)
        _, y = pixel_grid(field.shape)
        under = (y - (frame.bottom - climb * tall)).astype(np.float32)
        share = soft_step(under, 0.035) * frame.basal_cover
        haze = soft_step(under + np.float32(0.06), 0.14) * frame.cover
        level = canvas.solid + 0.20 * canvas.contrast * np.clip(under / tall, 0, 0.6)
        field = _fill(field, canvas, canvas.solid, haze * np.float32(0.18))
        field = _fill(field, canvas, level.astype(np.float32), share * np.float32(0.96))
    return field


def _paint_pneumothorax(field: Field, canvas: Canvas, finding: PhantomFinding) -> Field:
    """Pull the lung off the wall: a pleural line, and beyond it darkness without vessels."""
    (side,) = finding.sides
    frame = canvas.chest.frames[side]
    gap, cap = (0.26, 0.18) if finding.size == "small" else (0.54, 0.34)
    gap, cap = gap * canvas.rng.uniform(0.9, 1.1), cap * canvas.rng.uniform(0.9, 1.1)
    descent = np.clip(frame.descent, -0.2, 1.2)
    edge = gap * (1 - 0.62 * descent**2.0) + 0.02 * smooth_series(canvas.rng, field.shape[0], 6)[:, None]
    u = (frame.depth - edge) / 0.30
    v = (descent - cap) / 0.30
    inside = np.minimum(u, 0.8 * v + 0.35 * np.clip(u, 0, 1)).astype(np.float32) * np.float32(0.30)
    mask = frame.mask
    gas = soft_step(-inside, 0.03) * mask
    if canvas.chest.vessels is not None:
        field = field - canvas.chest.vessels * gas
    field = field + gas * (np.float32(0.5) * (blur(field, 0.02) - field))
    field = field - gas * np.float32(0.24 * canvas.contrast)
    squeezed = soft_step(inside, 0.05) * mask
    field = field + squeezed * np.float32((0.10 if finding.size == "small" else 0.24) * canvas.contrast)
    line = np.exp(-0.5 * (inside / np.float32(0.016)) ** 2) * mask
    return field + line * np.float32(0.38 * canvas.contrast)


_ZONE_DESCENT = {"upper": 0.24, "mid": 0.50, "lower": 0.74}


def _paint_consolidation(field: Field, canvas: Canvas, finding: PhantomFinding) -> Field:
    """Fill a zone with fluffy density that spares a few branching air tubes."""
    (side,) = finding.sides
    frame = canvas.chest.frames[side]
    rng = canvas.rng
    x, y = pixel_grid(field.shape)
    cx, cy = frame.place(
        rng.uniform(0.40, 0.62), _ZONE_DESCENT[finding.zone or "mid"] + rng.uniform(-0.05, 0.05)
    )
    wide = rng.uniform(0.36, 0.48) * float(np.median(np.abs(frame.outer - frame.inner)))
    tall = rng.uniform(0.12, 0.16) * (frame.bottom - frame.top)
    r2 = ((x - cx) / (1.3 * wide)) ** 2 + ((y - cy) / (1.3 * tall)) ** 2
    fluff = smooth_noise(rng, field.shape, 12) + 0.7 * smooth_noise(rng, field.shape, 30)
    share = (
        soft_step((0.9 - r2 + 0.42 * fluff).astype(np.float32), 1.15) * soft_step(2.2 - r2, 0.8) * frame.mask
    )
    tubes = np.zeros_like(field)
    hilum_x, hilum_y = frame.place(1.0, 0.45)
    for _ in range(3):
        tip = np.array([cx + rng.normal(0, 0.6 * wide), cy + rng.normal(0, 0.6 * tall)])
        root = np.array([cx + 0.45 * (hilum_x - cx), cy + 0.45 * (hilum_y - cy)])
        bend = 0.5 * (tip + root) + rng.normal(0, 0.012, 2)
        tubes = np.maximum(tubes, draw_curve(field.shape, np.stack([root, bend, tip]), 0.010))
    share *= np.float32(0.92) - np.float32(0.22) * np.clip(tubes, 0, 1)
    return _fill(field, canvas, canvas.solid - 0.02 * canvas.contrast, share)


def _paint_edema(field: Field, canvas: Canvas, finding: PhantomFinding) -> Field:
    """Lay perihilar haze over both lungs, with swollen vessels and short septal lines at the bases."""
    strength = {"small": 0.46, "moderate": 0.68, "large": 0.86}[finding.size or "moderate"]
    rng = canvas.rng
    shape = field.shape
    fluff = smooth_noise(rng, shape, 18) + 0.7 * smooth_noise(rng, shape, 36)
    if canvas.chest.vessels is not None:
        field = field + blur(canvas.chest.vessels, 0.004) * np.float32(0.6 + strength)
    for frame in canvas.chest.frames.values():
        wing = np.exp(-(((1.0 - frame.depth) / 0.72) ** 2) - ((frame.descent - 0.56) / 0.40) ** 2)
        share = np.clip(strength * wing * (1 + 0.36 * fluff), 0, 0.85) * frame.mask
        field = _fill(field, canvas, canvas.solid, share.astype(np.float32))
        lines = np.zeros(shape, np.float32)
        for _ in range(7):
            start = np.array(frame.place(rng.uniform(0.01, 0.05), rng.uniform(0.62, 0.88)))
            end = start + np.array([-frame.outward * rng.uniform(0.025, 0.04), rng.normal(0, 0.003)])
            lines = np.maximum(lines, draw_curve(shape, np.stack([start, end]), 0.005))
        field = field + lines * frame.mask * np.float32(0.5 * strength * canvas.contrast)
    return field


def _paint_atelectasis(field: Field, canvas: Canvas, finding: PhantomFinding) -> Field:
    """Draw one or two plate-like bands across the base."""
    for side in finding.sides:
        frame = canvas.chest.frames[side]
        slope = canvas.rng.uniform(-0.05, 0.06)
        for index in range(int(canvas.rng.integers(1, 3))):
            descent = canvas.rng.uniform(0.64, 0.72) - 0.09 * index
            slope += canvas.rng.uniform(-0.015, 0.015)
            near, far = canvas.rng.uniform(0.03, 0.15), canvas.rng.uniform(0.90, 1.05)
            start, end = (
                np.array(frame.place(near, descent + slope)),
                np.array(frame.place(far, descent - slope)),
            )
            bend = 0.5 * (start + end) + [0, canvas.rng.uniform(-0.012, 0.012)]
            band = draw_curve(field.shape, np.stack([start, bend, end]), canvas.rng.uniform(0.016, 0.022))
            share = np.clip(band, 0, 1) * frame.mask * np.float32(0.72)
            field = _fill(field, canvas, canvas.solid, share)
        base = soft_step((frame.descent - np.float32(0.80)) * np.ones_like(field), 0.2) * frame.mask
        field = _fill(field, canvas, canvas.solid, base * np.float32(0.10))
    return field


def _paint_nodule(field: Field, canvas: Canvas, finding: PhantomFinding) -> Field:
    """Place a round nodule, or for size "large" a lobulated mass, in its zone."""
    (side,) = finding.sides
    frame = canvas.chest.frames[side]
    rng = canvas.rng
    x, y = pixel_grid(field.shape)
    small = finding.size == "small"
    radius = rng.uniform(0.022, 0.032) if small else rng.uniform(0.055, 0.075)
    depth = rng.uniform(0.35, 0.65)
    cx, cy = frame.place(depth, _ZONE_DESCENT[finding.zone or "mid"] + rng.uniform(-0.06, 0.06))
    wobble = (0.03 if small else 0.10) * smooth_noise(rng, field.shape, 12)
    r = np.hypot(x - cx, (y - cy) * rng.uniform(0.9, 1.1)) / radius
    share = soft_step((1 + wobble - r).astype(np.float32), 0.45 if small else 0.32) * frame.mask
    return _fill(field, canvas, canvas.solid - 0.12 * canvas.contrast, share * np.float32(0.80))


def _device(paint: Callable[[Field, ChestMap, str | None, float, np.random.Generator], Field]) -> Painter:
    def painter(field: Field, canvas: Canvas, finding: PhantomFinding) -> Field:
        return paint(field, canvas.chest, finding.side, canvas.contrast, canvas.rng)

    return painter


_PAINTERS: dict[str, Painter] = {
    "pneumothorax": _paint_pneumothorax,
    "edema": _paint_edema,
    "atelectasis": _paint_atelectasis,
    "nodule": _paint_nodule,
    "consolidation": _paint_consolidation,
    "cardiomegaly": _paint_cardiomegaly,
    "effusion": _paint_effusion,
    "central_line": _device(paint_central_line),
    "pacemaker": _device(paint_pacemaker),
    "endotracheal_tube": _device(paint_endotracheal_tube),
}
