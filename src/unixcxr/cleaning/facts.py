"""What a report states beyond its labels: sides, sizes, measurements, levels and devices, sentence by sentence.

Used by `judge` to compare a report before and after cleaning. Only words are read here; nothing is decided.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

from unixcxr.labels import LabeledSentence, label_sentences
from unixcxr.labels.lexicon import MENTION, OTHER, find_events
from unixcxr.labels.scope import IGNORED, scan

ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth"),
    *("seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"),
)
RIBS = re.compile(rf"\b({'|'.join(ORDINALS)})\b(?=[\w\s,]{{0,40}}\bribs?\b)", re.IGNORECASE)
LEVELS = re.compile(
    r"\b(?:(?P<rank>\d{1,2})(?:st|nd|rd|th)|(?P<spine>[tlc])-?(?P<level>\d{1,2})\b(?![-/]\d))", re.IGNORECASE
)
MEASURES = re.compile(
    r"(?P<numbers>\d+(?:\.\d+)?(?:\s*(?:x|×|by|-|to)\s*\d+(?:\.\d+)?){0,3})"
    r"\s*-?(?P<unit>mm|cm|ml|cc|millimet\w+|centimet\w+)\b",
    re.IGNORECASE,
)
STEM = 4
CLAUSE = re.compile(r"[,;:()]|\s(?:and|with|but|while|whereas|or|without)\s", re.IGNORECASE)
SIDED_NOUN = re.compile(
    r"\b(right|left)(?:[- ]sided)?\s+(?:(?:lower|upper|mid|middle|small|large|mild|moderate)\s+)*([a-z]{3,})",
    re.IGNORECASE,
)


class Words(NamedTuple):
    """The compiled word lists of judge.toml. Patterns of sides, sizes and devices name what they found."""

    side: re.Pattern[str]
    size: re.Pattern[str]
    device: re.Pattern[str]
    aside: re.Pattern[str]
    technique: re.Pattern[str]
    resolved: re.Pattern[str]
    elsewhere: re.Pattern[str]
    degree_of_change: re.Pattern[str]
    prior: re.Pattern[str]


@cache
def load_words() -> Words:
    """Read and compile judge.toml, once."""
    text = resources.files("unixcxr.cleaning").joinpath("judge.toml").read_text(encoding="utf-8")
    table: dict[str, dict[str, list[str]]] = tomllib.loads(text)
    size = "|".join(words for group in table["size"].values() for words in group)
    change = "|".join(table["change"]["change"])
    visible = "|".join(table["visible"]["visible"])
    elsewhere = "|".join([*table["earlier"]["earlier"], *table["aside"]["advice"]])
    return Words(
        side=_compile(_named(table["side"])),
        size=_compile(_named(table["size"])),
        device=_compile(_named(table["device"])),
        aside=_compile("|".join(words for group in table["aside"].values() for words in group)),
        technique=_compile("|".join(table["technique"]["technique"])),
        resolved=_compile("|".join(table["resolved"]["resolved"])),
        elsewhere=_compile(elsewhere, tail=r"[^.;,]*"),
        degree_of_change=_compile(
            rf"(?:{size})(?=,?\s+(?:{change})\b)|(?:{change})\s+(?:is\s+)?(?:{size})(?=\s*[.,;]|$)"
        ),
        prior=_compile("|".join(table["prior"]["prior"]).replace("VISIBLE", visible)),
    )


def _named(groups: dict[str, list[str]]) -> str:
    return "|".join(f"(?P<{name}>{'|'.join(words)})" for name, words in groups.items())


def _compile(words: str, tail: str = "") -> re.Pattern[str]:
    spaced = words.replace(" ?", r"[\s-]*").replace(" ", r"[\s-]+")
    return re.compile(rf"(?<![a-z])(?:{spaced})(?![a-z]){tail}", re.IGNORECASE)


@dataclass(frozen=True)
class Bound:
    """A label with the side and the size that stand in its own clause; None where none or several stand there."""

    label: str
    side: str | None
    size: str | None


@dataclass(frozen=True)
class Abnormality:
    """Something named that has no label of its own ("hiatal hernia"): its words, their stems, and its state."""

    words: str
    stems: frozenset[str]
    state: str


@dataclass(frozen=True)
class StatedSentence:
    """One sentence with its labels, and whether it is an aside: about a message, an advice or how it was filmed."""

    text: str
    labels: dict[str, str]
    abnormalities: tuple[Abnormality, ...]
    is_aside: bool
    tells_resolution: bool


@dataclass(frozen=True)
class Statements:
    """All that one text states; `required` sets leave out what asides and comparisons alone say."""

    sentences: tuple[StatedSentence, ...]

    def words(self, pattern: re.Pattern[str], required: bool = False) -> set[str]:
        """Return the canonical names (group names of `pattern`) that occur; only in required text if asked."""
        return {match.lastgroup or "" for text in self._texts(required) for match in pattern.finditer(text)}

    def measures(self, required: bool = False) -> set[str]:
        """Return measurements as "number unit", one for each number of "3 x 4 cm"."""
        return {
            f"{number} {_unit(match['unit'])}"
            for text in self._texts(required)
            for match in MEASURES.finditer(text)
            for number in re.findall(r"\d+(?:\.\d+)?", match["numbers"])
        }

    def levels(self, required: bool = False) -> set[str]:
        """Return ribs and vertebrae by number ("6", "t12")."""
        found = set()
        for text in self._texts(required):
            for match in LEVELS.finditer(text):
                found.add(
                    str(int(match["rank"]))
                    if match["rank"]
                    else f"{match['spine'].lower()}{int(match['level'])}"
                )
            found.update(str(ORDINALS.index(match[1].lower()) + 1) for match in RIBS.finditer(text))
        return found

    def sided_nouns(self) -> set[tuple[str, str]]:
        """Return (side, noun) for each noun that follows a side ("right hemidiaphragm")."""
        return {
            (side.lower(), noun.lower())
            for text in self._texts(False)
            for side, noun in SIDED_NOUN.findall(text)
        }

    def label_states(self, label: str) -> set[str]:
        """Return every state that some sentence gives to the label."""
        return {s.labels[label] for s in self.sentences if label in s.labels}

    def abnormalities(self, required: bool = False) -> list[Abnormality]:
        """Return what is named without having a label; only from required sentences if asked."""
        return [
            found
            for s in self.sentences
            if not (required and (s.is_aside or s.tells_resolution))
            for found in s.abnormalities
        ]

    def stems(self) -> set[str]:
        """Return the stems of all words."""
        return {stem for text in self._texts(False) for stem in _stems(text)}

    def bounds(self) -> set[Bound]:
        """Return each positive or uncertain label with the side and size of its clause."""
        return {bound for s in self.sentences if not s.is_aside for bound in _bounds(s)}

    def near(self, label: str, pattern: re.Pattern[str]) -> set[str]:
        """Return the names said in a sentence that speaks of the label, or in one beside it."""
        found: set[str] = set()
        for index, sentence in enumerate(self.sentences):
            if label in sentence.labels:
                around = self.sentences[max(index - 1, 0) : index + 2]
                found |= {m.lastgroup or "" for s in around for m in pattern.finditer(s.text)}
        return found

    def _texts(self, required: bool) -> Iterable[str]:
        if not required:
            return (sentence.text for sentence in self.sentences)
        kept = (s for s in self.sentences if not s.is_aside and not s.tells_resolution)
        return (without_comparison(sentence.text) for sentence in kept)


def read_statements(text: str) -> Statements:
    """Read the sentences that the labeler reads (no indication, technique or comparison section)."""
    return Statements(tuple(_stated(sentence) for sentence in label_sentences(text)))


def without_comparison(sentence: str) -> str:
    """Drop what is said about an earlier film and how much something changed, so that present facts remain."""
    words = load_words()
    return words.degree_of_change.sub("", words.elsewhere.sub("", sentence))


def _stated(sentence: LabeledSentence) -> StatedSentence:
    words, text = load_words(), sentence.text
    affirms = "positive" in sentence.labels.values()
    filmed = not sentence.labels and words.technique.search(text) is not None
    return StatedSentence(
        text=text,
        labels=dict(sentence.labels),
        abnormalities=_abnormalities(text.lower()),
        is_aside=filmed or (not affirms and words.aside.search(text) is not None),
        tells_resolution=not affirms and words.resolved.search(text) is not None,
    )


def _abnormalities(lowered: str) -> tuple[Abnormality, ...]:
    return tuple(
        Abnormality(words, _stems(words), mention.state)
        for mention in scan(lowered).mentions
        if OTHER in mention.event.labels and mention.state != IGNORED
        for words in (lowered[mention.event.start : mention.event.end],)
    )


def _stems(text: str) -> frozenset[str]:
    """Return the first letters of each longer word, enough to tell "calcified" and "calcification" as one."""
    return frozenset(word[:STEM].lower() for word in re.findall(r"[A-Za-z]{4,}", text))


def _bounds(sentence: StatedSentence) -> Iterator[Bound]:
    """Yield what is bound in each clause; a label of several clauses counts only where it is not denied."""
    spoken = {label for label, state in sentence.labels.items() if state != "negative"}
    text = without_comparison(sentence.text) if spoken else ""
    mentions = [
        (e.start, label) for e in find_events(text.lower()) if e.kind == MENTION for label in e.labels
    ]
    cuts = [0, *(cut.start() for cut in CLAUSE.finditer(text)), len(text)]
    for start, end in itertools.pairwise(cuts):
        clause = text[start:end]
        side, size = _only(load_words().side, clause), _only(load_words().size, clause)
        for label in sorted({label for at, label in mentions if start <= at < end} & spoken):
            repeated = sum(other == label for _, other in mentions) > 1
            if not repeated or any(s.labels.get(label) != "negative" for s in label_sentences(clause)):
                yield Bound(label, side, size)


def _only(pattern: re.Pattern[str], clause: str) -> str | None:
    found = {match.lastgroup for match in pattern.finditer(clause)}
    return found.pop() if len(found) == 1 else None


def _unit(word: str) -> str:
    lowered = word.lower()
    return {"millimet": "mm", "centimet": "cm"}.get(lowered[:8], "ml" if lowered == "cc" else lowered)
