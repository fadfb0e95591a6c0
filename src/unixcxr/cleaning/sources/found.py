"""What a source reader yields: each study with its official split, and why each image was taken or left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from unixcxr.cleaning.views import View
from unixcxr.config.cleaning import SourceConfig
from unixcxr.records import LABELS, LabelState, Study


@dataclass(frozen=True)
class Decision:
    """Whether one image goes on, and why. A taken image without a view is judged by its content later.

    `reason` of a left image is short, for counting ("lateral view"); `detail` says what it rests on.
    """

    image_path: str
    taken: bool
    reason: str
    detail: str = ""
    view: str | None = None


@dataclass(frozen=True)
class Found:
    """One study as a source found it.

    `study.image_paths` are the taken images; `images` holds the decision on every image, left ones included.
    `split` is the official one, if any. `has_text` is False where the source publishes no reports at all.
    `report_problem` says why a report that should be there is not.
    """

    study: Study
    images: tuple[Decision, ...]
    split: str | None = None
    labels: Mapping[str, LabelState] = field(default_factory=dict)
    has_text: bool = True
    report_problem: str = ""
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """A layout of files that can be recognised and read."""

    license: str

    def root(self, path: Path) -> Path | None:
        """Return the folder or file to read if `path` has this layout, else None; looks at few names only."""
        ...

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        """Yield the studies in an order that does not depend on the file system."""
        ...


class ImageFile(NamedTuple):
    """One image before the decision: where it is, and what is known about its view."""

    path: Path
    view: View


def decide(images: Iterable[ImageFile], unknown_view: str = "content") -> tuple[Decision, ...]:
    """Take what exists and is frontal; what happens to unknown views is the user's choice."""
    return tuple(_decide(image.path, image.view, unknown_view) for image in images)


def _decide(path: Path, view: View, unknown_view: str) -> Decision:
    name = str(path)
    if view.is_frontal is False:
        return Decision(name, False, f"{view.name} view", view.reason, view.name)
    if not path.is_file():
        return Decision(name, False, "missing image", "named by the metadata, not on disk", view.name)
    if view.is_frontal:
        return Decision(name, True, "frontal view", view.reason, view.name)
    if unknown_view == "drop":
        return Decision(name, False, "unknown view", view.reason)
    how = "content decides" if unknown_view == "content" else "taken unseen"
    return Decision(
        name, True, f"unknown view, {how}", view.reason, None if unknown_view == "content" else "unknown"
    )


def build(
    source: str,
    study_id: str,
    patient_id: str,
    decisions: tuple[Decision, ...],
    report: str = "",
    *,
    split: str | None = None,
    labels: Mapping[str, LabelState] | None = None,
    has_text: bool = True,
    report_problem: str = "",
    notes: tuple[str, ...] = (),
) -> Found:
    """Make a Found of decisions and a report; an empty report of a source with reports is a problem."""
    taken = tuple(decision.image_path for decision in decisions if decision.taken)
    if has_text and not report.strip() and not report_problem:
        report_problem = "empty report"
    view = next((decision.view for decision in decisions if decision.taken), None)
    study = Study(study_id, taken, report, patient_id, source, view)
    return Found(study, decisions, split, labels or {}, has_text, report_problem, notes)


_STATES: dict[str, LabelState] = {
    "1": "positive",
    "1.0": "positive",
    "0": "negative",
    "0.0": "negative",
    "-1": "uncertain",
    "-1.0": "uncertain",
}


def chexpert_labels(row: Mapping[str, object]) -> dict[str, LabelState]:
    """Read CheXpert's coding (1 positive, 0 negative, -1 uncertain, blank not mentioned) from a row's columns."""
    return {label: _STATES[str(row[label])] for label in LABELS if str(row.get(label, "")) in _STATES}


_SPLITS = {
    "train": "train",
    "training": "train",
    "validate": "validate",
    "valid": "validate",
    "val": "validate",
}
_SPLITS |= {"validation": "validate", "dev": "validate", "test": "test", "testing": "test"}


def split_name(text: str) -> str | None:
    """Return train, validate or test for what a data set calls them; None for anything else."""
    return _SPLITS.get(text.strip().lower())


def sections(**texts: str) -> str:
    """Write a report with headings from sections that a source keeps apart; empty ones are left out."""
    return "\n\n".join(
        f"{name.upper()}: {text.strip()}" for name, text in texts.items() if text and text.strip()
    )


def safe_id(text: str) -> str:
    """Return an id that can name a file and holds no dot: letters, digits, "_" and "-" only."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_") or "unnamed"
