"""Who trains, who validates, who tests: by patient, the same for ever, official splits honoured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from unixcxr.config.cleaning import SplitConfig
from unixcxr.records import Record

SPLITS = ("test", "validate", "train")
"""From the strictest to the least: what is in two splits belongs to the first of them."""


class Crossing(NamedTuple):
    """Something that stands in two splits: a patient, or a pair of pictures that are the same."""

    kind: str
    what: str
    splits: tuple[str, ...]


def assign_split(patient_id: str, settings: SplitConfig) -> str:
    """Return the split of a patient; it depends on the salt and the patient alone."""
    digest = hashlib.sha256(f"{settings.salt}\x1f{patient_id}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < settings.test_share:
        return "test"
    return "validate" if place < settings.test_share + settings.validate_share else "train"


def strictest(splits: Iterable[str]) -> str:
    """Return the strictest of some splits."""
    return min(splits, key=SPLITS.index)


def check_splits(records: Iterable[Record], same: Iterable[tuple[str, str]] = ()) -> list[Crossing]:
    """Return each patient, and each pair of record ids in `same` (near-duplicates), that stands in two splits."""
    by_patient: dict[str, set[str]] = {}
    by_record: dict[str, str] = {}
    for record in records:
        by_patient.setdefault(record.patient_id, set()).add(record.split)
        by_record[record.id] = record.split
    crossings = [
        Crossing("patient", patient, tuple(sorted(splits)))
        for patient, splits in by_patient.items()
        if len(splits) > 1 and patient
    ]
    for one, other in same:
        if one in by_record and other in by_record and by_record[one] != by_record[other]:
            crossings.append(Crossing("picture", f"{one} = {other}", (by_record[one], by_record[other])))
    return crossings
