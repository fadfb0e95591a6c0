"""The word lists: looking up by first letter finds exactly what trying every pattern at every word finds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unixcxr.labels.lexicon import TOKEN, Event, find_events, initials, load_lexicon, read_tables
from unixcxr.records import LABELS

SETS = Path(__file__).parent.parent / "data"


def find_plainly(lowered: str) -> list[Event]:
    """Try every table at every word, in order: the slow, obvious way."""
    events, reached = [], 0
    for token in TOKEN.finditer(lowered):
        start, kind = token.start(), token.lastgroup or ""
        if start < reached:
            continue
        if kind == "topic":
            events.append(Event("boundary", (), start, start))
        elif kind != "word":
            events.append(Event(kind, (), start, token.end()))
            continue
        for table_kind, labels, patterns in read_tables():
            match = re.compile(f"(?:{'|'.join(patterns)})(?![a-z])").match(lowered, start)
            if match:
                reached = match.end()
                events.append(Event(table_kind, labels, start, reached))
                break
    return events


def test_lookup_by_letter_equals_trying_everything() -> None:
    for line in (SETS / "labels_tuning.jsonl").read_text(encoding="utf-8").splitlines()[::4]:
        lowered = json.loads(line)["text"].lower()
        assert list(find_events(lowered)) == find_plainly(lowered)


@pytest.mark.parametrize(
    ("pattern", "letters"),
    [
        ("no", "n"),
        ("o?edema", "oe"),
        ("(?:is|are) not", "ia"),
        ("(?:(?:is|was) )?not", "iwn"),
        ("(?:very |most )*likely", "vml"),
        ("(?<=: )no", "n"),
        ("a|b(?:c|d)", "ab"),
        ("(?:a|(?:b|c)?d)e", "abcd"),
        ("(?:a)?(?:b)?c", "abc"),
    ],
)
def test_initials(pattern: str, letters: str) -> None:
    assert initials(pattern) == set(letters)


@given(st.lists(st.sampled_from(["no", "n?o", "(?:a|b)", "(?:x )?", "(?:y )*"]), min_size=1, max_size=4))
def test_a_match_begins_with_one_of_the_initials(parts: list[str]) -> None:
    pattern = "".join(parts) + "z"
    compiled = re.compile(pattern)
    for text in ("nonoz", "oz", "x y az", "y z", "abz", "z", "x no y bz", "noz"):
        match = compiled.match(text)
        if match:
            assert match[0][0] in initials(pattern)


def test_every_label_has_words() -> None:
    named = {label for _, labels, _ in read_tables() for label in labels}
    assert set(LABELS) - {"No Finding"} <= named


def test_every_pattern_can_win() -> None:
    """A pattern that always loses to an earlier one of its own table is dead; this finds plain duplicates."""
    for _, _, patterns in read_tables():
        assert len(patterns) == len(set(patterns))


def test_the_lexicon_is_compiled_once() -> None:
    assert load_lexicon() is load_lexicon()
