"""Whole reports: which parts are read, each sentence's labels, one state per label, and No Finding."""

from __future__ import annotations

from typing import NamedTuple, cast

from unixcxr.labels.organs import organ_states
from unixcxr.labels.scope import DEVICES, IGNORED, NEGATIVE, POSITIVE, STRENGTH, scan
from unixcxr.labels.text import IGNORED_KINDS, split_sections, split_sentences
from unixcxr.records import LABELS, LabelState


class LabeledSentence(NamedTuple):
    """One sentence, its place in the report (`report[start:end] == text`), and the labels it speaks of."""

    text: str
    start: int
    end: int
    labels: dict[str, LabelState]


def label_report(text: str) -> dict[str, LabelState | None]:
    """Label a report: each of the 14 labels positive, negative, uncertain, or None when not mentioned.

    FINDINGS, IMPRESSION and text without a heading are read; indication, history, technique and the like are not.
    Over the text a label takes its strongest state: positive before uncertain before negative. No Finding is
    positive where nothing but Support Devices is positive or uncertain and no other abnormality is named, and
    None otherwise (also for a text without a word).
    """
    states: dict[str, str] = {}
    for start, end in read_spans(text):
        for label, state in sentence_states(text[start:end]).items():
            add_state(states, label, state)
    spoken = any(state != NEGATIVE for label, state in states.items() if label != DEVICES)
    if not spoken and any(character.isalpha() for character in text):
        states["No Finding"] = POSITIVE
    return {label: cast("LabelState | None", states.get(label)) for label in LABELS}


def label_sentences(text: str) -> list[LabeledSentence]:
    """Label a report sentence by sentence, in order, the same parts read as in `label_report`.

    Each sentence holds only the labels it mentions; No Finding belongs to whole texts and never appears.
    """
    sentences = []
    for start, end in read_spans(text):
        states = sentence_states(text[start:end])
        labels = {label: cast("LabelState", states[label]) for label in LABELS if label in states}
        sentences.append(LabeledSentence(text[start:end], start, end, labels))
    return sentences


def read_spans(text: str) -> list[tuple[int, int]]:
    """Return where the sentences lie that describe the image; a wet read counts only where nothing else does."""
    sections = [section for section in split_sections(text) if section.kind not in IGNORED_KINDS]
    if any(section.kind in ("findings", "impression") for section in sections):
        sections = [section for section in sections if section.kind != "wet_read"]
    return [span for section in sections for span in split_sentences(text, section.start, section.end)]


def sentence_states(sentence: str) -> dict[str, str]:
    """Return {label: state} for one sentence; "other" stands for abnormalities without a label."""
    scanner = scan(sentence.lower())
    states: dict[str, str] = {}
    for mention in scanner.mentions:
        for label in mention.event.labels:
            add_state(states, label, mention.state)
    for label, state in organ_states(scanner):
        add_state(states, label, state)
    return states


def add_state(states: dict[str, str], label: str, state: str) -> None:
    """Keep the strongest state of a label."""
    if STRENGTH[state] > STRENGTH[states.get(label, IGNORED)]:
        states[label] = state
