"""Which parts of a report go where: FINDINGS, IMPRESSION, or out.

Knows the ways in which reports are laid out; the words of a sentence are `rules`' business.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from unixcxr.labels import label_sentences
from unixcxr.labels.text import Section, split_sections

Place = Literal["findings", "impression", "out"]

TITLE_WORDS = re.compile(
    r"\b(?:chest|cxr|radiographs?|x-?rays?|films?|views?|portable|frontal|lateral|ap|pa|report|exam\w*)\b",
    re.IGNORECASE,
)
VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|demonstrates?|reveals?|seen|noted|normal|clear|no|stable|unchanged)\b",
    re.IGNORECASE,
)
PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
MAX_TITLE = 90


class Part(NamedTuple):
    """A stretch of the raw text: where it goes, and the reason when it goes out."""

    place: Place
    start: int
    end: int
    reason: str = ""


def split_report(text: str) -> list[Part]:
    """Split a report into the parts that become findings or impression, and those that go out with a reason.

    - FINDINGS and IMPRESSION (and their other names) go where they say.
    - Text without a heading is findings, except titles ("CHEST, PA AND LATERAL"): so the last paragraph of a
      report that is headed only HISTORY and COMPARISON, and a report without any heading, are findings.
    - An addendum goes to the impression.
    - A wet read goes out, unless it is all there is.
    - Indication, history, technique, comparison, exam, communication and recommendation sections go out.
    """
    sections = split_sections(text)
    only_wet = not any(s.kind in ("findings", "impression") or _is_finding_text(text, s) for s in sections)
    parts = []
    for section in sections:
        if section.start >= section.end:
            continue
        if section.kind == "body":
            parts += _split_body(text, section)
        elif section.kind == "findings" or (section.kind == "wet_read" and only_wet):
            parts.append(Part("findings", section.start, section.end))
        elif section.kind in ("impression", "addendum"):
            parts.append(Part("impression", section.start, section.end))
        else:
            parts.append(Part("out", section.start, section.end, section.kind.replace("_", " ")))
    return parts


def _is_finding_text(text: str, section: Section) -> bool:
    return section.kind == "body" and any(part.place == "findings" for part in _split_body(text, section))


def _split_body(text: str, section: Section) -> list[Part]:
    """Take titles off a stretch without a heading, paragraph by paragraph."""
    parts, start = [], section.start
    for gap in [*PARAGRAPH.finditer(text, section.start, section.end), None]:
        end = gap.start() if gap else section.end
        if start < end:
            parts.append(
                Part("out", start, end, "title")
                if is_title(text[start:end])
                else Part("findings", start, end)
            )
        start = gap.end() if gap else section.end
    return parts


def is_title(paragraph: str) -> bool:
    """Say whether a paragraph only names the examination ("PORTABLE CHEST RADIOGRAPH, 9:14 a.m.")."""
    words = paragraph.strip().rstrip(".:")
    if not any(character.isalpha() for character in words):
        return True
    named = bool(TITLE_WORDS.search(words)) and not VERB.search(words)
    return named and len(words) <= MAX_TITLE and not label_sentences(f"FINDINGS: {words}")[0].labels
