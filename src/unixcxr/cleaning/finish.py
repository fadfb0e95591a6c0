"""The last step of cleaning, over everything at once: splits, duplicates, and all that is written.

Two passes over the chunks' rows. The first keeps about half a kilobyte an image (hash, id, split, patient) to decide
who crosses a split and what is there twice; the second writes.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

import unixcxr
from unixcxr.atomic import atomic_path, write_text
from unixcxr.cleaning.duplicates import HASH_BITS, near_pairs
from unixcxr.cleaning.funnel import Funnel, Twin
from unixcxr.cleaning.report_page import write_report
from unixcxr.cleaning.shard_writer import ShardWriter
from unixcxr.cleaning.splits import SPLITS, Crossing, assign_split, strictest
from unixcxr.cleaning.work import Outcome, read_chunk
from unixcxr.config import to_mapping
from unixcxr.config.cleaning import CleaningConfig
from unixcxr.records import Change, Record


@dataclass(frozen=True)
class Counts:
    """The funnel in numbers; reasons come with their stage, as in "report: missing report"."""

    num_studies: int
    num_read: int
    num_kept: int
    num_dropped: int
    num_transient: int
    splits: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    crossings: int = 0


class _Candidate(NamedTuple):
    """What is remembered of an image that has come through so far; `place` is its number among all rows."""

    place: int
    identity: str
    patient_id: str
    split: str
    has_picture: bool


@dataclass
class _Fate:
    """What the first pass decided: the split of each patient, the rows to drop, and who is whose twin."""

    split_of: dict[int, str]
    dropped: dict[int, tuple[str, str, str]]
    notes: dict[int, str]
    twins: list[tuple[_Candidate, _Candidate, int]]
    crossings: list[Crossing]


def finish(
    config: CleaningConfig,
    source: str,
    out_dir: Path,
    plan_paths: list[Path],
    fingerprint: str,
    progress: Any,
) -> Counts:
    """Write manifest.jsonl, dropped.jsonl, the shards, cleaning_report.html and cleaning.json; return the counts."""
    rows_paths = [path.with_suffix(".rows") for path in plan_paths]
    fate = _decide(rows_paths, config, progress)
    funnel = Funnel(source, config)
    (out_dir / "cleaning.json").unlink(missing_ok=True)
    for old in (*out_dir.glob("shards/*.tar"), *out_dir.glob("shards/*.index.json")):
        old.unlink()
    wanted = {c.place for pair in fate.twins[: funnel.num_twins] for c in pair[:2]}
    pictures: dict[int, bytes] = {}
    with (
        atomic_path(out_dir / "manifest.jsonl") as manifest_path,
        atomic_path(out_dir / "dropped.jsonl") as dropped_path,
        manifest_path.open("w", encoding="utf-8") as manifest,
        dropped_path.open("w", encoding="utf-8") as dropped,
        ShardWriter(out_dir / "shards", config.output.shard_size) as shards,
    ):
        place = 0
        for number, path in enumerate(rows_paths):
            chunk = read_chunk(path)
            for study in chunk.studies:
                funnel.add_study(study)
            with path.with_suffix(".pictures").open("rb") as blob:
                for outcome in chunk.images:
                    outcome = _with_fate(outcome, place, fate)
                    picture = _picture(blob, outcome)
                    if place in wanted:
                        pictures[place] = picture
                    _write(outcome, picture, fate.split_of.get(place, ""), manifest, dropped, shards, funnel)
                    place += 1
            progress("Writing", number + 1, len(rows_paths))
    for one, other, distance in fate.twins[: funnel.num_twins]:
        pngs = pictures[one.place], pictures[other.place]
        funnel.twins.append(Twin(*pngs, one.identity, other.identity, distance))
    funnel.num_twin_pairs = len(fate.twins)
    funnel.crossings = fate.crossings
    counts = _counts(funnel)
    assert counts.num_kept + counts.num_dropped == counts.num_read == place, (
        "kept + dropped must be what was read"
    )
    write_report(funnel, out_dir / "cleaning_report.html")
    _write_summary(config, source, out_dir, fingerprint, counts)
    return counts


def _decide(rows_paths: list[Path], config: CleaningConfig, progress: Any) -> _Fate:
    candidates, hashes = [], bytearray()
    official: dict[str, set[str]] = {}
    ids: set[str] = set()
    dropped: dict[int, tuple[str, str, str]] = {}
    place = 0
    for number, path in enumerate(rows_paths):
        for outcome in read_chunk(path).images:
            if outcome.split and config.splits.official:
                official.setdefault(outcome.patient_id, set()).add(outcome.split)
            if outcome.record is not None:
                identity = outcome.record["id"]
                if identity in ids:
                    dropped[place] = ("source", "id used twice", f"another image has the id {identity}")
                else:
                    ids.add(identity)
                    candidates.append(
                        (place, identity, outcome.patient_id, outcome.split, bool(outcome.picture_hash))
                    )
                    hashes += bytes.fromhex(outcome.picture_hash) or bytes(HASH_BITS // 8)
            place += 1
        progress("Comparing", number + 1, len(rows_paths))
    kept = [_Candidate(*row[:3], _split(row[2], row[3], official, config), row[4]) for row in candidates]
    split_of = {candidate.place: candidate.split for candidate in kept}
    for candidate in kept:
        strict = strictest(official.get(candidate.patient_id, {candidate.split}))
        if candidate.split != strict:
            detail = f"the patient is also in {strict}; this picture is in {candidate.split}"
            dropped[candidate.place] = ("split", "patient in a stricter split", detail)
    fate = _Fate(split_of, dropped, {}, [], [])
    if config.duplicates.action != "off":
        _find_twins(kept, np.frombuffer(bytes(hashes), np.uint8).reshape(-1, HASH_BITS // 8), config, fate)
    return fate


def _split(patient_id: str, split: str | None, official: dict[str, set[str]], config: CleaningConfig) -> str:
    """Return the official split of an image, else of its patient, else the one by hash."""
    if split and config.splits.official:
        return split
    if patient_id in official:
        return strictest(official[patient_id])
    return assign_split(patient_id, config.splits)


def _find_twins(
    candidates: list[_Candidate], hashes: np.ndarray, config: CleaningConfig, fate: _Fate
) -> None:
    """Of pictures that are the same keep the one in the strictest split, then the first; drop or mark the others."""
    places = [k for k, c in enumerate(candidates) if c.has_picture and c.place not in fate.dropped]
    neighbours: dict[int, list[tuple[int, int]]] = {}
    for i, j, distance in near_pairs(hashes[places], config.duplicates.max_distance):
        neighbours.setdefault(places[i], []).append((places[j], distance))
        neighbours.setdefault(places[j], []).append((places[i], distance))
    stays: set[int] = set()
    for k in sorted(neighbours, key=lambda k: (SPLITS.index(candidates[k].split), candidates[k].place)):
        twins = sorted((distance, other) for other, distance in neighbours[k] if other in stays)
        if not twins:
            stays.add(k)
            continue
        distance, other = twins[0]
        one, kept = candidates[k], candidates[other]
        whose = "same patient" if one.patient_id == kept.patient_id else "another patient"
        where = "" if one.split == kept.split else f", {one.split} against {kept.split}"
        detail = f"of {kept.identity} ({whose}{where}), {distance} of {HASH_BITS} bits differ"
        fate.twins.append((kept, one, distance))
        if config.duplicates.action == "drop":
            fate.dropped[one.place] = (
                "duplicate",
                f"duplicate, {whose}{', across splits' if where else ''}",
                detail,
            )
        else:
            fate.notes[one.place] = f"duplicate, {whose}{', across splits' if where else ''}"
            if where:
                fate.crossings.append(
                    Crossing("picture", f"{one.identity} = {kept.identity}", (one.split, kept.split))
                )


def _with_fate(outcome: Outcome, place: int, fate: _Fate) -> Outcome:
    if place in fate.dropped:
        stage, reason, detail = fate.dropped[place]
        return dataclasses.replace(outcome, stage=stage, reason=reason, detail=detail)
    if place in fate.notes:
        return dataclasses.replace(outcome, notes=(*outcome.notes, fate.notes[place]))
    return outcome


def _picture(blob: IO[bytes], outcome: Outcome) -> bytes:
    blob.seek(outcome.picture_at)
    return blob.read(outcome.picture_size)


def _write(
    outcome: Outcome,
    picture: bytes,
    split: str,
    manifest: IO[str],
    dropped: IO[str],
    shards: ShardWriter,
    funnel: Funnel,
) -> None:
    if outcome.reason or outcome.record is None:
        names = ("study_id", "image_path", "patient_id", "source", "stage", "reason", "detail")
        dropped.write(json.dumps({name: getattr(outcome, name) for name in names}, ensure_ascii=False) + "\n")
        funnel.add_dropped(outcome)
        return
    record = _record(outcome.record, split)
    manifest.write(json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n")
    shards.add(record, picture)
    funnel.add_kept(outcome, record, picture)


def _record(row: dict[str, Any], split: str) -> Record:
    changes = tuple(Change(c["rule"], tuple(c["span"]), c["before"], c["after"]) for c in row["changes"])
    return Record(**{**row, "split": split, "changes": changes})


def _counts(funnel: Funnel) -> Counts:
    return Counts(
        num_studies=funnel.num_studies,
        num_read=funnel.num_read,
        num_kept=funnel.num_kept,
        num_dropped=sum(funnel.reasons.values()),
        num_transient=funnel.num_transient,
        splits=dict(sorted(funnel.splits.items())),
        reasons={f"{stage}: {reason}": n for (stage, reason), n in _by_size(funnel.reasons)},
        notes=dict(_by_size(funnel.notes)),
        crossings=len(funnel.crossings),
    )


def _by_size(counter: Counter[Any]) -> Iterator[tuple[Any, int]]:
    return iter(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _write_summary(
    config: CleaningConfig, source: str, out_dir: Path, fingerprint: str, counts: Counts
) -> None:
    """Write cleaning.json last: its presence with this fingerprint says that everything else is whole."""
    names = ["manifest.jsonl", "dropped.jsonl", "cleaning_report.html"]
    names += sorted(f"shards/{path.name}" for path in (out_dir / "shards").iterdir())
    summary = {
        "fingerprint": fingerprint,
        "is_complete": counts.num_transient == 0,
        "source": source,
        "counts": dataclasses.asdict(counts),
        "versions": {"unixcxr": unixcxr.__version__, "numpy": np.__version__},
        "config": to_mapping(config),
        "files": {name: (out_dir / name).stat().st_size for name in names},
    }
    write_text(out_dir / "cleaning.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
