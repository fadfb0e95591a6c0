"""Compose a report, a prompt and labels that say exactly the given findings, in varied wording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unixcxr.errors import ConfigError
from unixcxr.phantom import wording
from unixcxr.phantom.finding import DEVICES, PhantomFinding, check_findings
from unixcxr.records import LABELS, LabelState

ReportKind = Literal["phantom", "adult", "paediatric"]

_ADULT_UNNAMED = 0.35
"""How often an adult is not named as one, so that a plain prompt draws an adult."""


@dataclass(frozen=True)
class ComposedReport:
    """One report with its prompt and the labels that its own words state."""

    findings_text: str
    impression_text: str
    prompt: str
    labels: dict[str, LabelState]

    @property
    def text(self) -> str:
        """Return the whole report, one line per section."""
        return f"FINDINGS: {self.findings_text}\nIMPRESSION: {self.impression_text}"


def write_phantom_report(
    findings: Sequence[PhantomFinding],
    rng: np.random.Generator,
    view: str | None = None,
    kind: ReportKind = "phantom",
) -> ComposedReport:
    """Compose a report of the findings and of some that are absent.

    `kind` names what was pictured, in report and prompt; an adult is sometimes left unnamed. Without a `view`
    none is stated. Raises ConfigError for an unknown kind and for findings that cannot stand together.
    """
    if kind not in wording.KIND_WORDS:
        raise ConfigError(f"report kind {kind!r} is unknown; expected one of {', '.join(wording.KIND_WORDS)}")
    chosen = check_findings(findings)
    labels: dict[str, LabelState] = {wording.LABEL_OF[finding.kind]: "positive" for finding in chosen}
    if all(finding.kind in DEVICES for finding in chosen):
        labels["No Finding"] = "positive"
    sentences = [_fill(_pick(wording.SENTENCES[_entry(f)], rng), f, rng) for f in _shuffled(chosen, rng)]
    absent, negative = _absent_sentences(chosen, rng)
    labels.update(dict.fromkeys(negative, "negative"))
    parts = [*sentences, *absent] if rng.random() < 0.8 else [*absent, *sentences]
    opening = _opening(wording.OPENINGS, kind, view, rng)
    return ComposedReport(
        findings_text=" ".join([*opening, *parts]),
        impression_text=_impression(chosen, rng),
        prompt=_prompt(chosen, kind, view, rng),
        labels={label: labels[label] for label in LABELS if label in labels},
    )


def _opening(
    options: tuple[str, ...], kind: ReportKind, view: str | None, rng: np.random.Generator
) -> list[str]:
    if kind == "adult" and rng.random() < _ADULT_UNNAMED:
        return []
    usable = [option for option in options if view or "{view}" not in option]
    text = usable[int(rng.integers(len(usable)))].format(kind=wording.KIND_WORDS[kind], view=view)
    return [_capitalised(text)]


def _absent_sentences(
    chosen: Sequence[PhantomFinding], rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """Return sentences about what is not there, and the labels that they make negative."""
    present = {finding.kind for finding in chosen}
    sentences: list[str] = []
    negative: list[str] = []
    if "cardiomegaly" not in present and rng.random() < 0.85:
        sentence, labels = wording.NORMAL_HEART[int(rng.integers(len(wording.NORMAL_HEART)))]
        sentences.append(sentence)
        negative.extend(labels)
    lungs_clear = present <= {"cardiomegaly", *DEVICES}
    if lungs_clear and rng.random() < 0.8:
        sentences.append(_pick(wording.CLEAR_LUNGS, rng))
    missing = [kind for kind in wording.ABSENT if kind not in present]
    named = [
        kind for kind in missing if rng.random() < (0.85 if kind in ("effusion", "pneumothorax") else 0.5)
    ]
    named = [named[i] for i in rng.permutation(len(named))][: 5 - len(chosen)]
    while named:
        group, named = named[: (take := int(rng.integers(1, 4)))], named[take:]
        listed = _join([_pick(wording.ABSENT[kind], rng) for kind in group], "or")
        sentences.append(_pick(wording.NEGATIONS, rng).format(list=listed))
        negative.extend(wording.LABEL_OF[kind] for kind in group)
    if len(chosen) < 3 and rng.random() < 0.35:
        sentences.append(_pick(wording.FILLERS, rng))
    return [sentences[i] for i in rng.permutation(len(sentences))], negative


def _impression(chosen: Sequence[PhantomFinding], rng: np.random.Generator) -> str:
    if not chosen:
        return _pick(wording.NORMAL_IMPRESSIONS, rng)
    text = _caption(chosen, rng)
    if all(finding.kind in DEVICES for finding in chosen) and rng.random() < 0.5:
        text += " " + _pick(wording.DEVICE_IMPRESSIONS, rng)
    return text


def _prompt(
    chosen: Sequence[PhantomFinding], kind: ReportKind, view: str | None, rng: np.random.Generator
) -> str:
    """Return what a person might ask for: a caption behind the kind, or one sentence around all of it."""
    if not chosen or rng.random() < 0.7:
        return " ".join([*_opening(wording.PROMPT_OPENINGS, kind, None, rng), _caption(chosen, rng)])
    unnamed = kind == "adult" and rng.random() < _ADULT_UNNAMED
    frames = [frame for frame in wording.PROMPT_FRAMES if view or "{view}" not in frame]
    listed = _join([_lowered(phrase) for phrase in _phrases(chosen, rng)], "and")
    word = "" if unnamed else wording.KIND_WORDS[kind]
    return _capitalised(_pick(tuple(frames), rng).format(kind=word, view=view, list=listed).strip())


def _phrases(chosen: Sequence[PhantomFinding], rng: np.random.Generator) -> list[str]:
    return [_fill(_pick(wording.PHRASES[_entry(f)], rng), f, rng) for f in _shuffled(chosen, rng)]


def _caption(chosen: Sequence[PhantomFinding], rng: np.random.Generator) -> str:
    """Return the findings as a few short phrases, or that all is normal."""
    if not chosen:
        return _pick(wording.NORMAL_PROMPTS, rng)
    phrases = _phrases(chosen, rng)
    if len(phrases) > 1 and rng.random() < 0.35:
        return _join([phrases[0], *(_lowered(phrase) for phrase in phrases[1:])], "and") + "."
    return " ".join(phrase + "." for phrase in phrases)


def _entry(finding: PhantomFinding) -> str:
    return f"{finding.kind}_both" if finding.side == "bilateral" else finding.kind


def _fill(template: str, finding: PhantomFinding, rng: np.random.Generator) -> str:
    size = _pick(wording.SIZE_WORDS[finding.kind, finding.size], rng) if finding.size else ""
    adverb = wording.ADVERBS.get(size, "")
    return _capitalised(template.format(side=finding.side, zone=finding.zone, size=size, adverb=adverb))


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _shuffled(findings: Sequence[PhantomFinding], rng: np.random.Generator) -> list[PhantomFinding]:
    return [findings[i] for i in rng.permutation(len(findings))]


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _lowered(text: str) -> str:
    return text[0].lower() + text[1:]


def _join(words: list[str], conjunction: str) -> str:
    if len(words) < 3:
        return f" {conjunction} ".join(words)
    return ", ".join(words[:-1]) + f", {conjunction} {words[-1]}"
