"""From a source to training data: plan, work, finish. Streaming, resumable, and the same however it was run.

    plan     read the source through once and write it down in chunks; know the total and the inputs' fingerprint
    work     run every chunk that is not done (`work.run_chunk`), wherever the runner likes
    finish   decide splits and duplicates over everything, write manifest, shards, dropped rows and the report

A chunk is done when its rows stand under their final name; killing the run at any moment loses at most the chunks in
work. When all is finished the chunks go, and `cleaning.json` remembers the fingerprint: a second run with the same
inputs, settings and code does nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from unixcxr.cleaning.finish import Counts, finish
from unixcxr.cleaning.rewrite import LlmRewriter, RulesRewriter
from unixcxr.cleaning.runners import LocalRunner, Runner
from unixcxr.cleaning.sources import SOURCES, DetectedSource, Found, read_source
from unixcxr.cleaning.work import ChunkTask, chunk_fingerprint, found_to_json, read_chunk, write_plan
from unixcxr.config import to_mapping
from unixcxr.config.cleaning import CleaningConfig
from unixcxr.config.rewriting import RewritingConfig, read_api_key, read_rewriting
from unixcxr.errors import InputError, OutputError

CHUNK_STUDIES = 32
SUMMARY = "cleaning.json"
STAGING = "staging"
CACHE = "llm_cache.sqlite"

Progress = Callable[[str, int, int], None]
"""Told (phase, done, total) as a run goes on; the total is 0 while it is unknown."""


@dataclass(frozen=True)
class CleaningResult:
    """What a run came to. `did_nothing` when everything was there already; `num_transient` reports to try again."""

    out_dir: Path
    source: str
    counts: Counts
    did_nothing: bool = False
    num_chunks_resumed: int = 0

    @property
    def num_transient(self) -> int:
        return self.counts.num_transient


class _Plan(NamedTuple):
    fingerprint: str
    paths: list[Path]
    fingerprints: list[str]
    num_studies: int


def clean(
    config: CleaningConfig,
    out_dir: Path,
    *,
    runner: Runner | None = None,
    limit: int | None = None,
    environment: Mapping[str, str] | None = None,
    progress: Progress = lambda phase, done, total: None,
) -> CleaningResult:
    """Clean a source into `out_dir`; go on where an earlier run stopped, do nothing where it was finished.

    `limit` takes the first studies only. `environment` is where a language model's server and key are looked up.
    Raises InputError when the source is nothing we know, RecordError for a table without a needed column,
    ConfigError for settings that do not fit, OutputError when the folder cannot be written. Single bad files and
    reports never raise: they are dropped rows with their reason.
    """
    environment = environment or {}
    detected, studies = read_source(config.source)
    if limit is not None:
        studies = islice(studies, limit)
    rewriting = None
    if config.rewrite.kind == "llm":
        rewriting = read_rewriting(config.rewrite.llm, environment, source="rewrite.llm")
    staging = _make_staging(out_dir, detected)
    plan = _make_plan(studies, staging, _base_fingerprint(config, detected, limit, rewriting), progress)
    finished = _finished(out_dir, plan.fingerprint)
    if finished is not None:
        shutil.rmtree(staging, ignore_errors=True)
        return CleaningResult(out_dir, detected.kind, finished, did_nothing=True)
    if plan.num_studies == 0:
        shutil.rmtree(staging, ignore_errors=True)
        raise InputError(
            f"{config.source.path}: no study found as {detected.kind!r}; docs/data.md shows the layouts"
        )

    runner = runner or LocalRunner()
    terms = config.source.license or SOURCES[detected.kind].license
    template = ChunkTask(
        "", config, rewriting, str(out_dir / CACHE), read_api_key(environment), license=terms
    )
    if rewriting is not None:
        template = replace(template, rewriting=_share(rewriting, getattr(runner, "num_workers", None) or 1))
    num_resumed = _work(plan, template, runner, progress)
    counts = finish(config, detected.kind, out_dir, plan.paths, plan.fingerprint, progress)
    if counts.num_transient == 0:
        shutil.rmtree(staging, ignore_errors=True)
    else:
        _forget_transient(plan)
    return CleaningResult(out_dir, detected.kind, counts, num_chunks_resumed=num_resumed)


def _make_staging(out_dir: Path, detected: DetectedSource) -> Path:
    """Make the folder of the chunks; refuse one that the source would read as its own files."""
    root = detected.root.resolve()
    source, target = root if root.is_dir() else root.parent, out_dir.resolve()
    if source == target or (detected.kind == "dicom" and source in target.parents):
        where = "is the source itself" if source == target else "lies in the folder that is read"
        raise OutputError(f"{out_dir}: {where}; write the clean data elsewhere")
    staging = out_dir / STAGING
    try:
        staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {out_dir}: {error.strerror}; choose a folder that you may write to"
        ) from None
    return staging


def _make_plan(studies: Iterator[Found], staging: Path, base: str, progress: Progress) -> _Plan:
    """Write the studies down in chunks, each with the fingerprint of all that its result depends on."""
    whole = hashlib.sha256(base.encode())
    paths: list[Path] = []
    fingerprints: list[str] = []
    num_studies = 0
    while chunk := list(islice(studies, CHUNK_STUDIES)):
        digest = hashlib.sha256(base.encode())
        for found in chunk:
            digest.update(found_to_json(found).encode())
            for image in found.study.image_paths:
                digest.update(_state(image).encode())
        path = staging / f"{len(paths):06d}.plan"
        write_plan(path, digest.hexdigest(), chunk)
        whole.update(digest.digest())
        paths.append(path)
        fingerprints.append(digest.hexdigest())
        num_studies += len(chunk)
        progress("Reading the source", num_studies, 0)
    for left_over in staging.glob("*.plan"):
        if int(left_over.stem.partition(".")[0]) >= len(paths):
            left_over.unlink()
    return _Plan(whole.hexdigest(), paths, fingerprints, num_studies)


def _work(plan: _Plan, template: ChunkTask, runner: Runner, progress: Progress) -> int:
    """Run every chunk that is not done; return how many were."""
    tasks = (replace(template, plan_path=str(path)) for path in plan.paths)
    pending = [
        task
        for task, fingerprint in zip(tasks, plan.fingerprints, strict=True)
        if chunk_fingerprint(task.rows_path) != fingerprint
    ]
    num_done = len(plan.paths) - len(pending)
    progress("Cleaning", min(num_done * CHUNK_STUDIES, plan.num_studies), plan.num_studies)

    def done(task: ChunkTask) -> None:
        nonlocal num_done
        num_done += 1
        progress("Cleaning", min(num_done * CHUNK_STUDIES, plan.num_studies), plan.num_studies)

    resumed = num_done
    runner.run(pending, done)
    return resumed


def _forget_transient(plan: _Plan) -> None:
    """Take away the rows of chunks with reports to try again, so that the next run works on them once more."""
    for path in plan.paths:
        rows_path = path.with_suffix(".rows")
        if any(study.is_transient for study in read_chunk(rows_path).studies):
            rows_path.unlink()


def _finished(out_dir: Path, fingerprint: str) -> Counts | None:
    """Return the counts of a finished run with this fingerprint whose files are all there."""
    try:
        summary = json.loads((out_dir / SUMMARY).read_text(encoding="utf-8"))
        if summary["fingerprint"] != fingerprint or not summary["is_complete"]:
            return None
        if any((out_dir / name).stat().st_size != size for name, size in summary["files"].items()):
            return None
        return Counts(**summary["counts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _base_fingerprint(
    config: CleaningConfig, detected: DetectedSource, limit: int | None, rewriting: RewritingConfig | None
) -> str:
    if rewriting is None:
        rewriter = RulesRewriter.fingerprint
    else:
        with LlmRewriter(rewriting, cache_path=":memory:") as model:
            rewriter = model.fingerprint
    parts = [
        detected.kind,
        str(limit),
        rewriter,
        code_fingerprint(),
        json.dumps(to_mapping(config), sort_keys=True),
    ]
    return "\x1f".join(parts)


@functools.cache
def code_fingerprint() -> str:
    """Return a hash of the code and the data files that decide what comes out: cleaning, labels, config, records."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256((package / "records.py").read_bytes())
    for room in ("cleaning", "labels", "config"):
        for path in sorted((package / room).rglob("*")):
            if path.suffix in (".py", ".toml", ".md", ".html"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _state(path: str) -> str:
    """Return what tells whether a file is still the same without reading it."""
    if not path:
        return ""
    try:
        status = Path(path).stat()
    except OSError:
        return "missing"
    return f"{status.st_size}:{status.st_mtime_ns}"


def _share(rewriting: RewritingConfig, num_workers: int) -> RewritingConfig:
    """Divide the limits of one server among the workers, so that together they keep them."""
    return replace(
        rewriting,
        concurrency=max(1, rewriting.concurrency // num_workers),
        requests_per_minute=rewriting.requests_per_minute / num_workers,
        tokens_per_minute=rewriting.tokens_per_minute / num_workers,
    )
