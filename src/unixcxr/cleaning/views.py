"""Which way the rays went: tell frontal views from the others by what the metadata say."""

from __future__ import annotations

import re
from typing import NamedTuple


class View(NamedTuple):
    """A view by name ("PA", "AP", "frontal", "lateral" ...), whether it is frontal, and what says so.

    `is_frontal` is None when nothing tells or what tells disagrees.
    """

    name: str | None
    is_frontal: bool | None
    reason: str


_POSITIONS = {
    "PA": "PA",
    "AP": "AP",
    "POSTEROANTERIOR": "PA",
    "ANTEROPOSTERIOR": "AP",
    "POSTERO-ANTERIOR": "PA",
    "ANTERO-POSTERIOR": "AP",
    "AP SUPINE": "AP",
    "AP ERECT": "AP",
    "AP PORTABLE": "AP",
    "AP_HORIZONTAL": "AP",
    "FRONTAL": "frontal",
    "L": "lateral",
    "LL": "lateral",
    "RL": "lateral",
    "LAT": "lateral",
    "LLAT": "lateral",
    "RLAT": "lateral",
    "LATERAL": "lateral",
    "LEFT LATERAL": "lateral",
    "RIGHT LATERAL": "lateral",
    "XTABLE LATERAL": "lateral",
    "LAO": "oblique",
    "RAO": "oblique",
    "LPO": "oblique",
    "RPO": "oblique",
    "AP AXIAL": "lordotic",
    "AP_AXIAL": "lordotic",
    "SWIMMERS": "swimmers",
    "LLD": "decubitus",
    "RLD": "decubitus",
    "PA LLD": "decubitus",
    "PA RLD": "decubitus",
    "AP LLD": "decubitus",
    "AP RLD": "decubitus",
    "COSTAL": "ribs",
}
"""ViewPosition as DICOM defines it (PS3.3 C.8.7.1), and the further values in MIMIC-CXR and PadChest."""

_CODES = {
    "R-10214": "PA",
    "272479007": "PA",
    "R-10206": "AP",
    "399348003": "AP",
    "399033003": "frontal",
    "R-10232": "lateral",
    "399198007": "lateral",
    "R-10236": "lateral",
    "399173006": "lateral",
    "399067008": "lateral",
}
"""View codes of DICOM context group 4010, by SNOMED RT and SNOMED CT value."""

_WORDS = (
    ("oblique", re.compile(r"\bobl(?:ique)?\b|\b(?:LAO|RAO|LPO|RPO)\b", re.I)),
    ("decubitus", re.compile(r"\bdecub\w*|\b[LR]LD\b", re.I)),
    ("lordotic", re.compile(r"\blordotic|\baxial\b", re.I)),
    ("ribs", re.compile(r"\bribs?\b", re.I)),
    ("PA", re.compile(r"\bPA\b|\bpostero-?\s?anterior\b|\bp\.a\.", re.I)),
    ("AP", re.compile(r"\bAP\b|\bantero-?\s?posterior\b|\ba\.p\.|\bportable\b|\bbedside\b", re.I)),
    ("lateral", re.compile(r"\blat(?:eral)?\b|\bLL\b|\bsagittal\b", re.I)),
    ("frontal", re.compile(r"\bfrontal\b", re.I)),
)

FRONTAL = frozenset({"PA", "AP", "frontal"})


def choose_view(
    view_position: str = "", view_code: str = "", series_description: str = "", procedure: str = ""
) -> View:
    """Decide the view by ViewPosition, then ViewCodeSequence (meaning or code value), then SeriesDescription.

    A description that names two views ("PA and lateral") speaks of the study and tells nothing about one image;
    `procedure` (PerformedProcedureStepDescription) is asked last. ViewPosition and ViewCodeSequence that
    contradict each other leave the view open.
    """
    by_position = _by_position(view_position)
    by_code = _CODES.get(view_code.strip()) or _by_words(view_code)
    if by_position and by_code and (by_position in FRONTAL) != (by_code in FRONTAL):
        return View(None, None, f"ViewPosition says {by_position}, ViewCodeSequence says {by_code}")
    for name, origin in (
        (by_position, "ViewPosition"),
        (by_code, "ViewCodeSequence"),
        (_by_words(series_description), "SeriesDescription"),
        (_by_words(procedure), "procedure"),
    ):
        if name:
            return View(name, name in FRONTAL, f"{name} by {origin}")
    return View(None, None, "no view in the metadata")


def _by_position(text: str) -> str | None:
    text = " ".join(text.upper().split())
    return _POSITIONS.get(text) or _by_words(text)


def _by_words(text: str) -> str | None:
    """Return the one view that a description names; None when it names none, or a frontal and a lateral one."""
    found = [name for name, pattern in _WORDS if pattern.search(text)]
    if "lateral" in found and FRONTAL & set(found):
        return None
    return found[0] if found else None
