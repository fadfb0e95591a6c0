"""Splits by patient: stable, of the wanted size, and a check that sees every crossing."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unixcxr.cleaning.splits import Crossing, assign_split, check_splits, strictest
from unixcxr.config import from_mapping
from unixcxr.config.cleaning import SplitConfig
from unixcxr.errors import ConfigError
from unixcxr.records import Record

HALVES = SplitConfig(validate_share=0.3, test_share=0.2)


def test_shares_are_met() -> None:
    splits = [assign_split(f"patient{n}", HALVES) for n in range(20_000)]
    assert splits.count("test") / 20_000 == pytest.approx(0.2, abs=0.01)
    assert splits.count("validate") / 20_000 == pytest.approx(0.3, abs=0.01)


@given(st.text(max_size=20))
def test_a_split_depends_on_salt_and_patient_alone(patient: str) -> None:
    place = int.from_bytes(
        hashlib.sha256(f"unixcxr\x1f{patient}".encode("utf-8", "surrogatepass")).digest()[:8], "big"
    )
    share = place / 2**64
    expected = "test" if share < 0.2 else "validate" if share < 0.5 else "train"
    assert assign_split(patient, HALVES) == expected


def test_more_test_patients_never_moves_one_out_of_the_test_set() -> None:
    patients = [f"p{n}" for n in range(500)]
    few = {p for p in patients if assign_split(p, SplitConfig(test_share=0.1)) == "test"}
    more = {p for p in patients if assign_split(p, SplitConfig(test_share=0.2)) == "test"}
    assert few < more


def test_another_salt_is_another_draw() -> None:
    patients = [f"p{n}" for n in range(200)]
    one, other = (
        [assign_split(p, SplitConfig(validate_share=0.3, test_share=0.3, salt=salt)) for p in patients]
        for salt in "ab"
    )
    assert one != other


def record(identity: str, patient: str, split: str) -> Record:
    return Record(identity, "x.png", patient_id=patient, split=split)


def test_crossings_are_seen() -> None:
    sound = [record("a", "p1", "train"), record("b", "p1", "train"), record("c", "p2", "test")]
    assert check_splits(sound, [("a", "b")]) == []
    assert check_splits([*sound, record("d", "p1", "test")]) == [Crossing("patient", "p1", ("test", "train"))]
    assert check_splits(sound, [("a", "c")]) == [Crossing("picture", "a = c", ("train", "test"))]
    assert check_splits(sound, [("a", "gone")]) == []


def test_the_strictest_split() -> None:
    assert strictest(["train", "test", "validate"]) == "test"
    assert strictest(["train", "validate"]) == "validate"


def test_shares_must_leave_something_to_train_on() -> None:
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        from_mapping(SplitConfig, {"validate_share": 0.5, "test_share": 0.5})
