"""Answers of language models kept in one SQLite file, so that no question is paid for twice.

Keys are hashes; values are JSON of what the model wrote. The raw reports are never stored, but rewritten ones
are: the file is readable by its owner only. Safe under several threads and processes on one machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unixcxr.errors import OutputError

_SCHEMA = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"
_BUSY_S = 60.0


class AnswerCache:
    """A persistent mapping from question keys to answers (plain JSON values); ":memory:" keeps them nowhere.

    Raises OutputError when the file cannot be opened or is no cache.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        with self._named_errors():
            if str(path) != ":memory:":
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch(mode=0o600, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._write_ahead()
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_SCHEMA)

    def _write_ahead(self) -> None:
        """Switch to a write-ahead log, waiting for others that open the file now: here SQLite itself does not wait."""
        end = time.monotonic() + _BUSY_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                is_busy = (
                    error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                )  # the low byte of extended codes
                if not is_busy or time.monotonic() > end:
                    raise
            time.sleep(0.01)

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the answer kept under a key, or None."""
        with self._lock, self._named_errors():
            row = self._connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        answer: dict[str, Any] = json.loads(row[0])
        return answer

    def put(self, key: str, answer: dict[str, Any]) -> None:
        """Keep an answer; it is on disk when this returns. The first answer under a key stays."""
        row = (key, json.dumps(answer, ensure_ascii=False))
        with self._lock, self._named_errors():
            self._connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", row)

    def answers(self) -> Iterator[dict[str, Any]]:
        """Yield all answers kept, in no particular order."""
        with self._lock, self._named_errors():
            keys = [key for (key,) in self._connection.execute("SELECT key FROM answers")]
        for key in keys:
            answer = self.get(key)
            assert answer is not None, "answers are never taken away"
            yield answer

    def __len__(self) -> int:
        with self._lock, self._named_errors():
            (count,) = self._connection.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    def close(self) -> None:
        """Close the file; the cache cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise OutputError(
                f"cannot use the answer cache {self.path}: {error}; choose another place or delete the file"
            ) from error


def question_key(question: dict[str, Any]) -> str:
    """Return the hash of a question: everything that an answer depends on, as plain JSON values."""
    text = json.dumps(question, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
