"""Tables as people have them: CSV, TSV, JSON and JSON lines, gzipped or not, in whatever encoding.

Rows stream; what must be joined or sorted goes through a temporary SQLite file, so memory stays constant.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import io
import json
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from unixcxr.errors import RecordError

Row = dict[str, str]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Text(NamedTuple):
    """A decoded text; `note` says which encoding had to be assumed, `problem` why it is no text at all."""

    text: str
    note: str = ""
    problem: str = ""


def decode_text(data: bytes) -> Text:
    """Decode a report: UTF-8, else by its byte-order mark, else Windows-1252 with a note.

    Bytes with control characters that no text has are a problem, not a text.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    note = ""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
        note = "report decoded as Windows-1252"
    if sum(sign < " " and sign not in "\t\n\r\f\v" for sign in text) > len(text) // 200:
        return Text("", "", "report is not text")
    return Text(text.replace("\r\n", "\n").replace("\r", "\n"), note)


def read_report(path: Path) -> Text:
    """Read a report file; a missing or unreadable one is a problem, not an error."""
    try:
        return decode_text(path.read_bytes())
    except FileNotFoundError:
        return Text("", "", "missing report")
    except OSError as error:
        return Text("", "", f"unreadable report: {error.strerror}")


def find_table(folder: Path, *patterns: str) -> Path | None:
    """Return the first file, in order of patterns and names, that matches; None if there is none."""
    for pattern in patterns:
        matches = sorted(path for path in folder.glob(pattern) if path.is_file())
        if matches:
            return matches[0]
    return None


def read_rows(path: Path, needed: Sequence[str] = ()) -> Iterator[Row]:
    """Yield the rows of a table as text; missing values are empty.

    Raises RecordError when the file cannot be read or a needed column is missing, naming the nearest that is there.
    """
    name = path.name.lower().removesuffix(".gz")
    try:
        with _opened(path) as file:
            rows = (
                _json_rows(path, file) if name.endswith((".json", ".jsonl")) else _csv_rows(path, file, name)
            )
            for number, row in enumerate(rows):
                if number == 0:
                    require_columns(path, list(row), needed)
                yield row
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"{path}: cannot be read ({error}); get a fresh copy") from None


def require_columns(path: Path, present: Sequence[str], needed: Sequence[str]) -> None:
    """Raise RecordError for the first needed column that is missing, naming the nearest."""
    for column in needed:
        if column not in present:
            folded = {name.lower().replace(" ", "_"): name for name in present}
            nearest = difflib.get_close_matches(
                column.lower().replace(" ", "_"), list(folded), n=1, cutoff=0.3
            )
            hint = f"; the nearest is {folded[nearest[0]]!r}" if nearest else ""
            raise RecordError(
                f"{path}: no column {column!r}{hint}; it has: {', '.join(map(str, present[:30]))}"
            )


class RowStore:
    """Rows kept on disk under a key, to be looked up or read group by group in the order of the keys."""

    def __init__(self, rows: Iterable[tuple[str, Row]] = ()) -> None:
        self._base = sqlite3.connect("")  # a private file that SQLite removes by itself
        self._base.execute("CREATE TABLE rows (key TEXT, row TEXT)")
        self._base.executemany(
            "INSERT INTO rows VALUES (?, ?)", ((key, json.dumps(row)) for key, row in rows)
        )
        self._base.execute("CREATE INDEX by_key ON rows (key)")

    def get(self, key: str) -> list[Row]:
        """Return the rows of a key, in the order they came."""
        found = self._base.execute("SELECT row FROM rows WHERE key = ? ORDER BY rowid", (key,))
        return [json.loads(row) for (row,) in found]

    def first(self, key: str) -> Row:
        """Return the first row of a key, or an empty one."""
        found = self.get(key)
        return found[0] if found else {}

    def groups(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield each key with its rows, sorted by key."""
        current: str | None = None
        group: list[Row] = []
        for key, row in self._base.execute("SELECT key, row FROM rows ORDER BY key, rowid"):
            if key != current and current is not None:
                yield current, group
                group = []
            current = key
            group.append(json.loads(row))
        if current is not None:
            yield current, group


def _opened(path: Path) -> IO[bytes]:
    file: Any = gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # noqa: SIM115
    opened: IO[bytes] = file
    return opened


def _csv_rows(path: Path, file: IO[bytes], name: str) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    text = io.TextIOWrapper(file, encoding=_encoding(path), errors="replace", newline="")
    reader = csv.DictReader(text, delimiter="\t" if name.endswith(".tsv") else ",")
    if not reader.fieldnames:
        raise RecordError(f"{path}: is empty; expected a table with a header line")
    for row in reader:
        row.pop(None, None)  # cells beyond the header
        yield {column: value or "" for column, value in row.items()}


def _encoding(path: Path) -> str:
    """Return how a table is encoded: UTF-8 (or a marked UTF-16), else Windows-1252. Reads it through once."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _opened(path) as file:
        chunk = file.read(1 << 20)
        if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        try:
            while chunk:
                decoder.decode(chunk)
                chunk = file.read(1 << 20)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


def _json_rows(path: Path, file: IO[bytes]) -> Iterator[Row]:
    """Yield the objects of a JSON array or of JSON lines; values that are no text are written as JSON."""
    head = file.read(64).lstrip()
    file.seek(0)
    items = _json_array(path, file) if head.startswith(b"[") else _json_lines(path, file)
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise RecordError(f"{path}: item {number} is no object; expected one object for each row")
        yield {key: _plain(value) for key, value in item.items()}


def _json_array(path: Path, file: IO[bytes]) -> Iterator[Any]:
    """Yield the items of a JSON array one by one, without holding the whole file."""
    decoder = json.JSONDecoder()
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace")
    buffer = text.read(1 << 20).lstrip()[1:]
    while True:
        buffer = buffer.lstrip(" \t\r\n,")
        if buffer.startswith("]"):
            return
        try:
            item, end = decoder.raw_decode(buffer)
        except ValueError as error:
            more = text.read(1 << 20)
            if not more:
                raise RecordError(f"{path}: not JSON, or cut short ({error}); get a fresh copy") from None
            buffer += more
            continue
        yield item
        buffer = buffer[end:]


def _json_lines(path: Path, file: IO[bytes]) -> Iterator[Any]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise RecordError(
                    f"{path}:{number}: not JSON ({error}); expected one object a line"
                ) from None


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
