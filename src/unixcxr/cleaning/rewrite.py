"""Turn a raw report into a clean one, or say why not: by the rules alone, or by a language model.

Whatever rewrites, the deterministic judge (`judge`) has the last word. Contract of the prompts, the model's own
judgement, and what leaves the machine: docs/rewriting.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from unixcxr.cleaning.judge import Verdict, judge_report

if TYPE_CHECKING:
    from unixcxr.cleaning.rules import CleanReport


@dataclass(frozen=True)
class Rejection:
    """Why a report was not rewritten.

    `reason` is short, for counting; `detail` explains it and may quote words of the report. A transient one
    (the server was away) says nothing about the report: another run may succeed, so it must not be remembered.
    """

    reason: str
    detail: str = ""
    transient: bool = False


class Rewriter(Protocol):
    """What the pipeline asks of a rewriter."""

    @property
    def fingerprint(self) -> str:
        """Return a text that changes whenever the same report may come out differently."""
        ...

    def rewrite(self, study_id: str, raw_report: str) -> CleanReport | Rejection:
        """Rewrite one report."""
        ...

    def rewrite_many(self, items: Iterable[tuple[str, str]]) -> Iterator[tuple[str, CleanReport | Rejection]]:
        """Rewrite a stream of (study id, raw report); answers come in the order of the items."""
        ...


class RulesRewriter:
    """The default: the cleaning rules, then the deterministic judge. Needs no network."""

    fingerprint = "rules 1"

    def rewrite(self, study_id: str, raw_report: str) -> CleanReport | Rejection:
        """Clean one report by rules; reject it with the judge's complaints where meaning was lost."""
        from unixcxr.cleaning.rules import clean_report

        clean = clean_report(raw_report)
        verdict = judge_report(raw_report, clean)
        return clean if verdict.accepted else rejection(verdict)

    def rewrite_many(self, items: Iterable[tuple[str, str]]) -> Iterator[tuple[str, CleanReport | Rejection]]:
        """Clean a stream of (study id, raw report) one by one."""
        for study_id, raw_report in items:
            yield study_id, self.rewrite(study_id, raw_report)


def rejection(verdict: Verdict) -> Rejection:
    """Make a rejection of a verdict: the kind of the first complaint, and all complaints as its detail."""
    return Rejection(f"judge: {verdict.kinds[0]}", "; ".join(verdict.complaints))
