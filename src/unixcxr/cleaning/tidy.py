"""Spacing, punctuation and case of one sentence: what every kept sentence passes through."""

from __future__ import annotations

import re

from unixcxr.cleaning.draft import Draft

SPACING = (
    (re.compile(r"[ \t]*\s[ \t\s]*|\t"), " "),
    (re.compile(r" +(?=[,;:.](?!\d))"), ""),
    (re.compile(r"(?<=[a-z)])(?=\()|(?<=[a-z][,;])(?=[a-z])"), " "),
)
PUNCTUATION = (
    (re.compile(r"\( *\)|\[ *\]"), ""),
    (re.compile(r"[,;:](?= ?[,;.])"), ""),
    (re.compile(r"(?<=[.!?])[.,;:!?]+(?=\s|$)"), ""),
    (re.compile(r"^[\s,;:.\-–—*•/]+"), ""),
    (re.compile(r"[\s,;:\-–—]+(?=[.!?]?$)"), ""),
    (re.compile(r"^(?:and|but|however|although|though|with|also)\b,? (?=[a-z])", re.IGNORECASE), ""),
)
ARTICLES = (
    (re.compile(r"\ba (?=[aeio][a-z])", re.IGNORECASE), "n"),
    (re.compile(r"\ban (?=[bcdfgjklmnpqrstvwxyz][a-z])", re.IGNORECASE), ""),
)
ACRONYMS = re.compile(
    r"\b(?:PA|AP|CT|MRI|PICC|ETT|ET|NG|OG|NGT|OGT|IJ|SVC|IVC|ICD|AICD|CABG|COPD|CHF|RUL|RML|RLL|LUL|LLL|PTX|TB|ICU|"
    r"CVL|CVC|VP|IABP|LVAD|TAVR|ECMO|GE|AC|DISH|JVD|CP|ARDS|PE|LV|RV|II|III|IV|X{3,}|[TLC]\d{1,2})\b"
)
SHOUTED_LETTERS = 12
"""A sentence without small letters is lowered from this many letters on; shorter ones may be acronyms."""


def tidy(draft: Draft) -> None:
    """Mend spacing, punctuation, articles and case until nothing is left to mend."""
    before = None
    while before != draft.text:
        before = draft.text
        for rule, table in (("spacing", SPACING), ("punctuation", PUNCTUATION)):
            for pattern, new in table:
                _replace_all(draft, pattern, new, rule)
        _mend_articles(draft)
        _mend_case(draft)
        _end_with_stop(draft)


def _replace_all(draft: Draft, pattern: re.Pattern[str], new: str, rule: str) -> None:
    place = 0
    while match := pattern.search(draft.text, place):
        draft.replace(match.start(), match.end(), new, rule)
        place = match.start() + len(new) + (match.start() == match.end() and not new)


def _mend_articles(draft: Draft) -> None:
    for pattern, ending in ARTICLES:
        for match in reversed(list(pattern.finditer(draft.text))):
            draft.replace(match.start() + 1, match.end() - 1, ending, "article")


def _mend_case(draft: Draft) -> None:
    letters = [character for character in draft.text if character.isalpha()]
    if len(letters) >= SHOUTED_LETTERS and all(character.isupper() for character in letters):
        kept = {
            place for match in ACRONYMS.finditer(draft.text) for place in range(match.start(), match.end())
        }
        lowered = "".join(c if i in kept else c.lower() for i, c in enumerate(draft.text))
        draft.replace(0, len(draft.text), lowered, "case")
    first = draft.text[:1]
    if first.islower() and first.upper() != first and len(first.upper()) == 1:
        draft.replace(0, 1, first.upper(), "case")


def _end_with_stop(draft: Draft) -> None:
    if draft.text and draft.text[-1] not in ".!?":
        draft.replace(len(draft.text), len(draft.text), ".", "punctuation")
