"""Where sections and sentences begin and end, hand-worked; and what the labeler reads of whole reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unixcxr.labels import label_report, label_sentences
from unixcxr.labels.scope import STRENGTH
from unixcxr.labels.text import split_sections, split_sentences


def sections(text: str) -> list[tuple[str, str]]:
    """Return (kind, text) of each section that has text."""
    return [(s.kind, text[s.start : s.end]) for s in split_sections(text) if s.start < s.end]


def sentences(text: str) -> list[str]:
    """Return the sentences of a text."""
    return [text[start:end] for start, end in split_sentences(text)]


SECTIONS = [
    ("FINDINGS: A.\n\nIMPRESSION: B.", [("findings", "A."), ("impression", "B.")]),
    ("Findings: A. Impression: B.", [("findings", "A."), ("impression", "B.")]),
    ("FINDINGS:\nA.\nB.\n\nIMPRESSION:\n1. C.", [("findings", "A.\nB."), ("impression", "1. C.")]),
    ("IMPRESSION\nNo change.", [("impression", "No change.")]),
    ("The summary\nis short.", [("body", "The summary\nis short.")]),
    ("HISTORY: Cough.\n\nLungs clear.", [("history", "Cough."), ("body", "Lungs clear.")]),
    ("HISTORY: Cough. Lungs clear.", [("history", "Cough."), ("body", "Lungs clear.")]),
    (
        "REASON FOR THIS EXAMINATION:\n r/o ptx\n\nFINDINGS: A.",
        [("indication", "r/o ptx"), ("findings", "A.")],
    ),
    (
        "INDICATION: Pain. Fall. COMPARISON: None. FINDINGS: A.",
        [("indication", "Pain. Fall."), ("comparison", "None."), ("findings", "A.")],
    ),
    ("FINAL REPORT\nEXAMINATION: Chest.\n\nFINDINGS: A.", [("exam", "Chest."), ("findings", "A.")]),
    ("Lungs: Clear. Heart: Normal.", [("body", "Lungs: Clear. Heart: Normal.")]),
    ("WET READ: A.\n\nFINDINGS: B.", [("wet_read", "A."), ("findings", "B.")]),
    ("ADDENDUM: A.", [("addendum", "A.")]),
    ("IMPRESSION: A.\n\nRECOMMENDATION(S): CT.", [("impression", "A."), ("recommendation", "CT.")]),
    ("", []),
]


@pytest.mark.parametrize(("text", "wanted"), SECTIONS)
def test_sections(text: str, wanted: list[tuple[str, str]]) -> None:
    assert sections(text) == wanted


SENTENCES = [
    ("One. Two.", ["One.", "Two."]),
    ("1. One.\n2. Two.", ["One.", "Two."]),
    ("1. One 2. Two", ["One", "Two"]),
    ("Fracture of rib number 4. No effusion.", ["Fracture of rib number 4.", "No effusion."]),
    ("1. Fracture of rib 2. No effusion.", ["Fracture of rib 2.", "No effusion."]),
    ("- One\n- Two", ["One", "Two"]),
    ("A 1.2 cm nodule. Next.", ["A 1.2 cm nodule.", "Next."]),
    ("Seen by Dr. Smith. Next.", ["Seen by Dr. Smith.", "Next."]),
    ("Edema vs. pneumonia. Next.", ["Edema vs. pneumonia.", "Next."]),
    ("At 9:15 a.m. the tube was placed.", ["At 9:15 a.m. the tube was placed."]),
    ("Called at 9:15 a.m. No effusion.", ["Called at 9:15 a.m.", "No effusion."]),
    ("No effusion.No edema.", ["No effusion.", "No edema."]),
    (
        "This line was wrapped because it was longer than the page is\nWide by a word.",
        ["This line was wrapped because it was longer than the page is\nWide by a word."],
    ),
    ("Lungs clear\nHeart normal", ["Lungs clear", "Heart normal"]),
    ("First part\n\nsecond part", ["First part", "second part"]),
    ("Is it edema? Yes.", ["Is it edema?", "Yes."]),
    (" \n ", []),
]


@pytest.mark.parametrize(("text", "wanted"), SENTENCES)
def test_sentences(text: str, wanted: list[str]) -> None:
    assert sentences(text) == wanted


def test_a_wet_read_counts_only_alone() -> None:
    assert label_report("WET READ: Small effusion.")["Pleural Effusion"] == "positive"
    assert label_report("WET READ: Small effusion.\n\nFINDINGS: Clear lungs.")["Pleural Effusion"] is None


PHRASES = """no|small|effusion|edema|heart|is|enlarged|normal|possible|.|,|and|or|but|resolved|not|seen|tube|removed
FINDINGS:|IMPRESSION:|HISTORY:|1.|2.|___|İstanbul|?"""
WORDS = st.sampled_from([*PHRASES.replace("\n", "|").split("|"), "\n", "\n\n"])
TEXTS = st.one_of(st.lists(WORDS, max_size=40).map(" ".join), st.text(max_size=80))


@given(TEXTS)
def test_sentences_lie_where_they_say_in_order(text: str) -> None:
    reached = 0
    for sentence in label_sentences(text):
        assert text[sentence.start : sentence.end] == sentence.text == sentence.text.strip() != ""
        assert sentence.start >= reached
        reached = sentence.end


@given(TEXTS)
def test_a_report_has_the_strongest_state_of_its_sentences(text: str) -> None:
    strongest: dict[str, str] = {}
    for sentence in label_sentences(text):
        assert "No Finding" not in sentence.labels
        for label, state in sentence.labels.items():
            strongest[label] = max(state, strongest.get(label, "ignored"), key=STRENGTH.__getitem__)
    labels = label_report(text)
    assert {k: v for k, v in labels.items() if v and k != "No Finding"} == strongest


@given(TEXTS)
def test_an_indication_changes_nothing(text: str) -> None:
    headed = f"FINDINGS: {text}"
    if any(character.isalpha() for character in text):
        assert label_report(f"INDICATION: Pneumonia, possible effusion.\n\n{headed}") == label_report(headed)


def test_a_run_of_blanks_takes_linear_time() -> None:
    """Eight times the blanks may not take sixty-four times the matching steps: the longest still ends at once."""
    text = "No effusion." + " " * 200_000 + "IMPRESSION: Normal chest."
    assert [section.kind for section in split_sections(text)] == ["body", "impression"]
