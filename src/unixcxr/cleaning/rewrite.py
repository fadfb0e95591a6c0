"""Turn a raw report into a clean one, or say why not: by the rules alone, or by a language model.

Whatever rewrites, the deterministic judge (`judge`) has the last word. Contract of the prompts, the model's own
judgement, and what leaves the machine: docs/rewriting.md.
"""

from __future__ import annotations

import difflib
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from unixcxr.cleaning.judge import Verdict, judge_report, judge_texts, report_text
from unixcxr.cleaning.llm import Answer, ChatClient, RequestRefusedError, ServerUnavailableError, Usage
from unixcxr.cleaning.llm_cache import AnswerCache
from unixcxr.cleaning.llm_prompts import (
    JUDGE_SCHEMA,
    REWRITE_SCHEMA,
    UnusableAnswerError,
    load_prompts,
    read_judgement,
    read_rewriting,
)
from unixcxr.cleaning.rules import CleanReport, clean_report
from unixcxr.config.rewriting import RewritingConfig
from unixcxr.records import Change

T = TypeVar("T")
_LOOK_AHEAD = 4
"""Reports in flight or finished but not yet asked for, per worker thread."""


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
        clean = clean_report(raw_report)
        verdict = judge_report(raw_report, clean)
        return clean if verdict.accepted else rejection(verdict)

    def rewrite_many(self, items: Iterable[tuple[str, str]]) -> Iterator[tuple[str, CleanReport | Rejection]]:
        """Clean a stream of (study id, raw report) one by one."""
        for study_id, raw_report in items:
            yield study_id, self.rewrite(study_id, raw_report)


@dataclass(frozen=True)
class Attempt:
    """One answer of the rewriting model: what it wrote, who objected ("form", "rules", "model"; "" nobody)."""

    findings: str
    impression: str
    judged_by: str
    verdict: Verdict


@dataclass(frozen=True)
class Trace:
    """Everything that happened to one report on its way."""

    study_id: str
    raw_report: str
    attempts: tuple[Attempt, ...]
    outcome: CleanReport | Rejection


