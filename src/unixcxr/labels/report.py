"""Whole reports: which parts are read, each sentence's labels, one state per label, and No Finding."""

from __future__ import annotations

from typing import NamedTuple, cast

from unixcxr.labels.lexicon import OTHER
from unixcxr.labels.scope import add_state, read_sentence
from unixcxr.labels.text import IGNORED_KINDS, split_sections, split_sentences
from unixcxr.records import LABELS, LabelState


class LabeledSentence(NamedTuple):
    """One sentence, where it lies in the report (`report[start:end] == text`), and the labels it speaks of."""

    text: str
    start: int
    end: int
    labels: dict[str, LabelState]


def label_report(text: str) -> dict[str, LabelState | None]:
    """Label a report: each of the 14 CheXpert labels positive, negative, uncertain, or None when not mentioned.

    FINDINGS, IMPRESSION and text without a heading are read; indication, history, technique and comparison are not.
    Over the text a label takes its strongest state: positive before uncertain before negative. No Finding is
    positive where nothing but Support Devices is positive or uncertain and no other abnormality is named, and
    None otherwise (also for a text without a word).
    """
    states: dict[str, str] = {}
    for start, end in _read_spans(text):
        for label, state in read_sentence(_lower(text[start:end])).items():
            add_state(states, label, state)
    spoken = any(state != "negative" for label, state in states.items() if label != "Support Devices")
    if not spoken and any(character.isalpha() for character in text):
        states["No Finding"] = "positive"
    states.pop(OTHER, None)
    return {label: cast("LabelState | None", states.get(label)) for label in LABELS}


def label_sentences(text: str) -> list[LabeledSentence]:
    """Label a report sentence by sentence, in order, the same parts read as in `label_report`.

    Each sentence holds only the labels it mentions; No Finding belongs to whole texts and never appears.
    """
    sentences = []
    for start, end in _read_spans(text):
        states = read_sentence(_lower(text[start:end]))
        labels = {label: cast(LabelState, states[label]) for label in LABELS if label in states}
        sentences.append(LabeledSentence(text[start:end], start, end, labels))
    return sentences


def _read_spans(text: str) -> list[tuple[int, int]]:
    sections = [s for s in split_sections(text) if s.kind not in IGNORED_KINDS]
    if any(s.kind in ("findings", "impression") for s in sections):
        sections = [s for s in sections if s.kind != "wet_read"]
    return [span for s in sections for span in split_sentences(text, s.start, s.end)]


def _lower(text: str) -> str:
    """Lower the case without changing the length, so that offsets keep."""
    lowered = text.lower()
    return (
        lowered
        if len(lowered) == len(text)
        else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    )
