"""The numbers that make one body and its place on the film: drawn once per seed, rendered at any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unixcxr.phantom.chest_grid import AXIS, Table


@dataclass(frozen=True)
class Body:
    """One body: lengths in chest coordinates (`chest_grid`), `centre` and `scale` in picture fractions."""

    centre: tuple[float, float]
    scale: tuple[float, float]
    tilt: float
    heart_right: float
    heart_left: float
    heart_top: float
    heart_turn: float
    knob: float
    mediastinum: float
    dome_left: float
    dome_bulge: tuple[float, float]
    costophrenic: tuple[float, float]
    rib_spacing: float
    rib_start: float
    rib_slope: tuple[float, float]
    rib_strength: float
    clavicles: tuple[tuple[float, float], tuple[float, float]]
    scapula: float
    shoulder: float
    torso: float
    breast: float
    breast_place: tuple[float, float]
    bubbles: tuple[tuple[float, float, float, float], ...]
    lung_air: float
    sides_tone: float
    has_arms: bool
    spine_detail: float
    vessel_strength: float
    texture_seed: int


def draw_body(rng: np.random.Generator, view: str) -> Body:
    """Draw one body; on AP films the heart shadow is wider, the domes and the clavicles stand higher."""
    ap = view == "AP"

    def near(mean: float, spread: float) -> float:
        return float(mean + spread * np.clip(rng.standard_normal(), -2, 2))

    width = near(0.318, 0.026)
    clavicle = near(0.13 if not ap else 0.05, 0.03)
    lift = near(0.15, 0.04)
    stomach = (near(0.46, 0.07), near(0.12, 0.015), near(0.21, 0.05), near(0.20, 0.07))
    bowel = (near(0.75, 0.12), near(0.24, 0.05), near(0.10, 0.03), near(0.12, 0.05))
    return Body(
        centre=(near(0.5, 0.016), near(0.165, 0.027)),
        scale=(width, width * near(1.64 if not ap else 1.54, 0.09)),
        tilt=float(np.deg2rad(near(0, 1.4))),
        heart_right=near(0.265, 0.025),
        heart_left=near(0.60 if not ap else 0.64, 0.04),
        heart_top=near(0.50, 0.02),
        heart_turn=near(0.19, 0.03),
        knob=near(0.262, 0.02),
        mediastinum=near(0.150, 0.012),
        dome_left=near(1.055, 0.014),
        dome_bulge=(near(0.17, 0.03), near(0.17, 0.03)),
        costophrenic=(near(0.25, 0.03), near(0.25, 0.03)),
        rib_spacing=near(0.113, 0.008),
        rib_start=near(0.03, 0.025),
        rib_slope=(near(0.13, 0.05), near(0.80, 0.10)),
        rib_strength=near(0.105, 0.02),
        clavicles=((clavicle, lift), (clavicle + near(0, 0.015), lift + near(0, 0.02))),
        scapula=near(0.03, 0.07),
        shoulder=near(0.05, 0.035),
        torso=near(1.24, 0.06),
        breast=float(rng.uniform(0.03, 0.11)) if rng.random() < 0.55 else 0.0,
        breast_place=(near(0.62, 0.05), near(0.80, 0.06)),
        bubbles=(stomach, bowel)[: int(rng.integers(0, 3))],
        lung_air=near(0.41, 0.035),
        sides_tone=near(0.0, 0.02),
        has_arms=bool(rng.random() < 0.6),
        spine_detail=near(1.0, 0.3),
        vessel_strength=near(0.125, 0.02),
        texture_seed=int(rng.integers(2**31)),
    )


def wall_table() -> Table:
    """Return the lateral lung wall |X| at each Y: a narrow apex that widens to 1 and stays."""
    t = np.clip(1 - AXIS / 0.92, 0, 1.0)
    table = 0.38 + 0.62 * np.sqrt(np.clip(1 - t**2.5, 0, 1))
    return np.asarray(np.where(AXIS < 0, 0.38, table) + 0.05 * np.clip(AXIS - 0.9, 0, 1))
