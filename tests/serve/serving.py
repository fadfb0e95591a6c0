"""A real server on a real socket, in a thread, and a client that can also misbehave."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from unixcxr.sampling.batching import Session
from unixcxr.sampling.engine import Engine
from unixcxr.serve.runner import LocalRunner
from unixcxr.serve.server import Server, listen
from unixcxr.serve.service import ServeSettings, Service, StartedRunner
from unixcxr.serve.worker import Worker

WAIT_S = 90.0
"""How long something may take on a machine that is busy with other things."""
BOUNDARY = "a-boundary-that-no-test-sends"


class HeldSession(Session):
    """A session whose passes wait until they are let go; `breaks` makes the next one fail."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.may_step = threading.Event()
        self.breaks = False

    def step(self) -> list[Any]:
        if self.num_readings or self.num_sketches:
            self.may_step.wait(WAIT_S)
        if self.breaks:
            self.breaks = False
            raise MemoryError("secret words of the client")
        return super().step()


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])

    @property
    def events(self) -> list[tuple[str, Any]]:
        return list(events_in(io.BytesIO(self.body)))


def events_in(stream: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, data) of server-sent events; those without a name are "message"."""
    name = "message"
    for raw in stream:
        line = raw.decode().rstrip("\n")
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data = line[6:]
            yield name, data if data == "[DONE]" else json.loads(data)
            name = "message"


@dataclass
class Client:
    """Speaks HTTP to a server; `token` goes along when there is one."""

    host: str
    port: int
    token: str = ""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def open(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request and return connection and response, its body unread."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=WAIT_S)
        auth = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connection.request(method, path, body, {**auth, **(headers or {})})
        return connection, connection.getresponse()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection, response = self.open(method, path, body, sent)
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        connection.close()
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, value: Any, **headers: str) -> Answer:
        return self.ask("POST", path, json.dumps(value).encode(), content_type="application/json", **headers)

    def upload(self, path: str, file: bytes, name: str = "film.png", **fields: Any) -> Answer:
        return self.ask("POST", path, multipart(file, name, fields), content_type=form_type())


def form_type() -> str:
    return f"multipart/form-data; boundary={BOUNDARY}"


def multipart(file: bytes | None, name: str, fields: dict[str, Any]) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    if file is not None:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        parts.append(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + file + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def film(seed: int = 0, height: int = 20, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def as_url(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def from_url(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])


@dataclass
class Running:
    """A server at work, what it is made of, and what it logged."""

    client: Client
    service: Service
    server: Server
    sessions: list[Session] = field(default_factory=list)

    @property
    def session(self) -> Any:
        return self.sessions[-1]


@contextmanager
def serving(runner: StartedRunner, settings: ServeSettings | None = None) -> Iterator[Running]:
    """Run a server in a thread for the length of the block."""
    service = Service(runner, settings or ServeSettings())
    started = threading.Event()
    server = Server(service, started.set)
    sock = listen("127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])), daemon=True)
    thread.start()
    assert started.wait(60), "the server did not start"
    try:
        yield Running(Client("127.0.0.1", sock.getsockname()[1]), service, server)
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        sock.close()
        assert not thread.is_alive(), "the server did not stop"


@contextmanager
def local(
    engine: Engine,
    settings: ServeSettings | None = None,
    make_session: type[Session] = Session,
    max_pixels: int = 1_000_000,
) -> Iterator[Running]:
    """Run a server whose model is a thread of this process."""
    sessions: list[Session] = []

    def make(engine: Engine) -> Session:
        sessions.append(make_session(engine))
        return sessions[-1]

    with serving(LocalRunner(lambda emit: Worker(engine, emit, max_pixels, make)), settings) as running:
        running.sessions = sessions
        yield running


def until(condition: Any, wait_s: float = WAIT_S) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.005)


def in_background(call: Any, *arguments: Any, **options: Any) -> Background:
    return Background(call, arguments, options)


class Background:
    """A call on a thread; `result()` waits for it."""

    def __init__(self, call: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._answer: list[Any] = []
        self._thread = threading.Thread(target=lambda: self._answer.append(call(*arguments, **options)))
        self._thread.start()

    def result(self) -> Any:
        self._thread.join(2 * WAIT_S)
        assert self._answer, "the call did not return, or failed"
        return self._answer[0]


def hang_up(connection: http.client.HTTPConnection) -> None:
    """Go away without a word."""
    if connection.sock is not None:
        connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def log_text(records: list[logging.LogRecord]) -> str:
    return "\n".join(logging.Formatter().format(record) for record in records)
