"""What a report says of each label, in one line for people."""

from __future__ import annotations

from collections.abc import Iterable

_ORDER = ("positive", "uncertain", "negative")


def one_per_label(findings: Iterable[tuple[str, str, float | None]]) -> list[tuple[str, str, float | None]]:
    """Reduce (label, state, confidence) to one row a label: what is there first, then the surest sentence."""
    ranked = sorted(findings, key=lambda finding: (_ORDER.index(finding[1]), -(finding[2] or 0.0)))
    first: dict[str, tuple[str, str, float | None]] = {}
    for finding in ranked:
        first.setdefault(finding[0], finding)
    return list(first.values())


def in_words(label: str, state: str, confidence: float | None) -> str:
    """Return "Edema 0.80", "possible Edema" or "no Edema", with the confidence where there is one."""
    prefix = {"positive": "", "uncertain": "possible ", "negative": "no "}[state]
    return f"{prefix}{label}" + ("" if confidence is None else f" {confidence:.2f}")


def line(findings: Iterable[tuple[str, str, float | None]]) -> str:
    """Return all labels of a report as one bracketed line."""
    return (
        f"[{'; '.join(in_words(*finding) for finding in one_per_label(findings)) or 'no labelled finding'}]"
    )
