"""Clean a raw report by rules alone: FINDINGS and IMPRESSION, without priors, messages, dates and marks.

Every sentence is mended phrase by phrase; one that cannot be mended safely is dropped whole, and both are recorded.
What must hold of a mended sentence: its labels, sides, measurements and devices are those of the raw one, and no
reference to an earlier examination is left. The rules themselves are in rules.toml.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

from unixcxr.cleaning.draft import Draft
from unixcxr.cleaning.facts import MEASURES, load_words
from unixcxr.cleaning.sections import split_report
from unixcxr.cleaning.tidy import tidy
from unixcxr.labels import label_report
from unixcxr.labels.report import sentence_states
from unixcxr.labels.text import heading_pattern, split_sentences
from unixcxr.records import Change

MAX_ROUNDS = 12
"""Rounds of rules per sentence; each round must change something, and real sentences need at most four."""

BROKEN = re.compile(
    r"\b(?:the|an?|no|of|in|with|and|or|to|at|from|than|is|are|was|were|has|have|but|which|that|as|appears?|also|"
    r"not|be|readily|more|most|seen on|noted on)[.,;/]?$"
    r"|\b(?:which|that)(?: was| were| is| are)?[.,;/]|\b(?:was|is|are|were) and\b"
    r"|\b(?:the|an?|no) (?:is|are|was|were|of|and|or|has|have|appears?|in|with|to|at|from|on|the|an?|no|which|"
    r"that|there|bilaterally)\b"
    r"|\b(?:of|in|with|at|from|to) (?:of|in|with|at|from|to|is|are|was|were|and|or)\b"
    r"|\b(?:is|are|was|were) (?:is|are|was|were|has|have)\b"
    r"|^(?:is|are|of|and|or|was|were|has|have|to|than|by|which|that|but|as|from)\b"
    r"|\b(\w+) \1\b|[,;:] ?[,;:.]|\b(?:and|or|,) (?:and|or)\b",
    re.IGNORECASE,
)
"""What a mended sentence looks like when a word that held it together is gone."""

MARK = re.compile(r"_{2,}|X{3,}|\[\*\*")
NEW_DENIED = re.compile(
    r"\b(?:no|without|nor)\b[^.,;]*?\b(?:new|increas\w+|enlarging|worsening|interval|residual)\b",
    re.IGNORECASE,
)
VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|there|seen|noted|appears?|shows?|demonstrates?|projects?|terminates?|ends|"
    r"measur\w+|overl\w+|extends?|may|can|could|remains?|courses?|present|represents?|reflects?)\b",
    re.IGNORECASE,
)
PREDICATE = re.compile(
    r"\b(?:is|are|appears?) |\b(?:clear|normal|unremarkable|intact|within)\b", re.IGNORECASE
)
PRIOR_TALK = ("prior", "communication", "technique", "date")
"""Rules whose removed words may name a side, a device or a measurement of an earlier examination."""


@dataclass(frozen=True)
class CleanReport:
    """A clean report, and every change that led to it, with spans in the raw text."""

    findings: str
    impression: str
    changes: tuple[Change, ...] = ()

    @property
    def text(self) -> str:
        """Return both sections under their headings; an empty section is left out."""
        sections = (("FINDINGS", self.findings), ("IMPRESSION", self.impression))
        return "\n\n".join(f"{heading}: {section}" for heading, section in sections if section)


class Rule(NamedTuple):
    """One phrase rule: what it finds, what it puts there, and when it holds back.

    It is tried only where one of `needs` stands in the sentence (for speed; empty means always).
    `unless` must not be found in the match (in its last group, if it has groups); with `after_finding` the text
    before the match must say something of its own.
    """

    name: str
    pattern: re.Pattern[str]
    replace: str
    unless: re.Pattern[str] | None
    after_finding: bool
    needs: tuple[str, ...]


class DropRule(NamedTuple):
    """A rule for whole sentences that say nothing of the image.

    With `spares` = "none" it leaves alone a sentence that affirms a finding; with "mend" such a sentence goes only
    if the phrase rules do not cure it; with "" every sentence goes.
    """

    name: str
    pattern: re.Pattern[str]
    spares: str

    def holds(self, text: str, states: dict[str, str], mended: bool) -> bool:
        """Say whether the sentence must go."""
        affirms = "positive" in states.values() or "uncertain" in states.values()
        spared = affirms and (self.spares == "none" or (self.spares == "mend" and not mended))
        return not spared and self.pattern.search(text) is not None


class RuleBook(NamedTuple):
    """The rules of rules.toml, compiled."""

    drops: tuple[DropRule, ...]
    phrases: tuple[Rule, ...]


@cache
def load_rules() -> RuleBook:
    """Read and compile rules.toml, once."""
    text = resources.files("unixcxr.cleaning").joinpath("rules.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    words: dict[str, str] = {}
    for name, pattern in table["words"].items():
        words[name] = _expand(pattern, words)

    def compiled(pattern: str) -> re.Pattern[str]:
        return re.compile(_expand(pattern, words), re.IGNORECASE)

    drops = tuple(DropRule(d["name"], compiled(d["pattern"]), d.get("labels", "")) for d in table["drop"])
    phrases = tuple(
        Rule(
            rule["name"],
            compiled(rule["pattern"]),
            rule["replace"],
            compiled(rule["unless"]) if "unless" in rule else None,
            rule.get("after") == "finding",
            tuple(rule.get("needs", ())),
        )
        for rule in table["rule"]
    )
    return RuleBook(drops, phrases)


def _expand(pattern: str, words: dict[str, str]) -> str:
    for name, meaning in words.items():
        pattern = pattern.replace(f"<{name}>", meaning)
    return pattern


def clean_report(text: str) -> CleanReport:
    """Clean a report: split it into sections, mend or drop each sentence, and record every change.

    Deterministic and idempotent: cleaning the `text` of a clean report changes nothing.
    """
    kept: dict[str, list[str]] = {"findings": [], "impression": []}
    changes: list[Change] = []
    affirmed = {label for label, state in label_report(text).items() if state in ("positive", "uncertain")}
    for part in split_report(text):
        if part.place == "out":
            span = (part.start, part.end)
            changes.append(Change(f"section: {part.reason}", span, text[slice(*span)], ""))
            continue
        reached = part.start
        for start, end in split_sentences(text, part.start, part.end):
            if text[reached:start].strip():
                changes.append(Change("list number", (reached, start), text[reached:start], ""))
            reached = end
            draft = clean_sentence(text, start, end, affirmed)
            changes += draft.changes
            if draft.text:
                kept[part.place].append(draft.text)
    return CleanReport(" ".join(kept["findings"]), " ".join(kept["impression"]), tuple(changes))


def clean_sentence(raw: str, start: int, end: int, affirmed: set[str]) -> Draft:
    """Mend or drop the sentence raw[start:end]; `affirmed` are the labels that the whole report affirms."""
    draft = Draft(raw, start, end)
    tidy(draft)
    original = draft.text
    states = sentence_states(original)
    rules = load_rules()
    for rule in rules.drops:
        if rule.holds(original, states, mended=False):
            draft.drop(rule.name)
            return draft
    if NEW_DENIED.search(original) and any(states.get(label) == "negative" for label in affirmed):
        draft.drop("no new")
        return draft
    for _ in range(MAX_ROUNDS):
        before = draft.text
        for phrase in rules.phrases:
            apply_rule(draft, phrase)
            if not draft.text:
                return draft
        tidy(draft)
        if draft.text == before:
            break
    reason = why_unsafe(draft, original, states)
    if reason:
        draft.drop(reason)
    return draft


def apply_rule(draft: Draft, rule: Rule) -> None:
    """Apply one phrase rule wherever it holds; drop the sentence where it would leave no finding."""
    if rule.needs:
        lowered = draft.text.lower()
        if not any(word in lowered for word in rule.needs):
            return
    place = 0
    while match := rule.pattern.search(draft.text, place):
        if match.start() == match.end() or (rule.unless and rule.unless.search(match[match.lastindex or 0])):
            place = match.end() + 1
            continue
        rest = draft.text[match.end() :].strip(" .;,")
        said = draft.text[: match.start()]
        if rule.after_finding and not (sentence_states(said) or PREDICATE.search(said)):
            if not rest:
                draft.drop("change only")
                return
            place = match.end()
            continue
        new = LOST_CAPITAL.sub(lambda capital: capital[0].lower(), match.expand(rule.replace))
        draft.replace(match.start(), match.end(), new, rule.name)
        if rule.after_finding and not rest and not VERB.search(draft.text):
            article = re.match(r"(?:the|an?) ", draft.text, re.IGNORECASE)
            if article:
                draft.replace(0, article.end(), "", rule.name)
        place = match.start() + len(new)


LOST_CAPITAL = re.compile(r"(?<=^No )[A-Z](?=[a-z])(?!(?<=K)erley|(?<=S)wan|(?<=D)obb?hoff|(?<=H)ickman)")
"""The capital of a word that began the sentence before a rule put "No" in front of it; names keep theirs."""


def why_unsafe(draft: Draft, original: str, states: dict[str, str]) -> str | None:
    """Return why a mended sentence cannot stand, or None when it can."""
    text = draft.text
    if not any(character.isalpha() for character in text):
        return "nothing left"
    after = sentence_states(text)
    for rule in load_rules().drops:
        if rule.holds(text, after, mended=True):
            return rule.name
    for kind, pattern in (
        ("prior", load_words().prior),
        ("de-identification mark", MARK),
        ("date", load_dates()),
    ):
        if pattern.search(text):
            return kind
    if heading_pattern().search(text):
        return "heading"
    if text == original:
        return None
    if BROKEN.search(text) and not BROKEN.search(original):
        return "broken"
    if after != states:
        return "meaning"
    return "word" if words_differ(draft, original) else None


def words_differ(draft: Draft, original: str) -> bool:
    """Say whether a side, device or measurement came, or went other than with talk of an earlier examination."""
    removed = " ".join(change.before for change in draft.changes if change.rule.startswith(PRIOR_TALK))
    for pattern in (load_words().side, load_words().device, MEASURES):
        had, has, gone = (
            {match.lastgroup if pattern is not MEASURES else match[0] for match in pattern.finditer(text)}
            for text in (original, draft.text, removed)
        )
        if has - had or had - has - gone:
            return True
    return False


@cache
def load_dates() -> re.Pattern[str]:
    """Return the pattern of the rule that takes dates out: what it still finds must not stay."""
    return next(rule.pattern for rule in load_rules().phrases if rule.name == "date")
