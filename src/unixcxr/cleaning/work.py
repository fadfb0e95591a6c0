"""What one worker does: a chunk of studies in, rows and small pictures out, all or nothing.

A chunk's result is a function of its plan, the config and this code alone, so where and when it runs, and how often
it was interrupted, never shows. Rows are JSON lines; pictures lie one after another in a file beside them.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from unixcxr.atomic import atomic_path
from unixcxr.cleaning.dicom import read_source
from unixcxr.cleaning.duplicates import picture_hash
from unixcxr.cleaning.quality import judge, measure
from unixcxr.cleaning.rewrite import LlmRewriter, Rejection, Rewriter, RulesRewriter
from unixcxr.cleaning.rules import CleanReport
from unixcxr.cleaning.sources.found import Decision, Found, safe_id
from unixcxr.config.cleaning import CleaningConfig, OutputConfig
from unixcxr.config.rewriting import RewritingConfig
from unixcxr.errors import InputError
from unixcxr.labels import label_report
from unixcxr.records import Change, LabelState, Record, Study

THUMB_PX = 96
PNG_LEVEL = 4
"""Level 6 takes more than twice the time for the same space (benchmarks/cleaning_speed.py)."""


@dataclass(frozen=True)
class ChunkTask:
    """One chunk to work on: where its plan lies, and everything that is needed to do it.

    `crashed` names studies whose files killed a worker before; they are dropped unread.
    """

    plan_path: str
    config: CleaningConfig
    rewriting: RewritingConfig | None = None
    cache_path: str = ""
    api_key: str = ""
    crashed: frozenset[str] = frozenset()
    license: str = ""

    @property
    def rows_path(self) -> Path:
        return Path(self.plan_path.removesuffix(".plan") + ".rows")

    @property
    def pictures_path(self) -> Path:
        return Path(self.plan_path.removesuffix(".plan") + ".pictures")


@dataclass(frozen=True)
class Outcome:
    """What became of one image (or of a study that has none): kept with its record, or dropped with the reason.

    `detail` of a kept image says what told its view.
    """

    study_id: str
    image_path: str
    patient_id: str
    source: str
    stage: str = ""
    reason: str = ""
    detail: str = ""
    notes: tuple[str, ...] = ()
    split: str | None = None
    record: dict[str, Any] | None = None
    picture_hash: str = ""
    picture_at: int = 0
    picture_size: int = 0
    thumb: str = ""


@dataclass(frozen=True)
class StudyOutcome:
    """What became of one report: its words and labels before and after, for the distributions."""

    study_id: str
    raw_words: int
    clean_words: int | None
    raw_labels: dict[str, LabelState]
    clean_labels: dict[str, LabelState]
    is_transient: bool = False


@dataclass
class ChunkRows:
    """The rows of a finished chunk as they are read back."""

    fingerprint: str
    studies: list[StudyOutcome] = field(default_factory=list)
    images: list[Outcome] = field(default_factory=list)


def open_rewriter(task: ChunkTask) -> Rewriter:
    """Return the rewriter that the config asks for."""
    if task.rewriting is None:
        return RulesRewriter()
    return LlmRewriter(task.rewriting, cache_path=task.cache_path, api_key=task.api_key, announce=False)


def run_chunk(task: ChunkTask) -> str:
    """Work through one chunk and write its rows and pictures; return the path of the rows."""
    fingerprint, found = read_plan(Path(task.plan_path))
    rewriter = open_rewriter(task)
    try:
        with (
            atomic_path(
                task.rows_path
            ) as rows_partial,  # takes its name last: rows without pictures never stand
            rows_partial.open("w", encoding="utf-8") as rows,
            atomic_path(task.pictures_path) as pictures_partial,
            pictures_partial.open("wb") as pictures,
        ):
            _write_row(rows, {"fingerprint": fingerprint})
            for study, images in _clean_studies(task, found, rewriter, pictures):
                if study is not None:
                    _write_row(rows, {"study": dataclasses.asdict(study)})
                for image in images:
                    _write_row(rows, {"image": dataclasses.asdict(image)})
    finally:
        if isinstance(rewriter, LlmRewriter):
            rewriter.close()
    return str(task.rows_path)


def write_plan(path: Path, fingerprint: str, found: list[Found]) -> None:
    """Write the studies of a chunk down for its worker."""
    with atomic_path(path) as partial:
        lines = [json.dumps({"fingerprint": fingerprint}), *(found_to_json(item) for item in found)]
        partial.write_bytes(zlib.compress("\n".join(lines).encode(), 1))


def read_plan(path: Path) -> tuple[str, list[Found]]:
    """Read the fingerprint and the studies of a chunk."""
    head, *lines = zlib.decompress(path.read_bytes()).decode().split("\n")
    return json.loads(head)["fingerprint"], [_found_from_json(line) for line in lines]


def found_to_json(found: Found) -> str:
    """Write a study as one line of JSON."""
    return json.dumps(dataclasses.asdict(found), sort_keys=True)


def _found_from_json(line: str) -> Found:
    row = json.loads(line)
    study = row.pop("study")
    study["image_paths"] = tuple(study["image_paths"])
    row["images"] = tuple(Decision(**image) for image in row["images"])
    row["notes"] = tuple(row["notes"])
    return Found(study=Study(**study), **row)


def chunk_fingerprint(path: Path) -> str:
    """Return the fingerprint that a finished chunk was made for; "" when there is none to read."""
    try:
        with path.open(encoding="utf-8") as file:
            return str(json.loads(file.readline())["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def read_chunk(path: Path) -> ChunkRows:
    """Read the rows of a finished chunk back."""
    with path.open(encoding="utf-8") as file:
        chunk = ChunkRows(json.loads(file.readline())["fingerprint"])
        for line in file:
            ((kind, row),) = json.loads(line).items()
            if kind == "study":
                chunk.studies.append(StudyOutcome(**row))
            else:
                chunk.images.append(Outcome(**{**row, "notes": tuple(row["notes"])}))
    return chunk


def _write_row(file: IO[str], row: dict[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _clean_studies(
    task: ChunkTask, found: list[Found], rewriter: Rewriter, pictures: IO[bytes]
) -> Iterator[tuple[StudyOutcome | None, list[Outcome]]]:
    """Yield for each study of a chunk, in order, what became of its report and of its images."""
    readable = [item for item in found if _wants_rewriting(item) and item.study.id not in task.crashed]
    answers = rewriter.rewrite_many((item.study.id, item.study.report) for item in readable)
    wanted = {id(item) for item in readable}
    for item in found:
        answer = next(answers)[1] if id(item) in wanted else None
        study = _study_outcome(item, answer) if answer is not None else None
        yield study, list(_image_outcomes(task, item, answer, study, pictures))
    for _ in answers:
        raise AssertionError("the rewriter gave more answers than reports")


def _wants_rewriting(found: Found) -> bool:
    return found.has_text and not found.report_problem and bool(found.study.image_paths)


def _labels(text: str) -> dict[str, LabelState]:
    return {label: state for label, state in label_report(text).items() if state is not None}


def _study_outcome(found: Found, answer: CleanReport | Rejection) -> StudyOutcome:
    raw = found.study.report
    is_clean = isinstance(answer, CleanReport) and bool(answer.text)
    words = (
        len(f"{answer.findings} {answer.impression}".split())
        if isinstance(answer, CleanReport) and is_clean
        else None
    )
    return StudyOutcome(
        found.study.id,
        len(raw.split()),
        words,
        _labels(raw),
        _labels(answer.text) if isinstance(answer, CleanReport) and is_clean else {},
        isinstance(answer, Rejection) and answer.transient,
    )


def _image_outcomes(
    task: ChunkTask,
    found: Found,
    answer: CleanReport | Rejection | None,
    study: StudyOutcome | None,
    pictures: IO[bytes],
) -> Iterator[Outcome]:
    blank = Outcome(
        found.study.id, "", found.study.patient_id, found.study.source, split=found.split, notes=found.notes
    )
    if not found.images:
        problem = found.report_problem if found.report_problem not in ("", "empty report") else ""
        yield dataclasses.replace(blank, stage="source", reason="study without images", detail=problem)
    stage, reason, detail = _text_problem(found, answer)
    names: set[str] = set()
    for number, image in enumerate(found.images):
        outcome = dataclasses.replace(blank, image_path=image.image_path, detail=image.detail)
        if not image.taken:
            yield dataclasses.replace(outcome, stage="source", reason=image.reason, detail=image.detail)
        elif found.study.id in task.crashed:
            yield dataclasses.replace(
                outcome, stage="picture", reason="crashed the reader", detail="the worker died on it"
            )
        elif reason:
            yield dataclasses.replace(outcome, stage=stage, reason=reason, detail=detail)
        else:
            record = _record(task, found, answer, study, image, _record_id(found, image, number, names))
            yield (
                _picture_outcome(task, outcome, image, record, pictures)
                if image.image_path
                else dataclasses.replace(outcome, record=dataclasses.asdict(record))
            )


def _text_problem(found: Found, answer: CleanReport | Rejection | None) -> tuple[str, str, str]:
    """Return stage, reason and detail of what is wrong with the report; empty when nothing is."""
    if found.report_problem:
        return "report", found.report_problem.partition(": ")[0], found.report_problem
    if isinstance(answer, Rejection):
        return "rewriting", answer.reason, answer.detail
    if isinstance(answer, CleanReport) and not answer.text:
        return "rewriting", "nothing left after cleaning", ""
    return "", "", ""


def _record_id(found: Found, image: Decision, number: int, names: set[str]) -> str:
    """Return an id for an image that is unique within its study: the study's and the file's name."""
    study, stem = safe_id(found.study.id), safe_id(Path(image.image_path).stem) if image.image_path else ""
    name = study if not stem or stem == study or study.endswith(f"_{stem}") else f"{study}_{stem}"
    if name in names:
        name = f"{name}_{number}"
    names.add(name)
    return name


def _record(
    task: ChunkTask,
    found: Found,
    answer: CleanReport | Rejection | None,
    study: StudyOutcome | None,
    image: Decision,
    identity: str,
) -> Record:
    clean = answer if isinstance(answer, CleanReport) else CleanReport("", "")
    from_source = task.config.output.labels == "source" or study is None
    return Record(
        id=identity,
        image_path=image.image_path,
        findings=clean.findings,
        impression=clean.impression,
        raw_report=found.study.report,
        view=image.view,
        labels=dict(found.labels) if from_source or study is None else study.clean_labels,
        patient_id=found.study.patient_id,
        source=found.study.source,
        license=task.license,
        changes=clean.changes,
    )


def _picture_outcome(
    task: ChunkTask, outcome: Outcome, decision: Decision, record: Record, pictures: IO[bytes]
) -> Outcome:
    """Read one picture, judge it, and put the kept one into the file of pictures."""
    try:
        source = read_source(decision.image_path)
    except InputError as error:
        return dataclasses.replace(outcome, stage="picture", reason="unreadable image", detail=str(error))
    image = source.image
    settings = task.config.quality
    if decision.view is not None and decision.view == "unknown":
        settings = dataclasses.replace(settings, not_frontal="off")
    photometric = source.facts.photometric_interpretation if source.facts else ""
    verdict = judge(measure(image), settings, photometric)
    if verdict.reason:
        reason = verdict.reason
        if reason == "does not look frontal" and decision.view in ("PA", "AP", "frontal"):
            reason = "tagged frontal, does not look it"
        return dataclasses.replace(
            outcome, stage="picture", reason=reason, detail=verdict.detail, thumb=thumbnail(image)
        )
    if verdict.is_inverted:
        image = 255 - image
        turned = Change("inverted picture", (0, 0), "dark bone on bright air", "bright bone on dark air")
        record = dataclasses.replace(record, changes=(*record.changes, turned))
    data = encode_png(image, task.config.output)
    at = pictures.tell()
    pictures.write(data)
    return dataclasses.replace(
        outcome,
        record=dataclasses.asdict(record),
        notes=(*outcome.notes, *verdict.notes),
        picture_hash=picture_hash(image).hex(),
        picture_at=at,
        picture_size=len(data),
    )


def encode_png(image: np.ndarray, settings: OutputConfig) -> bytes:
    """Return a picture as PNG, its shorter side at most `size_px`."""
    picture = Image.fromarray(image)
    shorter = min(picture.size)
    if settings.size_px and shorter > settings.size_px:
        factor = settings.size_px / shorter
        size = (round(picture.width * factor), round(picture.height * factor))
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=PNG_LEVEL)
    return file.getvalue()


def thumbnail(image: np.ndarray) -> str:
    """Return a small JPEG of a picture in base64, for the report."""
    picture = Image.fromarray(image)
    picture.thumbnail((THUMB_PX, THUMB_PX), Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=70)
    return base64.b64encode(file.getvalue()).decode()
