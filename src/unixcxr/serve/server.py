"""The web process: one event loop, one application, and an end that loses no work."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from unixcxr.errors import ConfigError
from unixcxr.serve.app import create_app
from unixcxr.serve.guard import GuardSettings
from unixcxr.serve.jobs import QueueSettings
from unixcxr.serve.replicas import run_on_ray
from unixcxr.serve.runner import ProcessRunner, WorkerSpec
from unixcxr.serve.service import ServeSettings, Service
from unixcxr.serve.tokens import make_token, read_tokens

__all__ = ["Options", "Server", "listen", "make_token", "run", "run_on_ray"]

KEEP_ALIVE_S = 15
BACKLOG = 512
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Options:
    """What the command line can say about a server."""

    host: str = "127.0.0.1"
    port: int = 8000
    model: str = "embedded"
    device: str = "cpu"
    dtype: str = "float32"
    max_queue: int = 64
    max_reports: int = 16
    max_drawings: int = 8
    time_limit_s: float = 300.0
    max_upload_mb: int = 64
    max_megapixels: int = 40
    drain_s: float = 30.0
    token_file: Path | None = None
    rate_per_minute: int = 0
    allowed_hosts: tuple[str, ...] = ()
    is_open_to_all: bool = False

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and self.token_file is None and not self.is_open_to_all:
            raise ConfigError(
                f"--host {self.host} reaches beyond this machine; give a --token-file, or --open-to-all if that is "
                "meant"
            )

    def worker(self) -> WorkerSpec:
        """Return what the model's process loads."""
        return WorkerSpec(self.model, self.device, self.dtype, self.max_megapixels * 1_000_000)

    def settings(self) -> ServeSettings:
        """Return the limits of the server; reads the token file."""
        names = {name.lower() for name in self.allowed_hosts}
        guard = GuardSettings(
            tokens={} if self.token_file is None else read_tokens(self.token_file),
            allowed_hosts=frozenset(
                names | (GuardSettings().allowed_hosts if self.host in LOOPBACK else set())
            ),
            rate_per_minute=self.rate_per_minute,
            max_upload_bytes=self.max_upload_mb << 20,
        )
        queue = QueueSettings(
            self.max_queue, self.max_reports, self.max_drawings, time_limit_s=self.time_limit_s
        )
        return ServeSettings(queue, guard, self.drain_s)


def run(options: Options, on_started: Callable[[str, str], None]) -> None:
    """Serve until told to stop; `on_started` gets the address and the model's name.

    Raises ConfigError when the address cannot be had, ModelError when the model cannot be loaded.
    """
    service = Service(ProcessRunner(options.worker()), options.settings())
    with listen(options.host, options.port) as sock:
        name = f"[{options.host}]" if ":" in options.host else options.host
        url = f"http://{name}:{sock.getsockname()[1]}"
        server = Server(service, lambda: on_started(url, service.runner.info["model"]))
        asyncio.run(server.serve([sock]))


class Server(uvicorn.Server):
    """On SIGTERM or Ctrl-C takes nothing new, lets what runs finish, then stops; a second signal stops at once.

    While it drains it goes on listening, so that `/readyz` can tell a load balancer to look elsewhere.
    """

    def __init__(self, service: Service, on_started: Callable[[], None] = lambda: None) -> None:
        config = uvicorn.Config(
            create_app(service),
            access_log=False,  # paths and addresses are no business of a log; /metrics counts
            log_level="warning",
            log_config=None,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=32 << 10,
            ws="none",
        )
        super().__init__(config)
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings quote what clients send
        self.service = service
        self.on_started = on_started
        self._drain: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the model, then serve until told to stop. Raises ModelError when it cannot be loaded."""
        self._loop = asyncio.get_running_loop()
        runner = self.service.runner
        await runner.start(self.service.queue.on_event)
        try:
            await super().serve(sockets)
        finally:
            await self.service.queue.drain(0)
            await runner.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self.on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain on the first signal; stop at once on the second."""
        if self.should_exit:
            self.force_exit = True
        elif self.service.queue.is_draining or self._loop is None:
            self.should_exit = True
        else:
            self.service.queue.is_draining = True
            self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._drain = asyncio.create_task(self._drain_and_stop())

    async def _drain_and_stop(self) -> None:
        await self.service.queue.drain(self.service.settings.drain_s)
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises ConfigError when the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot listen at {host} port {port}: {reason}; choose another --port or --host"
        ) from None
