"""The web process: one event loop, one application, and an end that loses no work."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from unixcxr.errors import ConfigError
from unixcxr.serve.app import create_app
from unixcxr.serve.service import Service

KEEP_ALIVE_S = 15
BACKLOG = 512


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
