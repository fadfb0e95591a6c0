"""`unixcxr report`: read radiographs and write their reports."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unixcxr.atomic import require_writable, write_text
from unixcxr.cli import engines, findings, options
from unixcxr.cli.console import print_error, progress, say
from unixcxr.cli.inputs import ImageFile, find_images
from unixcxr.errors import ConfigError, InputError

if TYPE_CHECKING:
    from unixcxr.sampling.engine import Engine
    from unixcxr.sampling.report import Report


@dataclass(frozen=True)
class _Result:
    """What became of one input: a report, or the reason why there is none."""

    source: str
    name: Path
    report: Report | None = None
    failure: str | None = None
    seconds: float = 0.0

    def as_row(self) -> dict[str, Any]:
        if self.report is None:
            return {"image": self.source, "failure": self.failure}
        return {
            "image": self.source,
            "report": self.report.text,
            "findings": [finding._asdict() for finding in self.report.findings],
            "seed": self.report.seed,
            "settings": self.report.settings,
            "seconds": round(self.seconds, 3),
        }

    def as_text(self) -> str:
        assert self.report is not None
        found = ((label, state, confidence) for label, state, _, confidence in self.report.findings)
        return f"{self.report.text}\n\n{findings.line(found)}\n"


def report(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Files, folders (searched recursively) or patterns."),
    ],
    prompt: Annotated[str | None, typer.Option(help="What to ask; default: the model's own prompt.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest report; default: the model's own.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy; above it --seed matters.")] = 0.0,
    seed: options.Seed = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images read at once.")] = 8,
    force: Annotated[
        bool, typer.Option("--force", help="Read pictures that do not look like a frontal chest X-ray too.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", help="A file for all reports, or a folder (exists or ends in /) for one each."
        ),
    ] = None,
    json_lines: options.Json = False,
    model: options.Model = "embedded",
    device: options.Device = "cpu",
    dtype: options.DType = "float32",
) -> int:
    """Read chest X-rays (PNG, JPEG, TIFF, DICOM) and write their reports.

    One bad file does not stop the others: it is named, and the exit code is 1. A picture that is unlikely to be
    a frontal chest X-ray is refused with the reason. The confidence beside a finding is the model's own, not
    calibrated.

    [bold]Example:[/bold] unixcxr report folder/ more/*.dcm --json > reports.jsonl
    """
    if seed and not temperature:
        raise ConfigError(
            "--seed has no effect on a greedy report; set --temperature above 0, or leave it out"
        )
    sink = _Sink(out, json_lines)
    files, missing = find_images(images)
    engine = engines.load(model, device, dtype)
    settings = {"prompt": prompt, "max_new_tokens": max_new_tokens, "temperature": temperature}
    if len(files) == 1 and not missing and sink.is_terminal:
        return _stream(engine, files[0], force, {**settings, "seed": seed})

    num_failed = 0
    with sink, progress("Reading", len(files)) as advance:
        for argument, reason in missing:
            num_failed += 1
            sink.take(_Result(argument, Path(argument), failure=reason))
        for first in range(0, len(files), batch_size):
            batch = files[first : first + batch_size]
            for result in _read(engine, batch, force, {**settings, "seeds": [seed] * len(batch)}):
                num_failed += result.failure is not None
                sink.take(result)
            advance(len(batch))
    total = len(files) + len(missing)
    if num_failed and total > 1:
        say(f"{num_failed} of {total} inputs failed")
    return 1 if num_failed else 0


def _stream(engine: Engine, file: ImageFile, force: bool, settings: dict[str, Any]) -> int:
    """Print one report on the terminal as it is written, then what the rule labeler finds in it."""
    from unixcxr.labels import label_sentences

    _refuse_unlikely(engine, file, force)
    pieces = []
    for piece in engine.stream_report(file.path, **settings):
        print(piece, end="", flush=True)
        pieces.append(piece)
    sentences = label_sentences("".join(pieces))
    print(
        f"\n\n{findings.line((label, state, None) for *_, found in sentences for label, state in found.items())}"
    )
    return 0


def _read(
    engine: Engine, files: Sequence[ImageFile], force: bool, settings: dict[str, Any]
) -> Iterator[_Result]:
    """Report what passes the gate as one batch; yield a result for every file, in order."""
    started = time.perf_counter()
    failures: dict[Path, str] = {}
    for file in files:
        try:
            _refuse_unlikely(engine, file, force)
        except InputError as error:
            failures[file.path] = str(error).removeprefix(f"{file.path}: ")
    passed = [file.path for file in files if file.path not in failures]
    seeds = settings.pop("seeds")[: len(passed)]
    reports = iter(
        engine.write_reports(passed, seeds=seeds, batch_size=len(files), **settings) if passed else ()
    )
    seconds = (time.perf_counter() - started) / len(files)
    for file in files:
        source, failure = str(file.path), failures.get(file.path)
        if failure is not None:
            yield _Result(source, file.name, failure=failure)
        else:
            yield _Result(source, file.name, next(reports), seconds=seconds)


def _refuse_unlikely(engine: Engine, file: ImageFile, force: bool) -> None:
    """Raise InputError for a file that cannot be read, or that the input gate refuses unless forced."""
    gate = engine.check_image(file.path)
    if not gate.accepted:
        if not force:
            raise InputError(f"{file.path}: {gate.reason}; use --force to read it all the same")
        say(f"note: {file.path}: {gate.reason}; read all the same")


class _Sink:
    """Where results go: standard output, one file, or a folder with a file each. Failures are always named."""

    def __init__(self, out: str | None, json_lines: bool) -> None:
        self.out = None if out is None else Path(out)
        self.json_lines = json_lines
        self.is_folder = out is not None and (Path(out).is_dir() or out.endswith(("/", os.sep)))
        self.blocks: list[str] = []
        if self.out is not None:
            require_writable(self.out / "report" if self.is_folder else self.out)

    @property
    def is_terminal(self) -> bool:
        return self.out is None and not self.json_lines and sys.stdout.isatty()

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *error: object) -> None:
        """Write the one file; on Ctrl-C too, so that what was done is kept."""
        if self.out is not None and not self.is_folder and self.blocks:
            write_text(self.out, "".join(self.blocks))

    def take(self, result: _Result) -> None:
        if result.failure is not None:
            print_error(f"{result.source}: {result.failure}")
            if not self.json_lines:
                return
        if self.json_lines:
            block = json.dumps(result.as_row(), ensure_ascii=False) + "\n"
        elif self.is_folder:
            block = result.as_text()
        else:
            block = f"== {result.source}\n{result.as_text()}\n"
        if self.out is None:
            print(block, end="", flush=True)
        elif self.is_folder:
            suffix = ".json" if self.json_lines else ".txt"
            write_text(self.out / result.name.with_name(result.name.name + suffix), block)
        else:
            self.blocks.append(block)
