"""The parts without a server: messages, tokens, the queue."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unixcxr.errors import ConfigError
from unixcxr.serve.failure import STATUS, RequestError
from unixcxr.serve.jobs import Job, JobQueue, QueueSettings
from unixcxr.serve.tokens import make_token, owner_of, read_tokens
from unixcxr.serve.wire import LENGTH, pack, unpack

LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.binary()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1, max_size=5), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), VALUES))
def test_messages_come_out_as_they_went_in(message: dict[str, Any]) -> None:
    frame = pack(message)
    (length,) = LENGTH.unpack_from(frame)
    assert length == len(frame) - LENGTH.size
    assert unpack(frame[LENGTH.size :]) == message


def test_frames_are_told_apart_and_a_cut_one_is_dropped() -> None:
    from unixcxr.serve.worker import read_frames

    got: list[dict[str, Any]] = []
    frames = pack({"a": b"\0\1"}) + pack({"b": [1, {"c": b""}]}) + pack({"d": b"lost"})[:-1]
    read_frames(io.BytesIO(frames), got.append)
    assert got == [{"a": b"\0\1"}, {"b": [1, {"c": b""}]}]
    read_frames(io.BytesIO(LENGTH.pack(1 << 60)), got.append)
    assert len(got) == 2


# --- tokens


def test_a_token_file_holds_hashes_and_names_bad_lines(tmp_path: Path) -> None:
    token, line = make_token("clinic")
    assert token not in line
    path = tmp_path / "tokens"
    path.write_text(f"# who may ask\n\n{line}\n")
    tokens = read_tokens(path)
    assert owner_of(token, tokens) == "clinic"
    assert owner_of(token[:-1], tokens) is None
    assert owner_of("", tokens) is None
    for content in ("clinic plaintoken\n", f"{line}\n{line}\n", "", "# nothing\n"):
        path.write_text(content)
        with pytest.raises(ConfigError, match="make"):
            read_tokens(path)
        with pytest.raises(ConfigError) as caught:
            read_tokens(path)
        assert "plaintoken" not in str(caught.value)
    with pytest.raises(ConfigError, match="No such file"):
        read_tokens(tmp_path / "none")
    with pytest.raises(ConfigError, match="letters"):
        make_token("two words")


# --- queue


class FakeRunner:
    """Keeps what it was sent; the test plays the model."""

    def __init__(self) -> None:
        self.is_ready = True
        self.sent: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    @property
    def started(self) -> list[str]:
        return [message["who"] for message in self.sent if message["op"] != "cancel"]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 10))


def queue_of(**settings: Any) -> tuple[JobQueue, FakeRunner]:
    runner = FakeRunner()
    return JobQueue(runner, QueueSettings(**settings)), runner


def one(queue: JobQueue, who: str, client: str = "a", kind: str = "report", **options: Any) -> Job:
    return queue.submit([kind], [{"who": who}], client, **options)[0]


def finish(queue: JobQueue, job: Job, name: str = "report") -> None:
    queue.on_event({"event": name, "id": job.id, "text": "done"})


def test_clients_take_turns() -> None:
    async def scene() -> None:
        queue, runner = queue_of(max_reports=1)
        jobs = [one(queue, f"a{k}", "a") for k in range(3)] + [one(queue, "b0", "b"), one(queue, "c0", "c")]
        for _ in range(5):
            (running,) = queue.running.values()
            finish(queue, running)
        assert runner.started == ["a0", "a1", "b0", "c0", "a2"]
        assert [(await job.wait())["text"] for job in jobs] == ["done"] * 5

    run(scene())


def test_kinds_have_slots_of_their_own() -> None:
    async def scene() -> None:
        queue, runner = queue_of(max_reports=2, max_drawings=1, max_chores=1)
        for k in range(3):
            one(queue, f"read{k}")
            one(queue, f"draw{k}", kind="draw")
        one(queue, "check", kind="check")
        one(queue, "explain", kind="explain")
        assert runner.started == ["read0", "draw0", "read1", "check"]
        assert queue.num_waiting == 4

    run(scene())


def test_a_job_over_its_time_frees_its_slot() -> None:
    async def scene() -> None:
        queue, runner = queue_of(max_reports=1, time_limit_s=0.05)
        slow, waiting = one(queue, "slow"), one(queue, "waiting")
        with pytest.raises(RequestError, match="not done within"):
            await slow.wait()
        assert {"op": "cancel", "id": slow.id} in runner.sent
        with pytest.raises(RequestError):
            await waiting.wait()
        assert not queue.running
        assert queue.num_waiting == 0
        finish(queue, slow)  # too late: nobody listens
        assert slow.state == "failed"

    run(scene())


def test_all_or_none_and_when_to_come_back() -> None:
    async def scene() -> None:
        queue, runner = queue_of(max_reports=2, max_waiting=1)
        queue.submit(["report"] * 3, [{"who": str(k)} for k in range(3)], "a")
        with pytest.raises(RequestError) as caught:
            queue.submit(["report"], [{"who": "3"}], "b")
        assert (caught.value.status, caught.value.retry_after_s) == (429, 1)
        finish(queue, next(iter(queue.running.values())))
        with pytest.raises(RequestError):
            queue.submit(["report"] * 2, [{"who": "3"}, {"who": "4"}], "b")
        assert queue.num_waiting == 0
        one(queue, "5", "b")
        assert runner.started == ["0", "1", "2"]

    run(scene())


def test_a_lost_runner_ends_what_ran_and_keeps_what_waits() -> None:
    async def scene() -> None:
        queue, runner = queue_of(max_reports=1)
        ran, waits = one(queue, "ran"), one(queue, "waits")
        runner.is_ready = False
        queue.on_event({"event": "lost", "reason": "signal 9"})
        with pytest.raises(RequestError, match="signal 9") as caught:
            await ran.wait()
        assert caught.value.status == 503
        assert waits.state == "waiting"
        late = one(queue, "late")
        runner.is_ready = True
        queue.on_event({"event": "ready"})
        assert waits.state == "running"
        finish(queue, waits)
        assert late.state == "running"

    run(scene())


def test_a_follower_misses_nothing_and_a_late_one_sees_the_newest_preview() -> None:
    async def scene() -> None:
        queue, _ = queue_of()
        job = one(queue, "draw", kind="draw")
        seen: list[tuple[int, str]] = []

        async def follow() -> None:
            async for number, event in job.follow():
                seen.append((number, event.name))

        follower = asyncio.create_task(follow())
        for step in range(1, 4):
            queue.on_event({"event": "step", "id": job.id, "step": step, "num_steps": 4, "previews": [b"x"]})
            await asyncio.sleep(0)
        assert job.progress == 0.75
        finish(queue, job, "pictures")
        await follower
        assert seen == [(1, "queued"), (2, "step"), (3, "step"), (4, "step"), (5, "pictures")]
        late = [event async for _, event in job.follow(1)]
        assert [event.data.get("previews") for event in late] == [None, None, [b"x"], None]

    run(scene())


def test_results_are_kept_for_their_time_and_only_so_many() -> None:
    async def scene() -> None:
        queue, _ = queue_of(keep_s=0.1, max_kept=2)
        jobs = [one(queue, str(k), is_kept=True) for k in range(3)]
        for job in jobs:
            finish(queue, job)
        with pytest.raises(RequestError, match="no such job"):
            queue.get(jobs[0].id, "a")
        assert queue.get(jobs[2].id, "a") is jobs[2]
        with pytest.raises(RequestError):
            queue.get(jobs[2].id, "b")
        await asyncio.sleep(0.15)
        with pytest.raises(RequestError):
            queue.get(jobs[2].id, "a")

    run(scene())


def test_draining_takes_nothing_and_ends_what_does_not() -> None:
    async def scene() -> None:
        queue, _ = queue_of(max_reports=1)
        quick, slow = one(queue, "quick"), one(queue, "slow")
        drain = asyncio.create_task(queue.drain(0.2))
        await asyncio.sleep(0.01)
        with pytest.raises(RequestError, match="shutting down"):
            one(queue, "late")
        finish(queue, quick)
        assert slow.state == "running"
        await drain
        with pytest.raises(RequestError, match="shut down before"):
            await slow.wait()
        assert (await quick.wait())["text"] == "done"

    run(scene())


def test_cancelling_twice_and_after_the_end_changes_nothing() -> None:
    async def scene() -> None:
        queue, runner = queue_of(max_reports=1)
        running, waiting = one(queue, "running"), one(queue, "waiting", is_kept=True)
        queue.cancel(waiting)
        queue.cancel(waiting)
        assert (waiting.state, queue.num_waiting) == ("cancelled", 0)
        assert [message for message in runner.sent if message["op"] == "cancel"] == []
        finish(queue, running)
        queue.cancel(running)
        assert running.state == "done"
        queue.forget(running)
        with pytest.raises(RequestError):
            queue.get(running.id, "a")
        assert queue.position(waiting) is None

    run(scene())


def test_every_code_has_a_type_for_clients() -> None:
    for code, status in STATUS.items():
        error = RequestError(code, "m")
        assert error.detail["type"] == (
            {401: "authentication_error", 403: "authentication_error", 429: "rate_limit_error"}.get(status)
            or ("server_error" if status >= 500 else "invalid_request_error")
        )
