"""Is this picture fit to learn from? Blank, tiny, saturated, drawn out, inverted, not frontal, text burned in.

Every check is a number against a threshold, and the numbers are kept. Thresholds were set on real radiographs by
`benchmarks/cleaning_thresholds.py`; docs/data.md has the error rates. Whether a picture that a user brings is worth
reading is another question, and `data.gate` answers it.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources

import numpy as np
from PIL import Image

from unixcxr.config.cleaning import QualityConfig

TEMPLATE_PX = 16
STROKE_PX = 512
STROKE_LEVEL = 225
STROKE_CONTRAST = 90
STROKE_WIDTH_PX = 4


@dataclass(frozen=True)
class Quality:
    """What was measured on one picture.

    `likeness` is the correlation (-1..1) of its coarse shape with the mean frontal chest: near 1 for a frontal view,
    negative when it is inverted. `symmetry` is its correlation with its own mirror image. `strokes` is the share of
    pixels, in per mille, that belong to thin bright lines as letters have.
    """

    height_px: int
    width_px: int
    spread: float
    white: float
    black: float
    likeness: float
    symmetry: float
    strokes: float


@dataclass(frozen=True)
class Judgement:
    """The first reason to drop a picture ("" when there is none), and what else is worth a note."""

    reason: str = ""
    detail: str = ""
    notes: tuple[str, ...] = ()
    is_inverted: bool = False


def measure(image: np.ndarray) -> Quality:
    """Measure a picture, uint8 (H, W)."""
    height, width = image.shape
    small = _resized(image, STROKE_PX if max(height, width) > STROKE_PX else max(height, width))
    low, high = np.percentile(small, (1, 99))
    coarse = _coarse(image)
    return Quality(
        height_px=height,
        width_px=width,
        spread=float(high - low),
        white=float((small >= 250).mean()),
        black=float((small <= 2).mean()),
        likeness=_correlation(coarse, load_template()["mean"]),
        symmetry=_correlation(coarse, coarse[:, ::-1]),
        strokes=_strokes(small),
    )


def judge(quality: Quality, settings: QualityConfig, photometric: str = "") -> Judgement:
    """Hold what was measured against the thresholds; `photometric` is the DICOM tag, for the reason's sake."""
    sides = f"{quality.width_px} x {quality.height_px} pixels"
    aspect = max(quality.height_px, quality.width_px) / max(1, min(quality.height_px, quality.width_px))
    limits = load_template()
    for is_bad, reason, detail in (
        (min(quality.height_px, quality.width_px) < settings.min_side_px, "tiny", sides),
        (aspect > settings.max_aspect, "extreme aspect", sides),
        (quality.spread < settings.min_spread, "blank", f"grey levels span {quality.spread:.0f}"),
        (quality.white > settings.max_white, "saturated", f"{quality.white:.0%} white"),
        (quality.black > settings.max_black, "saturated", f"{quality.black:.0%} black"),
    ):
        if is_bad:
            return Judgement(reason, detail)

    notes = []
    if quality.likeness < limits["inverted_below"]:
        against = f", although the header says {photometric}" if photometric.startswith("MONOCHROME") else ""
        detail = f"likeness {quality.likeness:.2f}{against}"
        if settings.inverted == "drop":
            return Judgement("inverted", detail)
        if settings.inverted == "mend":
            return Judgement(notes=("inverted, turned back",), is_inverted=True)
        if settings.inverted == "mark":
            notes.append("looks inverted")
    elif quality.likeness < limits["frontal_above"]:
        detail = f"likeness {quality.likeness:.2f}, symmetry {quality.symmetry:.2f}"
        if settings.not_frontal == "drop":
            return Judgement("does not look frontal", detail)
        if settings.not_frontal == "mark":
            notes.append("does not look frontal")
    if quality.strokes > limits["strokes_above"] and settings.burned_in_text != "off":
        if settings.burned_in_text == "drop":
            return Judgement("burned-in text suspected", f"{quality.strokes:.1f} per mille strokes")
        notes.append("burned-in text suspected")
    return Judgement(notes=tuple(notes))


@functools.cache
def load_template() -> dict[str, np.ndarray]:
    """Return the mean frontal chest (16 x 16, zero mean, unit norm) and the thresholds set with it."""
    values = tomllib.loads(
        resources.files("unixcxr.cleaning").joinpath("template.toml").read_text(encoding="utf-8")
    )
    return {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}


def coarse_shape(image: np.ndarray) -> np.ndarray:
    """Return a picture as 16 x 16 numbers with zero mean and unit norm; zeros when it is flat."""
    return _coarse(image)


def _coarse(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image).resize((TEMPLATE_PX, TEMPLATE_PX), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.float64)
    # ranks rather than levels: exposure and windowing do not change the shape
    ranks = (
        values.ravel().argsort(kind="stable").argsort(kind="stable").reshape(values.shape).astype(np.float64)
    )
    if values.max() == values.min():
        return np.zeros_like(values)
    ranks -= ranks.mean()
    return ranks / np.linalg.norm(ranks)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    norm = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / norm) if norm else 0.0


def _resized(image: np.ndarray, longer_px: int) -> np.ndarray:
    height, width = image.shape
    factor = longer_px / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) if factor < 1 else image


def _strokes(image: np.ndarray) -> float:
    """Return how many pixels, per mille, are bright with darkness on both sides within a stroke's width."""
    values = image.astype(np.int16)
    found = np.zeros(image.shape, dtype=bool)
    for axis in (0, 1):
        step = STROKE_WIDTH_PX
        if image.shape[axis] <= 2 * step:
            continue
        centre = np.take(values, range(step, image.shape[axis] - step), axis=axis)
        before = np.take(values, range(image.shape[axis] - 2 * step), axis=axis)
        after = np.take(values, range(2 * step, image.shape[axis]), axis=axis)
        thin = (
            (centre >= STROKE_LEVEL)
            & (centre - before > STROKE_CONTRAST)
            & (centre - after > STROKE_CONTRAST)
        )
        inner = found[step:-step] if axis == 0 else found[:, step:-step]
        inner |= thin
    return 1000 * float(found.mean())
