"""A dry run of rewriting as one self-contained HTML page: raw and clean side by side, complaints, tokens, cost."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from unixcxr.atomic import require_writable, write_text
from unixcxr.cleaning.judge import report_text
from unixcxr.cleaning.llm_prompts import load_prompts
from unixcxr.cleaning.pipeline import CACHE
from unixcxr.cleaning.rewrite import Attempt, LlmRewriter, Rejection, Trace, changes_between
from unixcxr.cleaning.sources import read_source
from unixcxr.config.cleaning import CleaningConfig
from unixcxr.config.rewriting import read_api_key, read_rewriting
from unixcxr.errors import ConfigError

_JUDGES = {
    "form": "not the asked form",
    "rules": "refused by the rules",
    "model": "refused by the model",
    "": "accepted",
}


def dry_run(
    rewriter: LlmRewriter, items: Iterable[tuple[str, str]], count: int, page_path: str | os.PathLike[str]
) -> list[Trace]:
    """Rewrite the first `count` of (study id, raw report), write the page, and return how each went.

    The answers stay in the rewriter's cache: the full run does not ask for them again. Raises OutputError when the
    page cannot be written (before anything is asked) and what `LlmRewriter.rewrite_many` raises.
    """
    require_writable(page_path)
    traces = rewriter.trace_many(items, count)
    write_text(page_path, render_page(traces, rewriter))
    return traces


def dry_run_source(
    config: CleaningConfig, out_dir: Path, count: int, environment: Mapping[str, str]
) -> tuple[list[Trace], Path]:
    """Rewrite the first `count` reports of a source and write `dry_run.html` into `out_dir`; return both.

    The answers lie where `pipeline.clean` looks for them. Raises ConfigError unless a language model rewrites.
    """
    if config.rewrite.kind != "llm":
        raise ConfigError(
            'a dry run shows what a language model writes; set rewrite.kind = "llm" (docs/rewriting.md)'
        )
    settings = read_rewriting(config.rewrite.llm, environment, source="rewrite.llm")
    _, studies = read_source(config.source)
    items = ((f.study.id, f.study.report) for f in studies if f.has_text and not f.report_problem)
    page_path = out_dir / "dry_run.html"
    with LlmRewriter(
        settings, cache_path=out_dir / CACHE, api_key=read_api_key(environment), announce=False
    ) as rewriter:
        return dry_run(rewriter, items, count, page_path), page_path


def render_page(traces: Sequence[Trace], rewriter: LlmRewriter) -> str:
    """Return the page: numbers of the run, then each report."""
    settings, prompts = rewriter.settings, load_prompts()
    template = resources.files("unixcxr.cleaning").joinpath("rewrite_page.html").read_text(encoding="utf-8")
    judge = (
        f"{settings.judging_model} judged them" if settings.judge_with_model else "only the rules judged them"
    )
    return Template(template).substitute(
        model=escape(settings.model),
        count=len(traces),
        prompts=escape(prompts.name),
        judge=escape(judge),
        numbers="\n".join(
            f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in _numbers(traces, rewriter)
        ),
        articles="\n".join(_article(trace) for trace in traces),
    )


def _numbers(traces: Sequence[Trace], rewriter: LlmRewriter) -> list[tuple[str, str]]:
    usage, cost = rewriter.usage, rewriter.cost
    kept = sum(not isinstance(trace.outcome, Rejection) for trace in traces)
    at_once = sum(len(trace.attempts) == 1 for trace in traces if not isinstance(trace.outcome, Rejection))
    given = sum(counts[0] for counts in usage.tokens.values())
    written = sum(counts[1] for counts in usage.tokens.values())
    rows = [
        ("accepted", f"{kept} of {len(traces)}"),
        ("at the first try", f"{at_once}"),
        ("calls (from the cache)", f"{usage.calls:,} ({usage.cached:,})"),
        ("tokens in / out", f"{given:,} / {written:,}"),
        ("cost", "no price given" if cost is None else f"{cost:.4f}"),
    ]
    if cost and not usage.cached:
        rows.append(("cost of 1,000 reports", f"{1000 * cost / len(traces):.2f}"))
    return rows


def _article(trace: Trace) -> str:
    outcome = trace.outcome
    last = trace.attempts[-1] if trace.attempts else None
    clean = report_text(last.findings, last.impression) if last else ""
    if isinstance(outcome, Rejection):
        badge = f'<span class="badge rejected">{escape(outcome.reason)}</span>'
    else:
        badge = '<span class="badge kept">accepted</span>'
    tries = f"{len(trace.attempts)} {'try' if len(trace.attempts) == 1 else 'tries'}"
    before = _marked(trace.raw_report, clean, "del") if last else escape(trace.raw_report)
    after = _marked(clean, trace.raw_report, "ins")
    return f"""<article>
<header><h2>{escape(trace.study_id)}</h2>{badge}<span class="tries">{tries}</span></header>
<div class="sides">
<section><h3>Raw report</h3><pre>{before}</pre></section>
<section><h3>{"Last try" if isinstance(outcome, Rejection) else "Clean report"}</h3><pre>{after}</pre></section>
</div>
{_complaints(trace)}</article>"""


def _complaints(trace: Trace) -> str:
    """Return what was said about each refused try, folded up; nothing where there was none."""
    refused = [(n, attempt) for n, attempt in enumerate(trace.attempts, 1) if not attempt.verdict.accepted]
    if not refused:
        if isinstance(trace.outcome, Rejection):
            return f"<details open><summary>{escape(trace.outcome.detail)}</summary></details>\n"
        return ""
    items = "\n".join(f"<li>{_refusal(number, attempt)}</li>" for number, attempt in refused)
    return f"<details open><summary>Complaints</summary>\n<ul>\n{items}\n</ul>\n</details>\n"


def _refusal(number: int, attempt: Attempt) -> str:
    said = "; ".join(attempt.verdict.complaints)
    return f"Try {number}, {_JUDGES[attempt.judged_by]}: {escape(said)}"


def _marked(text: str, other: str, tag: str) -> str:
    """Return the text, escaped, with what `other` does not share marked."""
    parts, at = [], 0
    for change in changes_between(text, other, "") if text != other else ():
        start, end = change.span
        if start < end:
            parts += [escape(text[at:start]), f"<{tag}>{escape(text[start:end])}</{tag}>"]
            at = end
    return "".join([*parts, escape(text[at:])])
