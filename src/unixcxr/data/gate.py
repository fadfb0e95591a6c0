"""The input gate: is this picture likely to be a frontal chest radiograph?

It advises, with a reason; the engine itself never refuses a picture. Plain rules come first (header, size, shape,
spread, colour), then a linear model over features that a person can look at: brightness on a 16 x 16 grid, edge
directions in 8 x 8 cells, a histogram, symmetry. `benchmarks/gate_errors.py` sets the model, measures both kinds of
error on pictures that did not set it, and writes them to docs/input.md.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from importlib import resources

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from unixcxr.cleaning.dicom import DicomFacts

SMALLEST_PX = 48
LARGEST_ASPECT = 2.0
BLANK_SPREAD = 10
RADIOGRAPH_MODALITIES = ("CR", "DX", "RG", "RF", "OT", "SC", "")
LATERAL_VIEWS = ("LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT")

REASONS = {
    "frontal": "does not look like a frontal chest radiograph",
    "inverted": "looks inverted, bones dark on bright air; invert it first",
    "turned_left": "looks turned by a quarter to the left; turn it upright first",
    "turned_right": "looks turned by a quarter to the right; turn it upright first",
    "upside_down": "looks upside down; turn it upright first",
    "lateral": "looks like a chest from the side; expected a frontal view",
    "other_part": "looks like a radiograph of another part of the body",
    "slice": "looks like a slice of a CT or MR scan",
    "document": "looks like a page of text or a screenshot",
    "photograph": "looks like a photograph or a texture, not a radiograph",
}
"""What the model tells apart, and how a refusal says it; unsure ones say what the first says."""

SURE = 0.9

WORKING_PX = 256
FEATURE_PX = 64
GRID = 16
CELLS = 8
DIRECTIONS = 9
BINS = 16


@dataclass(frozen=True)
class GateResult:
    """Whether a picture looks like a frontal chest radiograph, why (not), and the numbers behind it.

    `scores` holds the measured values of the rules, the log odds of "frontal", and the probability of each kind.
    """

    accepted: bool
    reason: str
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GateModel:
    """The numbers that `benchmarks/gate_errors.py` sets: K kinds (as in `REASONS`), F features, P components.

    Features are standardised by `mean` and `scale`. Two more say how far a picture is from the frontals that set
    the gate: along the P main directions in which those differ, and outside of these.
    """

    mean: Float[np.ndarray, " F"]
    scale: Float[np.ndarray, " F"]
    centre: Float[np.ndarray, " F"]
    components: Float[np.ndarray, "P F"]
    spreads: Float[np.ndarray, " P"]
    distances: Float[np.ndarray, "2 2"]
    weights: Float[np.ndarray, "F+2 K"]
    bias: Float[np.ndarray, " K"]
    threshold: float

    def inputs(self, features: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N F+2"]:
        """Standardise features and append the two distances from the frontals."""
        standard = (features - self.mean) / self.scale
        off_centre = standard - self.centre
        along = off_centre @ self.components.T
        outside = np.maximum((off_centre**2).sum(1) - (along**2).sum(1), 0)
        raw = np.stack(
            [np.sqrt((along**2 / self.spreads**2).mean(1)), np.sqrt(outside / len(self.mean))], axis=1
        )
        distances = np.clip((raw - self.distances[0]) / self.distances[1], -4, 12)
        return np.concatenate([standard, distances], axis=1)

    def log_probabilities(self, features: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N K"]:
        """Return the log-probability of each kind."""
        scores = self.inputs(features) @ self.weights + self.bias
        scores = scores - scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def check_image(
    image: UInt8[np.ndarray, "H W"], facts: DicomFacts | None = None, is_colour: bool = False
) -> GateResult:
    """Say whether a picture is likely to be a frontal chest radiograph, with the reason in plain words.

    `facts` and `is_colour` are what `cleaning.dicom.read_source` found out besides the grey levels.
    """
    height, width = image.shape
    step = max(1, max(height, width) // WORKING_PX)
    low, high = np.percentile(image[::step, ::step], [2, 98])
    scores = {"short_side_px": float(min(height, width)), "spread": float(high - low)}
    reason = _header_reason(facts) or _rule_reason(width, height, high - low, is_colour)
    if reason:
        return GateResult(False, reason, scores)
    model = load_model()
    log_probability = model.log_probabilities(image_features(image)[None])[0]
    odds = log_odds(log_probability[None])[0]
    scores["frontal_log_odds"] = float(odds)
    scores |= {kind: float(np.exp(value)) for kind, value in zip(REASONS, log_probability, strict=True)}
    if odds >= model.threshold:
        return GateResult(True, "looks like a frontal chest radiograph", scores)
    kind = max(REASONS, key=scores.__getitem__)
    return GateResult(False, REASONS[kind if scores[kind] >= SURE else "frontal"], scores)


def log_odds(log_probabilities: Float[np.ndarray, "N K"]) -> Float[np.ndarray, " N"]:
    """Return log p / (1 - p) of the first kind, from the log-probabilities of all kinds."""
    others = np.logaddexp.reduce(log_probabilities[:, 1:], axis=1)
    return log_probabilities[:, 0] - others


def image_features(image: UInt8[np.ndarray, "H W"]) -> Float[np.ndarray, " F"]:
    """Describe a picture by F = 853 numbers, after cutting even borders and squashing it to a square."""
    small = trim_borders(_shrink(image))
    square = Image.fromarray(small).resize((FEATURE_PX, FEATURE_PX), Image.Resampling.BICUBIC)
    levels = np.asarray(square, dtype=np.float32)
    low, high = np.percentile(levels, [1, 99])
    levels = np.clip((levels - low) / max(high - low, 1.0), 0, 1)
    standard = (levels - levels.mean()) / (levels.std() + 1e-3)
    block = FEATURE_PX // GRID
    grid = standard.reshape(GRID, block, GRID, block).mean(axis=(1, 3))
    histogram = np.histogram(levels, BINS, (0, 1))[0] / levels.size
    fine, coarse = np.abs(np.diff(standard, axis=0)).mean(), np.abs(np.diff(grid, axis=0)).mean()
    overall = [
        (grid * grid[:, ::-1]).mean(),
        fine,
        coarse,
        fine / (coarse + 0.05),
        np.log(high - low + 1),
    ]
    return np.concatenate(
        [grid.ravel(), _edge_directions(standard).ravel(), histogram, overall], dtype=np.float32
    )


def trim_borders(image: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "h w"]:
    """Cut rows and columns at the edges that are nearly even: shutters, padding, film borders."""
    rows, columns = (np.ptp(np.percentile(image, [5, 95], axis=axis), axis=0) > 8 for axis in (1, 0))
    if rows.sum() < GRID or columns.sum() < GRID:
        return image
    (top, bottom), (left, right) = np.flatnonzero(rows)[[0, -1]], np.flatnonzero(columns)[[0, -1]]
    return image[top : bottom + 1, left : right + 1]


@functools.cache
def load_model() -> GateModel:
    """Load the numbers of the gate from the package."""
    with resources.files("unixcxr.data").joinpath("gate.npz").open("rb") as file, np.load(file) as stored:
        arrays = {name: stored[name].astype(np.float32) for name in stored.files}
    return GateModel(**{**arrays, "threshold": float(arrays["threshold"])})


def _shrink(image: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "h w"]:
    factor = WORKING_PX / max(image.shape)
    if factor >= 1:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _edge_directions(levels: Float[np.ndarray, "S S"]) -> Float[np.ndarray, "8 8 9"]:
    """Count edges by direction in each cell, relative to the edges around it (Dalal and Triggs 2005)."""
    down, across = np.gradient(levels)
    position = (np.arctan2(down, across) % np.pi) / np.pi * DIRECTIONS - 0.5
    lower = np.floor(position).astype(int)
    share = position - lower
    cell = np.arange(FEATURE_PX) // (FEATURE_PX // CELLS)
    index = (cell[:, None] * CELLS + cell[None]) * DIRECTIONS
    strength = np.hypot(down, across)
    counts = np.zeros(CELLS * CELLS * DIRECTIONS)
    for direction, part in ((lower % DIRECTIONS, 1 - share), ((lower + 1) % DIRECTIONS, share)):
        places = (index + direction).ravel()
        counts += np.bincount(places, (strength * part).ravel(), counts.size)
    cells = counts.reshape(CELLS, CELLS, DIRECTIONS)
    energy = np.pad((cells**2).sum(-1), 1, mode="edge")
    around = sum(energy[i : i + CELLS, j : j + CELLS] for i in range(3) for j in range(3))
    return cells / np.sqrt(around + 4.0)[..., None]


def _header_reason(facts: DicomFacts | None) -> str:
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


def _rule_reason(width: int, height: int, spread: float, is_colour: bool) -> str:
    """Return what size, shape, brightness or colour say against it, or nothing."""
    if min(height, width) < SMALLEST_PX:
        return f"too small: {width} x {height} pixels; expected at least {SMALLEST_PX} a side"
    if max(height, width) > LARGEST_ASPECT * min(height, width):
        return f"its shape, {width} x {height} pixels, is too long for a frontal chest"
    if spread < BLANK_SPREAD:
        return "blank: nearly every pixel has the same brightness"
    if is_colour:
        return "a colour picture; a radiograph is grey"
    return ""
