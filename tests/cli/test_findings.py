"""One line for people: each label once, what is there before what is not."""

from __future__ import annotations

from unixcxr.cli import findings


def test_presence_beats_doubt_beats_absence_and_the_surest_sentence_counts() -> None:
    found = [
        ("Edema", "negative", 0.9),
        ("Edema", "uncertain", 0.2),
        ("Pleural Effusion", "positive", 0.5),
        ("Pleural Effusion", "positive", 0.8),
        ("Pneumothorax", "negative", 0.7),
    ]
    assert findings.line(found) == "[Pleural Effusion 0.80; possible Edema 0.20; no Pneumothorax 0.70]"


def test_nothing_found_is_said() -> None:
    assert findings.line([]) == "[no labelled finding]"


def test_no_confidence_is_shown_where_there_is_none() -> None:
    assert findings.line([("No Finding", "positive", None)]) == "[No Finding]"
