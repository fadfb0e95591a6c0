"""Count what happens to studies and images on their way, and keep a few of each kind to be shown."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from unixcxr.cleaning.splits import Crossing
from unixcxr.cleaning.work import Outcome, StudyOutcome
from unixcxr.config.cleaning import CleaningConfig
from unixcxr.records import Record

BIN_WORDS = 10
NUM_BINS = 25
"""Lengths from 240 words on share the last bin."""


class Twin(NamedTuple):
    """Two pictures that are the same: PNG bytes and ids of the one that stays and the other, and their distance."""

    kept_png: bytes
    other_png: bytes
    kept_id: str
    other_id: str
    distance: int


class Sample(NamedTuple):
    """One kept record with its picture, to be shown beside its raw report."""

    record: Record
    png: bytes


@dataclass
class Funnel:
    """Everything the report says; memory does not grow with the number of images."""

    source: str
    config: CleaningConfig
    num_studies: int = 0
    num_read: int = 0
    num_kept: int = 0
    num_transient: int = 0
    num_changed: int = 0
    num_twin_pairs: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    labels_before: Counter[tuple[str, str]] = field(default_factory=Counter)
    labels_after: Counter[tuple[str, str]] = field(default_factory=Counter)
    words_before: Counter[int] = field(default_factory=Counter)
    words_after: Counter[int] = field(default_factory=Counter)
    num_reports: int = 0
    num_clean_reports: int = 0
    rejected_pictures: dict[str, list[Outcome]] = field(default_factory=dict)
    rejected_reports: dict[str, list[Outcome]] = field(default_factory=dict)
    twins: list[Twin] = field(default_factory=list)
    crossings: list[Crossing] = field(default_factory=list)
    _samples: list[tuple[str, Sample]] = field(default_factory=list)
    _study_id: str | None = None

    @property
    def num_twins(self) -> int:
        """Pairs of duplicates that are shown."""
        return self.config.output.num_samples

    @property
    def samples(self) -> list[Sample]:
        """The records to be shown: a fixed draw by id, those that cleaning changed before the others."""
        return [sample for _, sample in sorted(self._samples, key=lambda entry: entry[0], reverse=True)]

    def add_study(self, study: StudyOutcome) -> None:
        """Count a report that was read: its words and labels, raw and clean."""
        self.num_reports += 1
        self.num_transient += study.is_transient
        self.words_before[_bin(study.raw_words)] += 1
        self.labels_before.update(study.raw_labels.items())
        if study.clean_words is not None:
            self.num_clean_reports += 1
            self.words_after[_bin(study.clean_words)] += 1
            self.labels_after.update(study.clean_labels.items())

    def add_dropped(self, outcome: Outcome) -> None:
        """Count a dropped image with its reason."""
        self._read(outcome)
        self.reasons[outcome.stage, outcome.reason] += 1
        shown = (
            self.rejected_pictures
            if outcome.thumb
            else self.rejected_reports
            if outcome.stage == "rewriting"
            else None
        )
        if shown is not None:
            some = shown.setdefault(outcome.reason, [])
            if len(some) < self.config.output.num_samples:
                some.append(outcome)

    def add_kept(self, outcome: Outcome, record: Record, png: bytes) -> None:
        """Count a kept image; maybe keep it as a sample."""
        self._read(outcome)
        self.num_kept += 1
        self.splits[record.split] += 1
        by_content = "looks frontal" if record.image_path else "text only"
        self.views[outcome.detail if record.view else by_content] += 1
        self.notes.update(outcome.notes)
        self.rules.update(change.rule for change in record.changes)
        self.num_changed += bool(record.changes)
        draw = hashlib.sha256(record.id.encode()).hexdigest()
        entry = (f"{int(bool(record.changes))}{draw}", Sample(record, png))
        if len(self._samples) < self.config.output.num_samples:
            heapq.heappush(self._samples, entry)
        elif self._samples and entry[0] > self._samples[0][0]:
            heapq.heapreplace(self._samples, entry)

    def _read(self, outcome: Outcome) -> None:
        self.num_read += 1
        self.num_studies += outcome.study_id != self._study_id
        self._study_id = outcome.study_id


def _bin(words: int) -> int:
    return min(words // BIN_WORDS, NUM_BINS - 1)
