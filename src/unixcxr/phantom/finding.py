"""What a phantom can show: one finding with side, zone and size, and the prior from which they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unixcxr.errors import ConfigError

Kind = Literal[
    "cardiomegaly",
    "effusion",
    "pneumothorax",
    "consolidation",
    "edema",
    "atelectasis",
    "nodule",
    "pacemaker",
    "central_line",
    "endotracheal_tube",
]
Side = Literal["left", "right", "bilateral"]
Zone = Literal["upper", "mid", "lower"]
Size = Literal["small", "moderate", "large"]

SIDES: dict[str, tuple[str | None, ...]] = {
    "cardiomegaly": (None,),
    "effusion": ("left", "right", "bilateral"),
    "pneumothorax": ("left", "right"),
    "consolidation": ("left", "right"),
    "edema": (None,),
    "atelectasis": ("left", "right", "bilateral"),
    "nodule": ("left", "right"),
    "pacemaker": ("left", "right"),
    "central_line": ("left", "right"),
    "endotracheal_tube": (None,),
}
"""The patient's sides that each kind may have; None where a side means nothing."""

SIZES: dict[str, tuple[str | None, ...]] = {
    "cardiomegaly": ("small", "moderate", "large"),
    "effusion": ("small", "moderate", "large"),
    "pneumothorax": ("small", "large"),
    "consolidation": (None,),
    "edema": ("small", "moderate", "large"),
    "atelectasis": (None,),
    "nodule": ("small", "large"),
    "pacemaker": (None,),
    "central_line": (None,),
    "endotracheal_tube": (None,),
}
"""The sizes of each kind; for the heart and for edema they are degrees, a large nodule is a mass."""

ZONED = ("consolidation", "nodule")
"""The kinds that lie in an upper, mid or lower zone."""

DEVICES = ("pacemaker", "central_line", "endotracheal_tube")


@dataclass(frozen=True)
class PhantomFinding:
    """One finding; `side` is the patient's side, so the patient's left lies on the right of the picture.

    Raises ConfigError when side, zone or size is missing, unknown or means nothing for this kind.
    """

    kind: Kind
    side: Side | None = None
    zone: Zone | None = None
    size: Size | None = None

    def __post_init__(self) -> None:
        if self.kind not in SIDES:
            raise ConfigError(f"finding kind {self.kind!r} is unknown; expected one of {', '.join(SIDES)}")
        zones = ("upper", "mid", "lower") if self.kind in ZONED else (None,)
        for name, value, allowed in (
            ("side", self.side, SIDES[self.kind]),
            ("zone", self.zone, zones),
            ("size", self.size, SIZES[self.kind]),
        ):
            if value not in allowed:
                choices = ", ".join(str(choice) for choice in allowed)
                raise ConfigError(f"{self.kind} has {name} {value!r}; expected one of: {choices}")

    @property
    def sides(self) -> tuple[str, ...]:
        """Return the single sides that this finding touches (both for a bilateral one)."""
        return ("right", "left") if self.side == "bilateral" else (self.side,) if self.side else ()


def check_findings(findings: Sequence[PhantomFinding]) -> tuple[PhantomFinding, ...]:
    """Return the findings as a tuple; raise ConfigError where two of them cannot be shown together."""
    chosen = tuple(findings)
    for kind in SIDES:
        same = [finding for finding in chosen if finding.kind == kind]
        places = [(side, f.zone) for f in same for side in (f.sides or (None,))]
        if len(places) != len(set(places)) or (len(same) > 1 and kind in DEVICES):
            raise ConfigError(f"{kind} is given more than once at one place; give each finding once")
    flooded = {side for f in chosen if f.kind == "effusion" and f.size == "large" for side in f.sides}
    for finding in chosen:
        low = finding.kind == "atelectasis" or finding.zone == "lower"
        if low and flooded & set(finding.sides):
            raise ConfigError(f"a large effusion hides {finding.kind} at the same base; drop one of them")
    return chosen


_WEIGHTS = {
    "cardiomegaly": 1.6,
    "effusion": 2.2,
    "pneumothorax": 1.7,
    "consolidation": 2.2,
    "edema": 1.2,
    "atelectasis": 1.2,
    "nodule": 1.6,
    "pacemaker": 0.9,
    "central_line": 1.2,
    "endotracheal_tube": 0.7,
}
_NORMAL_SHARE = 0.27


def draw_findings(rng: np.random.Generator) -> tuple[PhantomFinding, ...]:
    """Draw 0 to 3 findings that may stand together; 27% of phantoms are normal, no kind is rare."""
    if rng.random() < _NORMAL_SHARE:
        return ()
    count = int(rng.choice([1, 2, 3], p=[0.5, 0.34, 0.16]))
    kinds = list(_WEIGHTS)
    chance = np.array([_WEIGHTS[kind] for kind in kinds])
    chosen: tuple[PhantomFinding, ...] = ()
    while len(chosen) < count:
        kind = kinds[int(rng.choice(len(kinds), p=chance / chance.sum()))]
        candidate = _draw_one(kind, rng)
        if _may_join(candidate, chosen):
            chosen = (*chosen, candidate)
    return chosen


def _draw_one(kind: str, rng: np.random.Generator) -> PhantomFinding:
    def pick(options: tuple[str | None, ...]) -> str | None:
        return options[int(rng.integers(len(options)))]

    side = pick(SIDES[kind])
    if kind == "pacemaker":
        side = "left" if rng.random() < 0.75 else "right"
    if kind == "central_line":
        side = "right" if rng.random() < 0.65 else "left"
    zone = pick(("upper", "mid", "lower")) if kind in ZONED else None
    return PhantomFinding(kind, side, zone, pick(SIZES[kind]))  # type: ignore[arg-type]


def _may_join(candidate: PhantomFinding, chosen: tuple[PhantomFinding, ...]) -> bool:
    """Say whether a random finding stays visible and plausible beside the others."""
    if any(candidate.kind == other.kind for other in chosen):
        return False
    pair = (candidate, *chosen)
    air = {side for f in pair if f.kind == "pneumothorax" for side in f.sides}
    for finding in pair:
        crowded = finding.kind in ("effusion", "consolidation", "nodule", "atelectasis")
        if air and (finding.kind == "edema" or (crowded and air & set(finding.sides))):
            return False
    fluid = {side for f in pair if f.kind == "effusion" and f.size != "small" for side in f.sides}
    hidden = [f for f in pair if f.kind == "atelectasis" or f.zone == "lower"]
    solid = {side for f in pair if f.kind == "consolidation" for side in f.sides}
    lump = {side for f in pair if f.kind == "nodule" for side in f.sides}
    return not any(fluid & set(f.sides) for f in hidden) and not solid & lump
