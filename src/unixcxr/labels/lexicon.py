"""The data files of the labeler, compiled once into one regular expression that yields events."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple

MENTION, ORGAN, CUE = "mention", "organ", "cue"
OTHER = "other"
"""Label of abnormalities that have none of the 14 labels; they only speak against No Finding."""


class Event(NamedTuple):
    """Something the labeler knows, found at start..end: a mention, an organ, or a cue of some kind."""

    kind: str
    labels: tuple[str, ...]
    start: int
    end: int


class Lexicon(NamedTuple):
    """The combined pattern and what each of its groups means: (kind, labels)."""

    pattern: re.Pattern[str]
    meanings: dict[str, tuple[str, tuple[str, ...]]]


def _load(name: str) -> dict[str, list[str]]:
    text = resources.files("unixcxr.labels").joinpath(name).read_text(encoding="utf-8")
    return {key: table["patterns"] for key, table in tomllib.loads(text).items()}


def _meaning(section: str) -> tuple[str, tuple[str, ...]]:
    if section == "nothing":
        return "nothing", ()
    if section == "heart":
        return ORGAN, ("Cardiomegaly",)
    if section == "mediastinum":
        return ORGAN, ("Enlarged Cardiomediastinum",)
    if section == "other":
        return MENTION, (OTHER,)
    return MENTION, tuple(section.removeprefix("large organ ").split(" + "))


@cache
def load_lexicon() -> Lexicon:
    """Compile mentions.toml and cues.toml; look-alikes come first, then mentions, organs and cues."""
    meanings, groups = {}, []
    tables = [(_meaning(name), patterns) for name, patterns in _load("mentions.toml").items()]
    tables += [((kind, ()), patterns) for kind, patterns in _load("cues.toml").items()]
    for index, (meaning, patterns) in enumerate(tables):
        name = f"g{index}"
        meanings[name] = meaning
        words = "|".join(patterns).replace(" ", r"(?:[\s-]+)")
        groups.append(rf"(?P<{name}>(?:{words})(?![a-z]))")
    meanings["comma"] = ("comma", ())
    meanings["end"] = ("boundary", ())
    meanings["topic"] = ("boundary", ())
    meanings["query"] = ("unc_pre", ())
    topic = r"(?P<topic>(?=\b[a-z]+(?:/[a-z]+)*\s?:\s))"
    pattern = rf"(?P<comma>,)|(?P<end>[;()]|\s-+\s)|{topic}|(?P<query>\?(?=\s?[a-z]))|(?<![a-z])(?:{'|'.join(groups)})"
    return Lexicon(re.compile(pattern), meanings)


def find_events(lowered: str) -> Iterator[Event]:
    """Yield the events of one lower-case sentence in order."""
    lexicon = load_lexicon()
    for match in lexicon.pattern.finditer(lowered):
        kind, labels = lexicon.meanings[match.lastgroup or ""]
        yield Event(kind, labels, match.start(), match.end())
