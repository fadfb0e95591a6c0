"""The deterministic judge: does a clean report say what the raw one says, no more and no less, without priors?

It compares words, not meanings, and errs towards complaint; what it lets pass on purpose is listed in
docs/rewriting.md. Complaints are plain sentences that a language model can act on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from unixcxr.cleaning.facts import Bound, Statements, load_words, read_statements
from unixcxr.labels import label_report
from unixcxr.records import LABELS

if TYPE_CHECKING:
    from unixcxr.cleaning.rules import CleanReport

DEIDENTIFICATION = re.compile(
    r"_{2,}|\bX{3,}(?:-X+)*\b|\[\*\*.*?\*\*\]|<\s*(?:name|date|deid|redacted)\s*>|\[(?:name|date|redacted)\]",
    re.I,
)
MESSAGES = re.compile(
    r"\b(?:drs?\.\s|(?:discussed|communicated) (?:\w+ ){0,4}(?:with|to) |(?:was|were) (?:notified|telephoned|paged)|"
    r"by (?:telephone|phone)|electronically signed)",
    re.IGNORECASE,
)
DATES = re.compile(
    r"\b\d{1,2}/\d{1,2}/\d{2,4}\b|\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}:\d{2}\b|\b\d{1,2}\s*(?:a\.?m|p\.?m)\b", re.I
)

BLANKS = re.compile(r"[ \t]{3,}")


class Complaint(NamedTuple):
    """One objection: its kind, for counting, and the sentence that explains it."""

    kind: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """What the judge says; `kinds[i]` is the kind of `complaints[i]`."""

    accepted: bool
    complaints: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


def judge_report(raw: str, clean: CleanReport) -> Verdict:
    """Compare a clean report with its raw text; accept it only when there is nothing to complain about."""
    return judge_texts(raw, clean.findings, clean.impression)


def judge_texts(raw: str, findings: str, impression: str) -> Verdict:
    """Judge findings and impression against the raw report."""
    raw = BLANKS.sub("  ", raw)
    text = BLANKS.sub("  ", report_text(findings, impression))
    if not any(character.isalpha() for character in findings + impression):
        complaints = [Complaint("empty", "the clean report is empty: write FINDINGS or IMPRESSION")]
    else:
        before, after = read_statements(raw), read_statements(text)
        complaints = [
            *_leftovers(findings, impression),
            *_label_complaints(raw, text, before),
            *_state_complaints(before, after),
            *_abnormality_complaints(before, after),
            *_word_complaints(before, after),
            *_bound_complaints(before, after),
        ]
    return Verdict(not complaints, tuple(c.text for c in complaints), tuple(c.kind for c in complaints))


def report_text(findings: str, impression: str) -> str:
    """Write the two sections as one text with headings; an empty section is left out."""
    sections = (("FINDINGS", findings.strip()), ("IMPRESSION", impression.strip()))
    return "\n".join(f"{heading}: {section}" for heading, section in sections if section)


def _leftovers(findings: str, impression: str) -> Iterator[Complaint]:
    """Complain about what cleaning must take out."""
    checks = (
        (
            "prior reference left",
            load_words().prior,
            "refers to an earlier examination; keep the finding, drop that",
        ),
        ("de-identification mark left", DEIDENTIFICATION, "is a de-identification mark; take it out"),
        ("message left", MESSAGES, "is about a message or a person; take it out"),
        ("date left", DATES, "is a date or a time; take it out"),
    )
    for kind, pattern, advice in checks:
        found = dict.fromkeys(m[0].strip() for text in (findings, impression) for m in pattern.finditer(text))
        yield from (Complaint(kind, f'"{words}" {advice}') for words in found)


def _label_complaints(raw: str, text: str, before: Statements) -> Iterator[Complaint]:
    """Compare the 14 labels; asides, and negatives that only tell of a change, may go."""
    wanted, found = label_report(raw), label_report(text)
    if wanted == found:
        return
    kept_text = " ".join(s.text for s in before.sentences if not s.is_aside)
    without_asides = label_report(kept_text) if any(s.is_aside for s in before.sentences) else wanted
    for label in LABELS:
        allowed = {wanted[label], without_asides[label]}
        if wanted[label] == "negative" and all(
            s.tells_resolution or s.is_aside for s in before.sentences if label in s.labels
        ):
            allowed.add(None)
        if found[label] in allowed:
            continue
        was, now = wanted[label] or "not mentioned", found[label] or "not mentioned"
        if found[label] is None:
            yield Complaint(
                "label lost", f"{label} is {was} in the raw report and not mentioned here; keep it"
            )
        elif wanted[label] is None:
            yield Complaint("label invented", f"{label} is {now} here and not in the raw report; take it out")
        else:
            yield Complaint(
                "label changed", f"{label} is {was} in the raw report and {now} here; keep it {was}"
            )


def _state_complaints(before: Statements, after: Statements) -> Iterator[Complaint]:
    """Find a label that one sentence now states in a way that no sentence of the raw report does."""
    for label in LABELS:
        known = before.label_states(label)
        for state in sorted(after.label_states(label) - known if known else ()):
            yield Complaint(
                "label changed", f"a sentence says that {label} is {state}; the raw report never does"
            )


def _abnormality_complaints(before: Statements, after: Statements) -> Iterator[Complaint]:
    """Compare what is named without having a label, by the stems of its words."""
    for found in after.abnormalities():
        known = [other for other in before.abnormalities() if other.stems & found.stems]
        if not found.stems & before.stems():
            yield Complaint("finding invented", f'"{found.words}" is not in the raw report; take it out')
        elif known and found.state not in {other.state for other in known}:
            yield Complaint(
                "finding changed", f'"{found.words}" is {found.state} here, not in the raw report'
            )
    stems = after.stems()
    for wanted in before.abnormalities(required=True):
        if not wanted.stems & stems:
            yield Complaint("finding lost", f'"{wanted.words}" of the raw report is missing; keep it')


def _word_complaints(before: Statements, after: Statements) -> Iterator[Complaint]:
    """Compare the sets of sides, sizes, devices, measurements and levels; find swapped sides of one noun."""
    words = load_words()
    groups: list[tuple[str, set[str], set[str], set[str]]] = [
        (name, before.words(pattern), before.words(pattern, required=True), after.words(pattern))
        for name, pattern in (("side", words.side), ("size", words.size), ("device", words.device))
    ]
    groups.append(("measurement", before.measures(), before.measures(required=True), after.measures()))
    groups.append(("level", before.levels(), before.levels(required=True), after.levels()))
    for name, known, required, found in groups:
        yield from (
            Complaint(f"{name} invented", f'{name} "{word}" is not in the raw report; take it out')
            for word in sorted(found - known)
        )
        yield from (
            Complaint(f"{name} lost", f'{name} "{word}" of the raw report is missing; keep it')
            for word in sorted(required - found)
        )
    known_nouns = before.sided_nouns()
    for side, noun in sorted(after.sided_nouns() - known_nouns):
        other = {"right": "left", "left": "right"}[side]
        if (other, noun) in known_nouns:
            yield Complaint("side changed", f'"{side} {noun}" is "{other} {noun}" in the raw report')


def _bound_complaints(before: Statements, after: Statements) -> Iterator[Complaint]:
    """Compare which side and size each label has."""
    raw_bounds, clean_bounds = before.bounds(), after.bounds()
    for bound in sorted(clean_bounds - raw_bounds, key=str):
        yield from _unsupported(bound, raw_bounds, before)
    for bound in sorted(raw_bounds - clean_bounds, key=str):
        for name, word, pattern in _sides_and_sizes(bound):
            if word and word not in after.near(bound.label, pattern):
                yield Complaint(f"{name} lost", f'{bound.label}: the raw report says "{word}"; keep it')


def _unsupported(bound: Bound, raw_bounds: set[Bound], before: Statements) -> Iterator[Complaint]:
    """Object to a side or size that the raw report gives to something else.

    Where the raw report binds sides to this label, only those count; otherwise any said near it ("It is on the left").
    """
    sides = {b.side for b in raw_bounds if b.label == bound.label and b.side}
    for name, word, pattern in _sides_and_sizes(bound):
        near = before.near(bound.label, pattern)
        if word and word not in (sides if name == "side" and sides else near):
            yield Complaint(f"{name} changed", f'{bound.label}: "{word}" is not said of it in the raw report')
    same = {b.size for b in raw_bounds if b.label == bound.label and b.side == bound.side and b.size}
    if bound.side and bound.size and same and bound.size not in same:
        sizes = " or ".join(sorted(same))
        yield Complaint(
            "size changed",
            f"{bound.label}: the {bound.side} one is {sizes} in the raw report, not {bound.size}",
        )


def _sides_and_sizes(bound: Bound) -> tuple[tuple[str, str | None, re.Pattern[str]], ...]:
    words = load_words()
    return ("side", bound.side, words.side), ("size", bound.size, words.size)
