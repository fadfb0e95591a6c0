"""The model in a process of its own: killed, hung, drained, orphaned; the server lives and answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve.serving import (
    Client,
    Running,
    events_in,
    film,
    form_type,
    in_background,
    multipart,
    png,
    serving,
    until,
)
from unixcxr.sampling.engine import Engine
from unixcxr.serve.jobs import QueueSettings
from unixcxr.serve.runner import ProcessRunner, WorkerSpec
from unixcxr.serve.service import ServeSettings

LONG = {"prompt": "Mass", "num_steps": 200, "num_pictures": 8, "solver": "heun"}
ONE_AT_A_TIME = ServeSettings(queue=QueueSettings(max_drawings=1))


@pytest.fixture(scope="module")
def running(model_dir: Path) -> Iterator[Running]:
    with serving(ProcessRunner(WorkerSpec(str(model_dir))), ONE_AT_A_TIME) as running:
        yield running


@pytest.fixture(scope="module")
def back_s(model_dir: Path) -> float:
    """Return how soon a lost process must be back: 10 s, or on a busy machine three times what a start takes."""
    started = time.monotonic()
    with serving(ProcessRunner(WorkerSpec(str(model_dir)))):
        return max(10.0, 3 * (time.monotonic() - started))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z" if Path("/proc").exists() else True


def test_another_process_writes_what_the_engine_writes(running: Running, engine: Engine) -> None:
    answer = running.client.upload("/v1/report", png(film(1)), force=True, seed=3, temperature=1.0)
    assert answer.json["token_ids"] == list(
        engine.write_report(film(1), seeds=[3], temperature=1.0).token_ids
    )
    assert running.service.runner.pid != os.getpid()


def test_a_killed_process_is_told_and_comes_back(running: Running, back_s: float) -> None:
    client, queue, runner = running.client, running.service.queue, running.service.runner
    stream = in_background(client.post, "/v1/draw", {**LONG, "stream": True})
    until(lambda: any(job.progress > 0 for job in queue.running.values()))
    waiting = in_background(client.post, "/v1/draw", {"prompt": "Mass", "num_steps": 1})
    until(lambda: queue.num_waiting == 1)
    reading = in_background(
        client.upload, "/v1/report", png(film(1)), force=True, max_new_tokens=100, temperature=5
    )
    os.kill(runner.pid, signal.SIGKILL)
    killed = time.monotonic()
    event, data = stream.result().events[-1]
    assert (event, data["code"]) == ("error", "worker_died")
    assert "signal 9" in data["message"]
    assert time.monotonic() - killed < back_s / 3
    assert client.get("/healthz").status == 200
    assert client.get("/readyz").status in (200, 503)
    assert waiting.result().status == 200
    assert time.monotonic() - killed < back_s
    assert reading.result().status in (200, 503)
    assert client.get("/readyz").status == 200
    assert "unixcxr_model_restarts 1.0" in client.get("/metrics").body.decode()


def test_a_request_without_a_stream_gets_503(running: Running) -> None:
    client, queue, runner = running.client, running.service.queue, running.service.runner
    until(lambda: runner.is_ready)
    drawing = in_background(client.post, "/v1/draw", LONG)
    until(lambda: any(job.progress > 0 for job in queue.running.values()))
    os.kill(runner.pid, signal.SIGKILL)
    answer = drawing.result()
    assert (answer.status, answer.code) == (503, "worker_died")
    assert int(answer.headers["retry-after"]) > 0
    until(lambda: runner.is_ready)
    assert client.post("/v1/draw", {"prompt": "Mass", "num_steps": 1}).status == 200


@pytest.mark.long
def test_a_process_that_hangs_is_killed(model_dir: Path) -> None:
    runner = ProcessRunner(WorkerSpec(str(model_dir)), hang_s=3.0)
    with serving(runner) as running:
        first = runner.pid
        time.sleep(4.0)
        assert runner.pid == first  # idle, it still gives signs of life
        os.kill(first, signal.SIGSTOP)
        answer = in_background(running.client.post, "/v1/draw", {"prompt": "Mass", "num_steps": 1})
        assert answer.result().code == "worker_died"
        until(lambda: runner.is_ready)
        assert runner.pid != first


@contextmanager
def command(model_dir: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
    """Run `unixcxr serve` as users do."""
    arguments = [
        sys.executable,
        "-m",
        "unixcxr.cli",
        "serve",
        "--model",
        str(model_dir),
        "--port",
        "0",
        "--json",
    ]
    code = "from unixcxr.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, *arguments[3:], *options], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        yield process, Client("127.0.0.1", int(url.rpartition(":")[2]))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def child_of(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


@needs_proc
def test_sigterm_drains(model_dir: Path) -> None:
    with command(model_dir) as (process, client):
        child = child_of(process)
        body = json.dumps({**LONG, "num_steps": 60, "stream": True}).encode()
        connection, response = client.open("POST", "/v1/draw", body, {"Content-Type": "application/json"})
        events = events_in(response)
        while next(events)[0] != "step":
            pass
        process.send_signal(signal.SIGTERM)
        until(lambda: client.get("/readyz").status == 503)
        refused = client.post("/v1/draw", {"prompt": "Mass"})
        assert (refused.status, refused.code) == (503, "draining")
        assert client.get("/healthz").status == 200
        assert [name for name, _ in events][-1] == "pictures"
        connection.close()
        assert process.wait(60) == 0
        until(lambda: not is_alive(child))


@pytest.mark.long
@needs_proc
def test_a_drain_has_an_end(model_dir: Path) -> None:
    with command(model_dir, "--drain-seconds", "0.5") as (process, client):
        body = json.dumps({**LONG, "stream": True}).encode()
        connection, response = client.open("POST", "/v1/draw", body, {"Content-Type": "application/json"})
        events = events_in(response)
        while next(events)[0] != "step":
            pass
        process.send_signal(signal.SIGTERM)
        name, data = list(events)[-1]
        assert (name, data["code"]) == ("error", "draining")
        connection.close()
        assert process.wait(60) == 0


@needs_proc
def test_the_model_does_not_outlive_the_server(model_dir: Path) -> None:
    with command(model_dir) as (process, client):
        child = child_of(process)
        body = multipart(png(film(0)), "a.png", {"force": True})
        assert client.ask("POST", "/v1/report", body, content_type=form_type()).status == 200
        process.kill()
        process.wait()
        until(lambda: not is_alive(child))


def test_a_port_that_is_taken_and_a_model_that_is_not_there(
    model_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from unixcxr.cli.app import run
    from unixcxr.serve.server import listen

    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert run(["serve", "--model", str(model_dir), "--port", port]) == 2
    assert "choose another --port" in capfd.readouterr().err
    assert run(["serve", "--model", str(model_dir / "nowhere"), "--port", "0"]) == 2
    assert "no such model directory" in capfd.readouterr().err
    assert run(["serve", "--host", "0.0.0.0"]) == 2
    assert "--token-file" in capfd.readouterr().err
    assert run(["serve", "--replicas", "2"]) == 2
    assert "--runner ray" in capfd.readouterr().err


def test_ray_is_an_extra_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from unixcxr.cli.app import run

    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["serve", "--runner", "ray", "--replicas", "2"]) == 2
    assert "pip install 'unixcxr[ray]'" in capfd.readouterr().err
