"""The answer cache: kept across threads, processes and a kill; plain JSON; no report text of the question."""

from __future__ import annotations

import json
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from unixcxr.cleaning.llm_cache import AnswerCache, question_key
from unixcxr.errors import OutputError


def test_an_answer_is_kept_for_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.sqlite"
    cache = AnswerCache(path)
    assert cache.get("a") is None
    cache.put("a", {"content": "größer", "tokens": [1, 2]})
    cache.close()
    assert AnswerCache(path).get("a") == {"content": "größer", "tokens": [1, 2]}


def test_the_first_answer_stays(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache.put("a", {"content": "first"})
    cache.put("a", {"content": "second"})
    assert cache.get("a") == {"content": "first"}
    assert len(cache) == 1


def test_a_cache_in_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = AnswerCache(":memory:")
    cache.put("a", {"content": "x"})
    assert cache.get("a") == {"content": "x"}
    cache.close()
    assert list(tmp_path.iterdir()) == []


def test_values_are_json_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    cache = AnswerCache(path)
    cache.put("a", {"content": "x"})
    cache.close()
    assert [json.loads(v) for (v,) in sqlite3.connect(path).execute("SELECT answer FROM answers")] == [
        {"content": "x"}
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_text("not a database, but long enough to be looked at" * 40)
    with pytest.raises(OutputError, match=r"answers\.sqlite.*delete"):
        AnswerCache(path)


def test_the_key_depends_on_every_part_and_on_no_order() -> None:
    question = {"version": "1", "model": "m", "temperature": 0.0, "messages": [{"content": "report"}]}
    keys = {question_key(question)}
    assert keys == {question_key(dict(reversed(question.items())))}
    for name, value in {"version": "2", "model": "n", "temperature": 0.1, "messages": []}.items():
        keys.add(question_key({**question, name: value}))
    assert len(keys) == 5


def test_threads_share_one_cache(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")

    def work(worker: int) -> None:
        for number in range(50):
            cache.put(f"{number}", {"content": number})
            assert cache.get(f"{number}") == {"content": number}

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 50


WRITER = """
import sys
from unixcxr.cleaning.llm_cache import AnswerCache
cache = AnswerCache(sys.argv[1])
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    cache.put(str(number), {"content": number})
    print(number, flush=True)
"""


def _writer(path: Path, first: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_share_one_cache(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    writers = [_writer(path, first, first + 150) for first in (0, 100, 200)]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    cache = AnswerCache(path)
    assert [cache.get(str(number)) for number in range(350)] == [{"content": n} for n in range(350)]


def test_a_killed_writer_loses_nothing_it_had_put(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    writer = _writer(path, 0, 10**6)
    assert writer.stdout is not None
    while int(writer.stdout.readline()) < 20:
        time.sleep(0)
    writer.send_signal(signal.SIGKILL)
    written = [20, *(int(line) for line in writer.stdout if line.endswith("\n"))]
    writer.wait()
    cache = AnswerCache(path)
    assert all(cache.get(str(number)) == {"content": number} for number in range(written[-1] + 1))


def test_many_may_open_a_new_cache_at_once(tmp_path: Path) -> None:
    """Switching to the write-ahead log is the one moment at which SQLite does not wait."""
    for run in range(20):
        path, together, failures = tmp_path / f"{run}.sqlite", threading.Barrier(8), []

        def open_and_close(
            path: Path = path, together: Any = together, failures: list[Any] = failures
        ) -> None:
            together.wait()
            try:
                AnswerCache(path).close()
            except OutputError as error:
                failures.append(error)

        threads = [threading.Thread(target=open_and_close) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
