"""Read training shards: tar files with an index, any record one read away, resuming exactly where a run stopped.

Written by `cleaning.shard_writer`; the tar files are plain webdataset and need not be read through this module.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unixcxr.cleaning.dicom import read_image
from unixcxr.errors import RecordError
from unixcxr.records import Change, Record


class Sample(NamedTuple):
    """One record and its picture, uint8 (H, W); None for a record without a picture."""

    record: Record
    image: np.ndarray | None


class ShardReader:
    """The records of one split, by number, in the order they were written.

    The position of a run is one number: `reader.samples(start=k)` goes on exactly where it stopped. Every tar is
    opened for each read, so a reader can be handed to worker processes.

    Raises RecordError when the folder holds no such split, or a tar is not the one its index was made for.
    """

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        self._folder = Path(folder)
        paths = sorted(self._folder.glob(f"{split}-*.index.json"))
        if not paths:
            splits = sorted({path.name.rpartition("-")[0] for path in self._folder.glob("*.index.json")})
            raise RecordError(
                f"{folder}: no shards of split {split!r}; it has: {', '.join(splits) or 'none'}"
            )
        self._shards = [_read_index(path) for path in paths]
        self._ends = list(accumulate(len(shard["records"]) for shard in self._shards))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> Sample:
        """Read record `number`, 0 <= number < len."""
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        which = bisect.bisect_right(self._ends, number)
        shard = self._shards[which]
        entry = shard["records"][number - (self._ends[which - 1] if which else 0)]
        path = self._folder / shard["tar"]
        with path.open("rb") as file:
            members = {
                suffix: _read_at(file, path, *entry[suffix]) for suffix in ("png", "json") if suffix in entry
            }
        return Sample(
            _record(members["json"], path), read_image(members["png"]) if "png" in members else None
        )

    def ids(self) -> list[str]:
        """Return the ids of all records, in order, without reading a picture."""
        return [entry["id"] for shard in self._shards for entry in shard["records"]]

    def samples(self, start: int = 0) -> Iterator[Sample]:
        """Yield the records from number `start` on."""
        for number in range(start, len(self)):
            yield self[number]


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        tar = path.parent / index["tar"]
        size, expected = tar.stat().st_size, index["bytes"]
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: not a shard index ({error}); run unixcxr clean again") from None
    except OSError as error:
        raise RecordError(
            f"{path}: its tar cannot be read ({error.strerror}); copy both files together"
        ) from None
    if index.get("version") != 1:
        raise RecordError(f"{path}: index version {index.get('version')!r}; expected 1")
    if size != expected:
        raise RecordError(f"{tar}: {size:,} bytes, its index says {expected:,}; copy it again")
    return dict(index)


def _read_at(file: Any, path: Path, offset: int, size: int) -> bytes:
    file.seek(offset)
    data: bytes = file.read(size)
    if len(data) != size:
        raise RecordError(f"{path}: ends within a record; copy it again")
    return data


def _record(data: bytes, path: Path) -> Record:
    try:
        row = json.loads(data)
        row["changes"] = tuple(
            Change(c["rule"], tuple(c["span"]), c["before"], c["after"]) for c in row["changes"]
        )
        return Record(**row)
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path}: a member is no record ({error}); the tar and its index do not match"
        ) from None
