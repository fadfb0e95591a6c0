"""Write records and pictures as tar files with an index; `data.shards` reads them.

The tar files are plain webdataset: <id>.png and <id>.json one after the other, the same bytes for the same input.
Beside train-00000.tar lies train-00000.index.json: for each record its id, and offset and size of each member's bytes
in the tar, so that any record is one read away and a training run resumes at any of them.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path
from types import TracebackType
from typing import Any

from unixcxr.atomic import write_text
from unixcxr.records import Record

INDEX_VERSION = 1
BLOCK = tarfile.BLOCKSIZE


class ShardWriter:
    """Writes the shards of every split into one folder; a context manager."""

    def __init__(self, folder: Path, shard_size: int) -> None:
        self._folder = folder
        self._shard_size = shard_size
        self._open: dict[str, _Shard] = {}
        self._counts: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for shard in self._open.values():
            shard.close(is_whole=kind is None)

    def add(self, record: Record, picture: bytes) -> None:
        """Append a record and its PNG (b"" for a record without a picture) to the current shard of its split."""
        shard = self._open.get(record.split)
        if shard is None:
            number = self._counts.get(record.split, 0)
            shard = self._open[record.split] = _Shard(self._folder / f"{record.split}-{number:05d}.tar")
            self._counts[record.split] = number + 1
        members = {"png": picture} if picture else {}
        members["json"] = json.dumps(dataclasses.asdict(record), ensure_ascii=False).encode()
        shard.add(record.id, members)
        if len(shard.entries) >= self._shard_size:
            self._open.pop(record.split).close(is_whole=True)


class _Shard:
    """One tar file under way; it takes its name when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._tar = tarfile.open(self._partial, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.entries: list[dict[str, Any]] = []

    def add(self, identity: str, members: dict[str, bytes]) -> None:
        entry: dict[str, Any] = {"id": identity}
        for suffix, data in members.items():
            member = tarfile.TarInfo(
                f"{identity}.{suffix}"
            )  # times and owners stay zero: same input, same bytes
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
            entry[suffix] = [self._tar.offset - -(-len(data) // BLOCK) * BLOCK, len(data)]
        self.entries.append(entry)

    def close(self, is_whole: bool) -> None:
        self._tar.close()
        if not is_whole:
            self._partial.unlink(missing_ok=True)
            return
        size = self._partial.stat().st_size
        self._partial.replace(self._path)
        index = {"version": INDEX_VERSION, "tar": self._path.name, "bytes": size, "records": self.entries}
        write_text(self._path.with_suffix(".index.json"), json.dumps(index) + "\n")
