"""The plain data that travels between rooms: Study, Record, Prediction, Score.

Standard library only, so that labels and cleaning stay light. Manifests are JSON lines of `Record`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unixcxr.errors import RecordError

LABELS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
"""The 14 CheXpert labels (Irvin et al. 2019), in the order of the CheXbert heads."""

LabelState = Literal["positive", "negative", "uncertain"]


@dataclass(frozen=True)
class Study:
    """Raw files of one examination, as a source reader found them."""

    id: str
    image_paths: tuple[str, ...]
    report: str
    patient_id: str
    source: str
    view: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One edit that cleaning made: which rule, where in the raw text, what was there, what is there now."""

    rule: str
    span: tuple[int, int]
    before: str
    after: str


@dataclass(frozen=True)
class Record:
    """One clean image-report pair: a row of a manifest."""

    id: str
    image_path: str
    findings: str = ""
    impression: str = ""
    raw_report: str = ""
    view: str | None = None
    labels: dict[str, LabelState] = field(default_factory=dict)
    patient_id: str = ""
    split: str = "train"
    source: str = ""
    license: str = ""
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """A result or a failure for one `Record`; exactly one of `text`, `image_path` and `failure` is set."""

    record_id: str
    text: str | None = None
    image_path: str | None = None
    failure: str | None = None
    seed: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """A metric with how many items it stands on, how many failed, and its interval."""

    name: str
    value: float
    num_scored: int
    num_failed: int
    low: float | None = None
    high: float | None = None


def write_manifest(records: Iterable[Record], path: str | os.PathLike[str]) -> int:
    """Write records as JSON lines, atomically; return how many."""
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    count = 0
    with partial.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n")
            count += 1
    partial.replace(target)
    return count


def read_manifest(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Yield the records of a JSON lines manifest.

    Raises RecordError naming the file and line when a row is not JSON or its keys are not those of `Record`.
    """
    known = {f.name for f in dataclasses.fields(Record)}
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise RecordError(
                    f"{path}:{number}: not JSON ({error.msg}); expected one record a line"
                ) from None
            if not isinstance(row, dict) or not {"id", "image_path"} <= row.keys() <= known:
                extra = sorted(row.keys() - known) if isinstance(row, dict) else row
                raise RecordError(
                    f"{path}:{number}: not a record (unknown keys {extra}; id and image_path needed)"
                )
            row["changes"] = tuple(
                Change(c["rule"], (c["span"][0], c["span"][1]), c["before"], c["after"])
                for c in row.get("changes", ())
            )
            yield Record(**row)
