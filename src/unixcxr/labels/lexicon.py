"""The labeler's word lists, compiled once, and the events that they find in a sentence.

A pattern can only match where its first letter stands, so there is one combined expression per letter and a word
whose letter begins nothing costs nothing. That is four times as fast as one expression for everything.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple

MENTION, ORGAN = "mention", "organ"
OTHER = "other"
"""Label of abnormalities that have none of the 14 labels; they only speak against No Finding."""

SECTIONS = {
    "nothing": ("nothing", ()),
    "other": (MENTION, (OTHER,)),
    "heart": (ORGAN, ("Cardiomegaly",)),
    "mediastinum": (ORGAN, ("Enlarged Cardiomediastinum",)),
}
"""Sections of mentions.toml that are not named after labels: the kind and labels of their events."""

TOKEN = re.compile(
    r"(?P<topic>[a-z]+(?:/[a-z]+)*(?=\s?:\s))"  # "Heart:" begins a clause of its own
    r"|(?P<word>[a-z]+)"
    r"|(?P<comma>,)"
    r"|(?P<boundary>[;()]|\s-+\s)"
    r"|(?P<unc_pre>\?(?=\s?[a-z]))"
)


class Event(NamedTuple):
    """Something the labeler knows, found at start..end: a mention, an organ, or a cue of some kind."""

    kind: str
    labels: tuple[str, ...]
    start: int
    end: int


class Lexicon(NamedTuple):
    """One combined pattern per first letter, and what each group means: (kind, labels)."""

    by_letter: dict[str, re.Pattern[str]]
    meanings: dict[str, tuple[str, tuple[str, ...]]]


def read_tables() -> list[tuple[str, tuple[str, ...], list[str]]]:
    """Read mentions.toml and cues.toml in order: (kind, labels, patterns), mentions before cues."""
    tables = []
    for name in ("mentions.toml", "cues.toml"):
        text = resources.files("unixcxr.labels").joinpath(name).read_text(encoding="utf-8")
        for section, table in tomllib.loads(text).items():
            default = (MENTION, tuple(section.split(" + "))) if name == "mentions.toml" else (section, ())
            kind, labels = SECTIONS.get(section, default)
            patterns = [pattern.replace(" ", r"(?:[\s-]+)") for pattern in table["patterns"]]
            tables.append((kind, labels, patterns))
    return tables


@cache
def load_lexicon() -> Lexicon:
    """Compile the word lists; where two patterns start at one place the earlier in the files wins."""
    meanings = {}
    groups: dict[str, dict[str, list[str]]] = {}
    for index, (kind, labels, patterns) in enumerate(read_tables()):
        name = f"g{index}"
        meanings[name] = (kind, labels)
        for pattern in patterns:
            for letter in initials(pattern):
                groups.setdefault(letter, {}).setdefault(name, []).append(pattern)
    by_letter = {
        letter: re.compile("|".join(f"(?P<{name}>(?:{'|'.join(p)})(?![a-z]))" for name, p in named.items()))
        for letter, named in groups.items()
    }
    return Lexicon(by_letter, meanings)


def initials(pattern: str) -> set[str]:
    """Return the letters a match of `pattern` can begin with (the notation of the data files only)."""
    letters = set()
    for branch in split_branches(pattern):
        if not branch.startswith("("):
            assert branch[0].isalpha(), f"the pattern {pattern!r} must begin with a letter"
            letters.add(branch[0])
            if branch[1:2] == "?":
                letters |= initials(branch[2:])
            continue
        close = closing_bracket(branch)
        rest = branch[close + 1 :]
        if not branch.startswith("(?:"):  # a look-around takes no room
            letters |= initials(rest)
            continue
        letters |= initials(branch[3:close])
        if rest[:1] in ("?", "*"):
            letters |= initials(rest[1:])
    return letters


def split_branches(pattern: str) -> list[str]:
    """Split a pattern at the bars outside of all brackets."""
    branches, depth, begin = [], 0, 0
    for place, character in enumerate(pattern):
        depth += (character in "([") - (character in ")]")
        if character == "|" and depth == 0:
            branches.append(pattern[begin:place])
            begin = place + 1
    return [*branches, pattern[begin:]]


def closing_bracket(pattern: str) -> int:
    """Return where the bracket that opens the pattern closes."""
    depth = 0
    for place, character in enumerate(pattern):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return place
    raise AssertionError(f"unbalanced bracket in {pattern!r}")


def find_events(lowered: str) -> Iterator[Event]:
    """Yield the events of one lower-case sentence in order."""
    by_letter, meanings = load_lexicon()
    reached = 0
    for token in TOKEN.finditer(lowered):
        start, kind = token.start(), token.lastgroup or ""
        if start < reached:
            continue
        if kind == "topic":
            yield Event("boundary", (), start, start)
        elif kind != "word":
            yield Event(kind, (), start, token.end())
            continue
        pattern = by_letter.get(lowered[start])
        match = pattern.match(lowered, start) if pattern else None
        if match:
            reached = match.end()
            yield Event(*meanings[match.lastgroup or ""], start, reached)
