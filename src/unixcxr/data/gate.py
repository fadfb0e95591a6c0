"""The input gate: is this picture likely to be a frontal chest radiograph?

It gives advice with a reason; nothing in the engine refuses on its account.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from unixcxr.cleaning.dicom import DicomFacts

SMALLEST_PX = 48
LARGEST_ASPECT = 2.0
BLANK_SPREAD = 10
RADIOGRAPH_MODALITIES = ("CR", "DX", "RG", "RF", "OT", "SC", "")
LATERAL_VIEWS = ("LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT")


@dataclass(frozen=True)
class GateResult:
    """Whether a picture looks like a frontal chest radiograph, why (not), and the numbers behind it."""

    accepted: bool
    reason: str
    scores: dict[str, float] = field(default_factory=dict)


def check_image(
    image: UInt8[np.ndarray, "H W"], facts: DicomFacts | None = None, is_colour: bool = False
) -> GateResult:
    """Say whether a picture is likely to be a frontal chest radiograph, with the reason in plain words."""
    height, width = image.shape
    low, high = np.percentile(image, [2, 98])
    scores = {"short_side_px": float(min(height, width)), "spread": float(high - low)}
    reason = _facts_reason(facts)
    if not reason and min(height, width) < SMALLEST_PX:
        reason = f"too small: {width} x {height} pixels; expected at least {SMALLEST_PX} a side"
    if not reason and max(height, width) > LARGEST_ASPECT * min(height, width):
        reason = f"its shape, {width} x {height} pixels, is too long for a frontal chest"
    if not reason and high - low < BLANK_SPREAD:
        reason = "blank: nearly every pixel has the same brightness"
    if not reason and is_colour:
        reason = "a colour picture; a radiograph is grey"
    return GateResult(not reason, reason, scores)


def _facts_reason(facts: DicomFacts | None) -> str:
    """Return what the DICOM header says against a frontal chest radiograph, or nothing."""
    if facts is None:
        return ""
    if facts.modality not in RADIOGRAPH_MODALITIES:
        return f"the file says modality {facts.modality}; expected a radiograph (CR or DX)"
    if facts.is_chest is False:
        return f"the file says body part {facts.body_part}; expected the chest"
    if facts.view_position in LATERAL_VIEWS:
        return f"the file says view {facts.view_position}; expected a frontal view (PA or AP)"
    return ""
