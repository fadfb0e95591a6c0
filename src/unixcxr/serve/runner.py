"""Where the model runs: one supervised child process, or a thread of this one with an engine that is passed in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from unixcxr.errors import ModelError
from unixcxr.serve.wire import LENGTH, MAX_FRAME_BYTES, Message, pack, unpack

if TYPE_CHECKING:
    from unixcxr.serve.worker import Worker

log = logging.getLogger(__name__)

OnEvent = Callable[[Message], None]

STOP_S = 5.0
HANG_S = 60.0
"""A child that says nothing for so long while it has work is taken for dead."""

MAX_PAUSE_S = 5.0


@dataclass(frozen=True)
class WorkerSpec:
    """What the child process loads, and the largest picture it decodes."""

    model: str = "embedded"
    device: str = "cpu"
    dtype: str = "float32"
    max_pixels: int = 40_000_000


class ProcessRunner:
    """Keeps one child process with the model alive, and talks to it over its standard input and output.

    A child that dies or hangs is announced as "lost" and started again; a pause grows while starts fail.
    """

    def __init__(self, spec: WorkerSpec, hang_s: float = HANG_S) -> None:
        self.spec = spec
        self.hang_s = hang_s
        self.info: dict[str, Any] = {}
        self.num_restarts = 0
        self.is_ready = False
        self._child: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._fatal = ""
        self._last_event_s = 0.0

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return None if self._child is None else self._child.pid

    async def start(self, on_event: OnEvent) -> None:
        """Start the child and return when its model is loaded. Raises ModelError when it cannot be."""
        first = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(on_event, first))
        try:
            await first
        except ModelError:
            await self.stop()
            raise

    def send(self, message: Message) -> None:
        """Write a message to the child; one that cannot be written is lost with the child."""
        if self._child is not None and self._child.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._child.stdin.write(pack(message))

    async def stop(self) -> None:
        """End the child: its standard input closes, and if that does not help, it is killed."""
        self.is_ready = False
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._child is not None and self._child.returncode is None:
            if self._child.stdin is not None:
                self._child.stdin.close()
            try:
                await asyncio.wait_for(self._child.wait(), STOP_S)
            except TimeoutError:
                self._child.kill()
                await self._child.wait()

    async def _keep(self, on_event: OnEvent, first: asyncio.Future[None]) -> None:
        pause_s = 0.0
        while True:
            started = asyncio.get_running_loop().time()
            reason = await self._live(on_event, first)
            self.is_ready = False
            if not first.done():
                first.set_exception(ModelError(self._fatal or f"the model process did not start ({reason})"))
                return
            on_event({"event": "lost", "reason": reason})
            self.num_restarts += 1
            lived_s = asyncio.get_running_loop().time() - started
            pause_s = 0.0 if lived_s > MAX_PAUSE_S else min(MAX_PAUSE_S, 2 * pause_s + 0.25)
            await asyncio.sleep(pause_s)

    async def _live(self, on_event: OnEvent, first: asyncio.Future[None]) -> str:
        """Run one child from birth to death; return what it died of."""
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "unixcxr.serve.worker",
            json.dumps(asdict(self.spec)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the web process, which then lets running jobs finish
        )
        child = self._child
        watcher = asyncio.create_task(self._watch(child))
        try:
            assert child.stdout is not None, "the child's output is a pipe"
            while True:
                (length,) = LENGTH.unpack(await child.stdout.readexactly(LENGTH.size))
                if length > MAX_FRAME_BYTES:
                    child.kill()
                    return "it sent nonsense"
                self._hear(unpack(await child.stdout.readexactly(length)), on_event, first)
        except asyncio.IncompleteReadError:
            code = await child.wait()
            return f"signal {-code}" if code < 0 else f"exit code {code}"
        finally:
            watcher.cancel()

    def _hear(self, message: Message, on_event: OnEvent, first: asyncio.Future[None]) -> None:
        self._last_event_s = asyncio.get_running_loop().time()
        name = message["event"]
        if name == "fatal":
            self._fatal = message["message"]
            log.warning("the model cannot be loaded: %s", self._fatal)
        elif name == "ready":
            self.info, self.is_ready = message["info"], True
            on_event(message)
            if not first.done():
                first.set_result(None)
        elif name != "beat":
            on_event(message)

    async def _watch(self, child: asyncio.subprocess.Process) -> None:
        """Kill a child that has been silent too long; loading a model may take as long as it likes."""
        while True:
            await asyncio.sleep(self.hang_s / 4)
            silent_s = asyncio.get_running_loop().time() - self._last_event_s
            if self.is_ready and silent_s > self.hang_s:
                log.warning("the model process has been silent for %.0f s; it is killed", silent_s)
                child.kill()
                return


class LocalRunner:
    """Runs a worker on a thread of this process; `make_worker` gets the function that its events go to."""

    def __init__(self, make_worker: Callable[[OnEvent], Worker]) -> None:
        self.make_worker = make_worker
        self.info: dict[str, Any] = {}
        self.num_restarts = 0
        self.is_ready = False
        self._worker: Worker | None = None
        self._thread: threading.Thread | None = None

    async def start(self, on_event: OnEvent) -> None:
        """Start the thread and return when it takes work."""
        loop = asyncio.get_running_loop()
        first = asyncio.Event()

        def hear(message: Message) -> None:
            if message["event"] == "ready":
                self.info, self.is_ready = message["info"], True
                first.set()
            if message["event"] != "beat":
                on_event(message)

        def emit(message: Message) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(hear, message)

        self._worker = self.make_worker(emit)
        self._thread = threading.Thread(target=self._worker.run, daemon=True, name="model")
        self._thread.start()
        await first.wait()

    def send(self, message: Message) -> None:
        """Hand a message to the thread."""
        assert self._worker is not None, "the runner has not been started"
        self._worker.put(message)

    async def stop(self) -> None:
        """End the thread after the pass that is going on."""
        self.is_ready = False
        if self._worker is not None and self._thread is not None:
            self._worker.stop()
            await asyncio.to_thread(self._thread.join, STOP_S)
