"""Every limit, from both sides, and that nothing of a request is told to anyone or left anywhere."""

from __future__ import annotations

import io
import logging
import socket
import struct
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.serving import (
    Client,
    HeldSession,
    Running,
    as_url,
    film,
    form_type,
    hang_up,
    in_background,
    local,
    log_text,
    multipart,
    png,
    until,
)
from unixcxr.sampling.engine import Engine
from unixcxr.serve.guard import GuardSettings
from unixcxr.serve.jobs import QueueSettings
from unixcxr.serve.service import ServeSettings
from unixcxr.serve.tokens import make_token

MASS = {"prompt": "Mass", "num_steps": 1}


def bomb(side: int = 30_000) -> bytes:
    """Return a small PNG of many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    row = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", row) + chunk(b"IEND", b"")


# --- bodies


def test_a_body_over_the_limit_is_refused(engine: Engine) -> None:
    with local(engine, ServeSettings(guard=GuardSettings(max_upload_bytes=20_000))) as running:
        client = running.client
        assert client.upload("/v1/check", b"x" * 30_000).code == "too_large"
        assert client.upload("/v1/check", b"x" * 10_000).code == "bad_image"
        chunked = b"".join(b"1000\r\n" + b"x" * 0x1000 + b"\r\n" for _ in range(8)) + b"0\r\n\r\n"
        head = f"POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: {form_type()}\r\n"
        answer = raw(client, head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)
        assert b" 413 " in answer.splitlines()[0]
        assert running.server.config.app._held_bytes == 0


def test_a_body_that_never_comes_is_given_up(engine: Engine) -> None:
    with local(engine, ServeSettings(guard=GuardSettings(body_time_s=0.3))) as running:
        head = f"POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: {form_type()}\r\n"
        started = time.monotonic()
        answer = raw(running.client, head.encode() + b"Content-Length: 100\r\n\r\nhalf")
        assert b" 408 " in answer.splitlines()[0]
        assert time.monotonic() - started < 5


def test_all_bodies_together_have_a_limit(engine: Engine) -> None:
    with local(engine, ServeSettings(guard=GuardSettings(max_held_bytes=5_000))) as running:
        answer = running.client.upload("/v1/check", b"x" * 6_000)
        assert (answer.status, answer.code) == (503, "busy")
        assert running.client.upload("/v1/check", b"x" * 3_000).status == 400
        assert running.client.upload("/v1/check", b"x" * 3_000).status == 400


def raw(client: Client, content: bytes) -> bytes:
    with socket.create_connection((client.host, client.port), timeout=20) as connection:
        connection.sendall(content)
        answer = b""
        while True:
            received = connection.recv(65536)
            answer += received
            if not received or b"\r\n\r\n" in answer:
                return answer


# --- pictures


def test_bombs_are_refused_before_they_unpack(running: Running) -> None:
    for content in (bomb(), bomb(5_000)):
        answer = running.client.upload("/v1/report", content, force=True)
        assert (answer.status, answer.code) == (400, "bad_image")
        assert "too many pixels" in answer.json["error"]["message"]


def test_what_is_no_picture_is_named_as_that(running: Running) -> None:
    cut = png(film(0))[:40]
    for content in (b"", b"hello", b"GIF89a", cut, b"\0" * 128 + b"DICM" + b"\xff" * 64):
        for path in ("/v1/report", "/v1/check"):
            answer = running.client.upload(path, content)
            assert answer.status == 400, content
            assert "<bytes>" not in answer.json["error"]["message"]


def test_colour_pictures_and_jpegs_are_read(running: Running) -> None:
    file = io.BytesIO()
    Image.fromarray(np.stack([film(0)] * 3, -1)).save(file, "JPEG")
    assert running.client.upload("/v1/check", file.getvalue()).status == 200


# --- shapes


def test_unknown_wrong_and_doubled_fields_are_named(running: Running) -> None:
    client = running.client
    assert client.post("/v1/draw", {**MASS, "sampler": "x"}).json["error"]["param"] == "sampler"
    assert client.post("/v1/draw", {**MASS, "num_steps": 0}).json["error"]["param"] == "num_steps"
    assert client.upload("/v1/report", png(film(0)), sampler="x").json["error"]["param"] == "sampler"
    assert client.upload("/v1/report", png(film(0)), seed="many").json["error"]["param"] == "seed"
    seed = multipart(None, "", {"seed": 2}).rpartition(b"--a-boundary")[0]
    body = seed + multipart(png(film(0)), "a.png", {"seed": 1})
    twice = client.ask("POST", "/v1/report", body, content_type=form_type())
    assert "twice" in twice.json["error"]["message"]
    assert client.ask("POST", "/v1/report", multipart(None, "", {"seed": 1}), content_type=form_type()).json["error"][
        "param"
    ] == "file"  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"prompt": 1}',
        b'{"prompt": "\\ud800"}',
        b"[" * 100_000,
        b'{"prompt": "x", "seed": 1e999}',
    ],
)
@pytest.mark.parametrize("path", ["/v1/draw", "/v1/chat/completions", "/v1/batch", "/v1/jobs"])
def test_json_that_is_none_is_a_400(running: Running, path: str, body: bytes) -> None:
    answer = running.client.ask("POST", path, body, content_type="application/json")
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json"), answer.body[:200]
    assert answer.code in ("invalid_request", "bad_prompt")


@pytest.mark.parametrize(
    "body",
    [b"", b"--", b"--a-boundary-that-no-test-sends", b"--a-boundary-that-no-test-sends\r\n\r\n", b"\0" * 99],
)
def test_multipart_that_is_none_is_a_400(running: Running, body: bytes) -> None:
    assert running.client.ask("POST", "/v1/report", body, content_type=form_type()).status == 400
    for content_type in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=é",
    ):
        answer = running.client.ask(
            "POST", "/v1/report", body, content_type=content_type.encode().decode("latin-1")
        )
        assert answer.status == 400


def test_content_types_are_strict(running: Running) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = running.client.ask("POST", "/v1/draw", b'{"prompt": "x"}', content_type=content_type)
        assert (answer.status, answer.code) == (415, "bad_content_type")
    assert running.client.ask("POST", "/v1/report", b"{}", content_type="application/json").status == 415


def test_long_texts_are_refused(running: Running) -> None:
    assert running.client.post("/v1/draw", {"prompt": "x" * 5000}).status == 400
    assert running.client.post("/v1/draw", {"prompt": "mass " * 700}).code == "bad_prompt"


# --- who may ask


def test_tokens_are_wanted_where_there_are_any(engine: Engine) -> None:
    token, line = make_token("clinic")
    other, other_line = make_token("school")
    tokens = dict(one.split() for one in (line, other_line))
    with local(engine, ServeSettings(guard=GuardSettings(tokens=tokens))) as running:
        client = running.client
        assert client.get("/healthz").status == 200
        assert client.get("/readyz").status == 200
        for path in ("/v1/info", "/metrics"):
            answer = client.get(path)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert client.get(path, authorization="Bearer wrong").status == 401
            assert client.get(path, authorization=f"Basic {token}").status == 401
            assert client.get(path, authorization=f"Bearer {tokens['clinic']}").status == 401
            assert client.get(path, authorization=f"Bearer {token}").status == 200
        assert client.get("/v1/info", authorization=f"bearer {other}").json["needs_token"] is True
        client.token = token
        job = client.post("/v1/jobs", {"kind": "draw", **MASS}).json["id"]
        assert client.get(f"/v1/jobs/{job}").status == 200
        client.token = other
        assert client.get(f"/v1/jobs/{job}").code == "no_such_job"
        assert client.ask("DELETE", f"/v1/jobs/{job}").code == "no_such_job"


def test_each_token_has_its_own_rate(engine: Engine) -> None:
    (one, line), (two, other) = make_token("one"), make_token("two")
    tokens = dict(text.split() for text in (line, other))
    with local(engine, ServeSettings(guard=GuardSettings(tokens=tokens, rate_per_minute=3))) as running:
        client = running.client
        client.token = one
        assert [client.get("/v1/info").status for _ in range(4)] == [200, 200, 200, 429]
        refused = client.get("/v1/info")
        assert refused.code == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 21
        assert client.get("/healthz").status == 200
        client.token = two
        assert client.get("/v1/info").status == 200
        running.server.config.app.clock = lambda: time.monotonic() + 21  # a third of a minute later
        client.token = one
        assert [client.get("/v1/info").status for _ in range(2)] == [200, 429]


def test_other_sites_pages_and_names_are_refused(running: Running) -> None:
    client = running.client
    here = f"{client.host}:{client.port}"
    assert client.get("/v1/info", origin="http://evil.example").code == "bad_origin"
    assert client.get("/v1/info", origin="null").code == "bad_origin"
    assert client.get("/v1/info", origin=f"http://{here}").status == 200
    assert client.get("/v1/info", host="evil.example").code == "bad_host"
    assert client.get("/v1/info", host="localhost:1").status == 200
    answer = client.ask("OPTIONS", "/v1/draw", origin=f"http://{here}", access_control_request_method="POST")
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_headers_keep_browsers_honest(running: Running) -> None:
    for path in ("/healthz", "/v1/info", "/docs", "/nowhere"):
        headers = running.client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    assert running.client.get("/v1/info").headers["cache-control"] == "no-store"
    page = running.client.get("/docs").body.decode()
    assert "/v1/report" in page
    assert "<script" not in page
    assert "src=" not in page


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/page/../app.py", "/app.py"],
)
def test_no_path_leaves_the_page(running: Running, path: str) -> None:
    answer = running.client.get(path)
    assert (answer.status, answer.code) == (404, "no_such_route")


def test_names_of_files_are_never_looked_at(running: Running, tmp_path: Path) -> None:
    target = tmp_path / "written.png"
    for name in (str(target), "../../../etc/cron.d/x", "a\\b", "x" * 5000, "nul\0"):
        answer = running.client.upload("/v1/check", png(film(0)), name)
        assert answer.status in (200, 400)
    assert not target.exists()


def test_nothing_is_left_on_the_disk(
    running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no-such-folder"))  # as good as a full disk
    noise = np.random.default_rng(0).integers(0, 256, (900, 1000), dtype=np.uint8)
    assert len(png(noise)) < 1_000_000 < len(png(np.concatenate([noise, noise[:200]])))
    for picture in (noise, np.concatenate([noise, noise[:100]])):
        assert running.client.upload("/v1/check", png(picture) + b"\0" * 2_000_000).status in (200, 400)
    assert running.client.post("/v1/draw", MASS).status == 200


# --- what is told


def test_logs_hold_nothing_of_a_request(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    words = ("secretpatient", "secretfile", "secretprompt")
    with local(engine, make_session=HeldSession) as running:
        client = running.client
        client.upload("/v1/check", b"secretpatient", "secretfile.png")
        client.post("/v1/draw", {"prompt": "secretprompt", "sampler": "secretpatient"})
        client.get("/secretpatient?x=secretprompt")
        running.session.breaks = True
        running.session.may_step.set()
        broken = client.post("/v1/draw", {"prompt": "secretprompt"})
        assert (broken.status, broken.code) == (500, "engine_error")
        assert "secret" not in broken.body.decode()
        until(lambda: len(running.sessions) == 2)
        running.session.may_step.set()
        assert client.post("/v1/draw", MASS).status == 200  # and it goes on
        metrics = client.get("/metrics").body.decode()
    for word in words:
        assert word not in log_text(caplog.records)
        assert word not in metrics
    assert "a pass of the network failed" in log_text(caplog.records)


def test_an_unforeseen_error_is_a_500_without_its_words(
    engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secretpatient")

    with local(engine) as running:
        monkeypatch.setattr(running.service, "submit_all", explode)
        answer = running.client.post("/v1/draw", MASS)
        assert (answer.status, answer.code) == (500, "internal_error")
        until(lambda: "ZeroDivisionError" in log_text(caplog.records))
        assert "secretpatient" not in answer.body.decode() + log_text(caplog.records)


# --- queue


SMALL = ServeSettings(queue=QueueSettings(max_waiting=2, max_reports=1, max_drawings=1, time_limit_s=30))


def test_a_full_queue_says_when_to_come_back(engine: Engine) -> None:
    with local(engine, SMALL, HeldSession) as running:
        client, queue = running.client, running.service.queue
        first = [in_background(client.post, "/v1/draw", MASS) for _ in range(3)]
        until(lambda: queue.num_waiting == 2)
        refused = client.post("/v1/draw", MASS)
        assert (refused.status, refused.code) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        batch = client.post("/v1/batch", {"requests": [{"kind": "draw", **MASS}] * 2})
        assert batch.status == 429
        assert client.get("/readyz").status == 200
        running.session.may_step.set()
        assert [answer.result().status for answer in first] == [200] * 3
        assert client.post("/v1/draw", MASS).status == 200


def test_a_job_over_its_time_is_given_up_waiting_or_running(engine: Engine) -> None:
    settings = ServeSettings(queue=QueueSettings(max_drawings=1, time_limit_s=2.0))
    with local(engine, settings, HeldSession) as running:
        answers = [in_background(running.client.post, "/v1/draw", MASS) for _ in range(2)]
        assert [(a.result().status, a.result().code) for a in answers] == [(504, "deadline")] * 2
        running.session.may_step.set()
        assert running.client.post("/v1/draw", MASS).status == 200
        assert running.session.num_sketches == 0


def test_a_client_that_goes_away_is_forgotten(engine: Engine) -> None:
    body = multipart(png(film(0)), "a.png", {"force": True, "stream": True, "max_new_tokens": 50})
    with local(engine, make_session=HeldSession) as running:
        client, queue = running.client, running.service.queue
        connection, response = client.open("POST", "/v1/report", body, {"Content-Type": form_type()})
        assert response.readline() == b"id: 1\n"
        until(lambda: queue.running)
        hang_up(connection)
        until(lambda: not queue.running)
        drawing = in_background(
            lambda: client.open("POST", "/v1/draw", b'{"prompt": "x"}', {"Content-Type": "application/json"})
        )
        until(lambda: queue.running)
        with socket.create_connection((client.host, client.port)) as silent:
            body = b'{"prompt": "x"}'
            head = b"POST /v1/draw HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            silent.sendall(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: len(queue.running) == 2)
        until(lambda: len(queue.running) == 1)
        running.session.may_step.set()
        assert drawing.result()[1].status == 200
        until(lambda: running.session.num_readings + running.session.num_sketches == 0)
        assert not queue._jobs


def test_a_silent_stream_says_that_it_is_still_there(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unixcxr.serve.streams.PING_S", 0.05)
    with local(engine, make_session=HeldSession) as running:
        stream = in_background(running.client.post, "/v1/draw", {**MASS, "stream": True})
        until(lambda: running.service.queue.running)
        time.sleep(0.2)
        running.session.may_step.set()
        answer = stream.result()
        assert answer.body.count(b": still here\n\n") >= 2
        assert answer.events[-1][0] == "pictures"
        assert answer.headers["cache-control"] == "no-store"


def test_a_streamed_job_is_cancelled_by_its_id(engine: Engine) -> None:
    with local(engine, make_session=HeldSession) as running:
        client = running.client
        stream = in_background(client.post, "/v1/draw", {**MASS, "stream": True})
        until(lambda: running.service.queue.running)
        (number,) = running.service.queue.running
        assert client.ask("DELETE", f"/v1/jobs/{number}").json["state"] == "cancelled"
        assert stream.result().events[-1] == (
            "error",
            {
                "message": "the job was cancelled",
                "type": "invalid_request_error",
                "code": "cancelled",
                "param": None,
            },
        )
        running.session.may_step.set()
        until(lambda: running.session.num_sketches == 0)


def test_an_engine_that_fails_fails_who_ran_and_no_one_else(engine: Engine) -> None:
    with local(engine, SMALL, HeldSession) as running:
        stream = in_background(running.client.post, "/v1/draw", {**MASS, "stream": True})
        until(lambda: running.service.queue.running)
        waiting = in_background(running.client.post, "/v1/draw", MASS)
        until(lambda: running.service.queue.num_waiting)
        running.session.breaks = True
        running.session.may_step.set()
        assert stream.result().events[-1][1]["code"] == "engine_error"
        until(lambda: len(running.sessions) == 2)
        running.session.may_step.set()
        assert waiting.result().status == 200


def test_a_report_as_a_data_url_must_be_base64(running: Running) -> None:
    for url in (
        "data:image/png;base64,%%%",
        "data:image/png;base64,abc",
        "data:text/html;base64,abcd",
        "file:///etc/passwd",
    ):
        answer = running.client.post("/v1/jobs", {"kind": "report", "image": url})
        assert answer.status == 400
        assert answer.code in ("bad_image", "invalid_request")
    assert running.client.post("/v1/jobs", {"kind": "report", "image": as_url(png(film(0)))}).status == 202
