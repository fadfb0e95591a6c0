"""Where a report's sections and sentences begin and end; offsets always point into the text as given.

Reports come as one paragraph, as headed sections, hard-wrapped, numbered, or without a full stop at all.
Used by the labeler and by `cleaning`; says nothing about meaning.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple

IGNORED_KINDS = frozenset(
    {"indication", "history", "technique", "comparison", "exam", "communication", "recommendation"}
)
"""Sections that describe the order, the examination or the messages, never what the image shows."""

ABBREVIATIONS = frozenset(
    ("dr", "drs", "mr", "mrs", "ms", "st", "vs", "approx", "e.g", "i.e", "eg", "ie", "cf", "fig")
)

BREAK = re.compile(
    r"(?P<stop>[.!?]+[\"')\]]*(?:\s+|$))"
    r"|(?P<tight>(?<=[a-z)])\.(?=[A-Z][a-z]))"
    r"|(?P<blank>\s*\n[ \t]*\n\s*)"
    r"|(?P<bullet>\s*\n\s*(?=(?:\(?\d{1,2}[.)]|[-*•])\s))"
    r"|(?P<inline>(?<!rib)(?<!ribs)(?<!\b[TLCtlc])(?<!level)(?<!and)(?<!or)(?<!of)\s+(?=\(?\d{1,2}[.)]\s+[A-Z]))"
    r"|(?P<line>[ \t]*\n[ \t]*(?=[A-Z_\d(]))"
)
LIST_MARK = re.compile(r"\s*(?:\(?\d{1,2}[.)](?=\s|[A-Z])|[-*•](?=\s))\s*")
SHORT_LINE = 55
"""A line end counts as a sentence end only after a line shorter than this: longer lines were wrapped."""


class Section(NamedTuple):
    """One part of a report: its kind ("body" without a heading), its heading, and where its text lies."""

    kind: str
    heading: str
    heading_start: int
    start: int
    end: int


@cache
def heading_pattern() -> re.Pattern[str]:
    """Compile headings.toml: one named group per kind."""
    text = resources.files("unixcxr.labels").joinpath("headings.toml").read_text(encoding="utf-8")
    groups = "|".join(f"(?P<{kind}>{'|'.join(words)})" for kind, words in tomllib.loads(text).items())
    # after two blanks only the last of a run can start a heading: trying each is quadratic in the run
    lead = r"(?:(?:^|(?<=\n)|(?<=[.:!?;)_]\s))[ \t]*+|(?<=\s\s)(?=\S))(?:\d\.\s*+)?"
    title = r"(?:(?:radiology|chest|cxr|x-?ray|final|portable|ap|single view)[ \t]+)?"
    return re.compile(
        rf"{lead}(?P<title>{title}(?:{groups}))[ \t]*(?::|(?=\s*\n)|[ \t]-+[ \t])", re.IGNORECASE
    )


def split_sections(text: str) -> list[Section]:
    """Split a report at its headings.

    Text before the first heading, and whatever follows a blank line after an indication, history, technique,
    comparison or exam section, is "body". Sections with no text are left out.
    """
    marks = []
    for match in heading_pattern().finditer(text):
        with_colon = match[0].rstrip().endswith((":", "-"))
        if not with_colon and not match["title"].isupper():
            continue  # a word that happens to stand alone on a line is a heading only in capitals
        kind = next(name for name, words in match.groupdict().items() if words and name != "title")
        marks.append((kind, match["title"], match.start("title"), match.end()))
    sections = []
    first = marks[0][2] if marks else len(text)
    sections.append(_trimmed(text, "body", "", 0, 0, first))
    for index, (kind, title, heading_start, start) in enumerate(marks):
        end = marks[index + 1][2] if index + 1 < len(marks) else len(text)
        section = _trimmed(text, kind, title, heading_start, start, end)
        if kind in IGNORED_KINDS or kind == "final_report":
            cut = _end_of_aside(text, section, more_headings=index + 1 < len(marks))
            sections.append(_trimmed(text, kind, title, heading_start, start, cut))
            sections.append(_trimmed(text, "body", "", cut, cut, end))
        else:
            sections.append(section)
    return [section for section in sections if section.start < section.end or section.heading]


def _trimmed(text: str, kind: str, heading: str, heading_start: int, start: int, end: int) -> Section:
    piece = text[start:end]
    lead = len(piece) - len(piece.lstrip())
    return Section(kind, heading, heading_start, min(start + lead, end), start + len(piece.rstrip()))


def _end_of_aside(text: str, section: Section, more_headings: bool) -> int:
    """Find where an ignored section stops: at a blank line, or without later headings after one sentence."""
    if section.kind == "final_report" or section.start >= section.end:
        return section.start
    blank = re.compile(r"\n[ \t]*\n").search(text, section.start, section.end)
    if blank:
        return blank.start()
    if more_headings:
        return section.end
    for _, end in split_sentences(text, section.start, section.end):
        return end
    return section.end


def split_sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each sentence, list marks and surrounding blanks left out."""
    end = len(text) if end is None else end
    begin, item = start, None
    for match in BREAK.finditer(text, start, end):
        kind = match.lastgroup
        item = _list_number(text, begin, end) or item
        if kind == "inline" and (item is None or _list_number(text, match.end(), end) != item + 1):
            continue  # "fracture of rib 4. No effusion" is no list; "1. No effusion 2. Edema" is
        if kind == "stop" and _is_abbreviation(text, begin, match.start()):
            continue
        if kind == "line" and match.start() - text.rfind("\n", 0, match.start()) > SHORT_LINE:
            continue
        stop = match.end() if kind in ("stop", "tight") else match.start()
        yield from _sentence(text, begin, stop)
        begin = match.end()
    yield from _sentence(text, begin, end)


def _list_number(text: str, begin: int, end: int) -> int | None:
    """Return the number of the list mark at `begin`, if one stands there."""
    mark = LIST_MARK.match(text, begin, end)
    digits = mark[0].strip(" (.)-*•\n\t") if mark else ""
    return int(digits) if digits.isdecimal() else None


def _is_abbreviation(text: str, begin: int, dot: int) -> bool:
    """Say whether the full stop at `dot` belongs to an abbreviation, an initial or a list number.

    One with a dot of its own ("a.m.") ends the sentence only before a capital.
    """
    if text[dot] != ".":
        return False
    word = text[max(begin, text.rfind(" ", begin, dot) + 1) : dot].lstrip("(\n\t")
    return (
        word.lower() in ABBREVIATIONS
        or (len(word) == 1 and word.isupper())
        or ("." in word and text[dot + 1 : dot + 3].strip().islower())
        or not text[begin:dot].strip(" (\n\t0123456789")
    )


def _sentence(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    mark = LIST_MARK.match(text, begin, end)
    begin = mark.end() if mark else begin
    piece = text[begin:end]
    begin += len(piece) - len(piece.lstrip())
    end = begin + len(piece.strip())
    if begin < end:
        yield begin, end
