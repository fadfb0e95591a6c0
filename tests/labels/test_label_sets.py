"""The sentence sets: well formed and apart. The held-out one is scored by benchmarks/labels_quality.py, not here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unixcxr.labels import label_report
from unixcxr.records import LABELS

SETS = Path(__file__).parent.parent / "data"
FLOOR = 0.98
"""Share of tuning texts with every label right that the labeler must keep."""


def rows(name: str) -> list[dict[str, Any]]:
    """Read one set."""
    return [json.loads(line) for line in (SETS / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("name", "least"), [("labels_heldout.jsonl", 400), ("labels_tuning.jsonl", 200)])
def test_a_set_is_well_formed(name: str, least: int) -> None:
    found = rows(name)
    assert len({row["text"] for row in found}) == len(found) >= least
    for row in found:
        assert set(row["labels"]) <= set(LABELS)
        assert set(row["labels"].values()) <= {"positive", "negative", "uncertain"}
        affirmed = [
            k
            for k, v in row["labels"].items()
            if v != "negative" and k not in ("Support Devices", "No Finding")
        ]
        assert row["labels"].get("No Finding") in ((None,) if affirmed else (None, "positive"))


def test_the_sets_share_no_text() -> None:
    shared = {r["text"] for r in rows("labels_heldout.jsonl")} & {
        r["text"] for r in rows("labels_tuning.jsonl")
    }
    assert shared == set()


def test_the_tuning_set_stays_right() -> None:
    found = rows("labels_tuning.jsonl")
    right = sum({k: v for k, v in label_report(r["text"]).items() if v} == r["labels"] for r in found)
    assert right / len(found) >= FLOOR