class LlmRewriter:
    """Rewrite by a language model: rewrite, judge by rules, judge by the model, and again with the complaints.

    Answers are kept in the SQLite file `cache_path`, so a run that was killed goes on without repeating a call.
    `api_key` comes from the caller, who reads the environment. `announce=False` is for a caller that has shown
    `llm.destination_notice` itself. A context manager: leaving it closes the cache.

    Raises OutputError when the cache cannot be used; `rewrite` and `rewrite_many` raise ConfigError when the
    server refuses the key, the model or the address. Any other failure is a Rejection of that one report.
    """

    def __init__(
        self,
        settings: RewritingConfig,
        *,
        cache_path: str | os.PathLike[str],
        api_key: str = "",
        announce: bool = True,
    ) -> None:
        self.settings, self._prompts = settings, load_prompts()
        self._stopping = threading.Event()
        self._cache = AnswerCache(cache_path)
        self._client = ChatClient(settings, self._cache, api_key, self._stopping, announce)

    def __enter__(self) -> LlmRewriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ask nothing more and close the cache."""
        self._stopping.set()
        self._cache.close()

    @property
    def fingerprint(self) -> str:
        """Return models, prompts and the settings that shape an answer."""
        s = self.settings
        judge = s.judging_model if s.judge_with_model else "rules only"
        shape = f"temperature {s.temperature:g} tokens {s.max_answer_tokens} tries {s.max_rewrites}"
        return f"llm {s.model} judge {judge} prompts {self._prompts.name} {shape} {s.structured_output}"

    @property
    def usage(self) -> Usage:
        """Return the counts of this run."""
        return self._client.usage

    @property
    def cost(self) -> float | None:
        """Return what this run cost by the user's price table; None when a used model has no price there."""
        return self.usage.cost(self.settings.prices)

    def rewrite(self, study_id: str, raw_report: str) -> CleanReport | Rejection:
        """Rewrite one report."""
        return self.trace(study_id, raw_report).outcome

    def rewrite_many(self, items: Iterable[tuple[str, str]]) -> Iterator[tuple[str, CleanReport | Rejection]]:
        """Rewrite a stream of (study id, raw report), several at a time; answers come in the order of the items."""
        for trace in self._in_threads(self.trace, items):
            yield trace.study_id, trace.outcome

    def trace_many(self, items: Iterable[tuple[str, str]], count: int) -> list[Trace]:
        """Rewrite the first `count` items and return how each went: a dry run."""
        return list(self._in_threads(self.trace, islice(items, count)))

    def trace(self, study_id: str, raw_report: str) -> Trace:
        """Rewrite one report and return each attempt."""
        attempts: list[Attempt] = []
        if not any(character.isalpha() for character in raw_report):
            return Trace(study_id, raw_report, (), Rejection("empty report", "there is nothing to rewrite"))
        try:
            for attempt in self._attempts(raw_report):
                attempts.append(attempt)
            outcome = self._outcome(raw_report, attempts)
        except ServerUnavailableError as error:
            outcome = Rejection("llm: server unavailable", str(error), transient=True)
        except RequestRefusedError as error:
            outcome = Rejection("llm: request refused", str(error))
        return Trace(study_id, raw_report, tuple(attempts), outcome)

    def _attempts(self, raw: str) -> Iterator[Attempt]:
        """Ask until an answer is accepted, each time with the earlier answers and the complaints about them."""
        messages = self._prompts.rewriting(raw)
        for _ in range(self.settings.max_rewrites):
            answer = self._client.ask(messages, REWRITE_SCHEMA, self.settings.model, self._prompts.digest)
            attempt = self._judged(raw, answer)
            yield attempt
            if attempt.verdict.accepted:
                return
            messages += self._prompts.correction(answer.content, attempt.verdict.complaints)

    def _judged(self, raw: str, answer: Answer) -> Attempt:
        """Judge an answer by its form, then by the rules, then by the model; the first to object decides."""
        try:
            if answer.finish_reason == "length":
                raise UnusableAnswerError("the answer was cut off; write a shorter one")
            findings, impression = read_rewriting(answer.content)
        except UnusableAnswerError as error:
            return Attempt("", "", "form", Verdict(False, (str(error),), ("unusable answer",)))
        verdict = judge_texts(raw, findings, impression)
        if not verdict.accepted:
            return Attempt(findings, impression, "rules", verdict)
        if self.settings.judge_with_model:
            verdict = self._model_verdict(raw, findings, impression)
        return Attempt(findings, impression, "" if verdict.accepted else "model", verdict)

    def _model_verdict(self, raw: str, findings: str, impression: str) -> Verdict:
        """Let the model judge; a judgement without the asked form is asked for once more."""
        messages = self._prompts.judging(raw, findings, impression)
        problem = ""
        for _ in range(2):
            answer = self._client.ask(
                messages, JUDGE_SCHEMA, self.settings.judging_model, self._prompts.digest
            )
            try:
                return read_judgement(answer.content)
            except UnusableAnswerError as error:
                problem = str(error)
                messages = [*messages, *self._prompts.correction(answer.content, [problem])]
        return Verdict(False, (f"no usable judgement: {problem}",), ("unusable judgement",))

    def _outcome(self, raw: str, attempts: Sequence[Attempt]) -> CleanReport | Rejection:
        last = attempts[-1]
        if not last.verdict.accepted:
            complaints = "; ".join(last.verdict.complaints)
            return Rejection(f"llm: {last.verdict.kinds[0]}", f"after {len(attempts)} tries: {complaints}")
        rule = f"llm {self.settings.model} prompts {self._prompts.name}"
        changes = changes_between(raw, report_text(last.findings, last.impression), rule)
        return CleanReport(last.findings, last.impression, changes)

    def _in_threads(self, work: Callable[[str, str], T], items: Iterable[tuple[str, str]]) -> Iterator[T]:
        """Yield the results of `work` in order, a bounded number ahead of the reader.

        A reader that leaves early (or Ctrl-C) waits only for the requests that are already on their way.
        """
        waiting: deque[Future[T]] = deque()
        self._stopping.clear()
        pool = ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix="rewrite")
        try:
            for study_id, raw_report in items:
                waiting.append(pool.submit(work, study_id, raw_report))
                if len(waiting) >= _LOOK_AHEAD * self.settings.concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            if waiting:
                self._stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)


def rejection(verdict: Verdict) -> Rejection:
    """Make a rejection of a verdict: the kind of the first complaint, and all complaints as its detail."""
    return Rejection(f"judge: {verdict.kinds[0]}", "; ".join(verdict.complaints))


def changes_between(raw: str, clean: str, rule: str) -> tuple[Change, ...]:
    """Return the word-by-word changes that lead from the raw text to the clean one; at least one, naming the rule.

    Each span points into the raw text. Together they are one way to read the difference, not the model's own.
    """
    old = list(re.finditer(r"\S+", raw))
    new = re.findall(r"\S+", clean)
    matcher = difflib.SequenceMatcher(None, [match[0] for match in old], new, autojunk=False)
    changes = []
    for tag, first, last, new_first, new_last in matcher.get_opcodes():
        if tag == "equal":
            continue
        start = old[first].start() if first < len(old) else len(raw)
        end = old[last - 1].end() if last > first else start
        changes.append(Change(rule, (start, end), raw[start:end], " ".join(new[new_first:new_last])))
    return tuple(changes) or (Change(rule, (0, len(raw)), raw, clean),)
