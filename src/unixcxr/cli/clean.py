"""`unixcxr clean`: turn hospital files into training data."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unixcxr.cli import options
from unixcxr.cli.console import print_json, print_table, say
from unixcxr.errors import ConfigError

if TYPE_CHECKING:
    from unixcxr.cleaning.pipeline import CleaningResult
    from unixcxr.config.cleaning import CleaningConfig

LINE_EVERY_S = 10.0


def clean(
    source: Annotated[
        str,
        typer.Argument(metavar="CONFIG|SOURCE", help="A TOML file, or the folder or table to read as it is."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for manifest, shards and report.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override a setting; repeatable."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--source", help="Force the layout instead of recognising it; docs/data.md lists them."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read the first studies only.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: all cores.")] = None,
    runner: Annotated[
        str, typer.Option(help="'local', or 'ray' for a cluster (the extra unixcxr[ray]).")
    ] = "local",
    dry_run: Annotated[
        int | None,
        typer.Option(
            min=1, help="Let the language model rewrite the first N reports only; show them on a page."
        ),
    ] = None,
    json_output: options.Json = False,
) -> int:
    """Clean studies into a manifest, training shards and a report that accounts for every image.

    Recognises MIMIC-CXR, MIMIC-CXR-JPG, LLaVA-Rad, CheXGenBench, IU X-ray, CheXpert (Plus), PadChest, ChestX-ray14,
    a table beside a folder of images, and plain folders of DICOM files. Bad files and reports are dropped with their
    reason and never stop the run. Stop it with Ctrl-C and start it again to go on; a finished run is not repeated.

    [bold]Example:[/bold] unixcxr clean physionet.org/files/mimic-cxr-jpg/2.1.0 --out clean/mimic
    """
    from unixcxr.cleaning.pipeline import clean as run_cleaning
    from unixcxr.cleaning.runners import make_runner
    from unixcxr.config.cleaning import read_cleaning_config

    overrides = list(settings or ())
    if kind is not None:
        overrides.append(f"source.kind={kind}")
    config = read_cleaning_config(source, overrides)
    if out.is_file():
        raise ConfigError(f"--out {out} is a file; name a folder")
    _announce(config)
    if dry_run is not None:
        return _dry_run(config, out, dry_run, json_output)
    try:
        with _progress() as advance:
            result = run_cleaning(
                config,
                out,
                runner=make_runner(runner, workers),
                limit=limit,
                environment=os.environ,
                progress=advance,
            )
    except KeyboardInterrupt:
        say(f"stopped; the same command goes on from here ({out})")
        return 130
    _show(result, json_output)
    if config.rewrite.kind == "llm":
        _show_usage(config, out)
    return 1 if result.num_transient else 0


def _announce(config: CleaningConfig) -> None:
    """Say where report text goes before any of it leaves this machine."""
    if config.rewrite.kind == "llm":
        from unixcxr.cleaning.llm import destination_notice
        from unixcxr.config.rewriting import read_rewriting

        notice = destination_notice(read_rewriting(config.rewrite.llm, os.environ, source="rewrite.llm"))
        if notice:
            say(notice)


def _dry_run(config: CleaningConfig, out: Path, count: int, json_output: bool) -> int:
    from unixcxr.cleaning.rewrite import Rejection
    from unixcxr.cleaning.rewrite_page import dry_run_source

    traces, page_path = dry_run_source(config, out, count, os.environ)
    rejections = [trace.outcome for trace in traces if isinstance(trace.outcome, Rejection)]
    if json_output:
        rows = [
            {"id": t.study_id, "tries": len(t.attempts), "rejected": getattr(t.outcome, "reason", None)}
            for t in traces
        ]
        print_json({"page": str(page_path), "reports": rows})
    say(f"accepted {len(traces) - len(rejections)} of {len(traces)} reports; wrote {page_path}")
    return 1 if any(rejection.transient for rejection in rejections) else 0


def _show_usage(config: CleaningConfig, out: Path) -> None:
    """Say what the language model's answers in the cache amount to, those of earlier runs included."""
    from unixcxr.cleaning.llm import usage_of_cache
    from unixcxr.cleaning.llm_cache import AnswerCache
    from unixcxr.cleaning.pipeline import CACHE
    from unixcxr.config.rewriting import read_rewriting

    cache = AnswerCache(out / CACHE)
    usage = usage_of_cache(cache)
    cache.close()
    cost = usage.cost(read_rewriting(config.rewrite.llm, os.environ, source="rewrite.llm").prices)
    given, written = (sum(counts[i] for counts in usage.tokens.values()) for i in (0, 1))
    price = "no price given" if cost is None else f"cost {cost:.4f}"
    uncounted = f" ({usage.uncounted:,} answers without a count)" if usage.uncounted else ""
    say(f"language model: {usage.calls:,} answers, {given:,} tokens in, {written:,} out{uncounted}, {price}")


def _show(result: CleaningResult, json_output: bool) -> None:
    counts = result.counts
    if json_output:
        print_json(
            {
                "source": result.source,
                "out": str(result.out_dir),
                "did_nothing": result.did_nothing,
                **dataclasses.asdict(counts),
            }
        )
        return
    if result.did_nothing:
        say(f"nothing to do: {result.out_dir} is up to date (same inputs, settings and code)")
    rows = [("read", "", f"{counts.num_read:,}")]
    for reason, number in counts.reasons.items():
        stage, _, what = reason.partition(": ")
        rows.append((f"dropped ({stage})", what, f"{number:,}"))
    rows.append(
        ("kept", ", ".join(f"{split} {n:,}" for split, n in counts.splits.items()), f"{counts.num_kept:,}")
    )
    rows += [("  with note", note, f"{number:,}") for note, number in counts.notes.items()]
    print_table((f"{result.source}", f"{counts.num_studies:,} studies", "images"), rows)
    if counts.crossings:
        say(f"{counts.crossings:,} duplicates cross splits; see {result.out_dir / 'cleaning_report.html'}")
    if result.num_transient:
        say(f"{result.num_transient:,} reports wait for the server; run the same command to try them again")
    say(f"wrote {result.out_dir / 'cleaning_report.html'}")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show each phase with its rate and the time left: a bar on a terminal, a line every few seconds elsewhere."""
    if sys.stderr.isatty():
        with _bar() as advance:
            yield advance
    else:
        yield _Lines().advance


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    clock = _Clock()
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def advance(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=None, rate="")
            bar.update(
                tasks[phase], completed=done, total=total or None, rate=f"{clock.rate(phase, done):,.0f}/s"
            )

        yield advance


class _Clock:
    """Knows how fast each phase goes since it began in this run."""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[float, int]] = {}

    def rate(self, phase: str, done: int) -> float:
        started, first = self._begun.setdefault(phase, (time.perf_counter(), done))
        return (done - first) / max(1e-9, time.perf_counter() - started)


class _Lines:
    """Says how far a run has come, now and then."""

    def __init__(self) -> None:
        self._clock = _Clock()
        self._said = time.perf_counter()

    def advance(self, phase: str, done: int, total: int) -> None:
        rate = self._clock.rate(phase, done)
        if time.perf_counter() - self._said < LINE_EVERY_S:
            return
        self._said = time.perf_counter()
        of = f" of {total:,}" if total else ""
        left = f", {_duration((total - done) / rate)} left" if total and rate else ""
        say(f"{phase}: {done:,}{of}, {rate:,.1f}/s{left}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
