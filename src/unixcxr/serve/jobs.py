"""The queue: who waits, who runs, who is told what. It lives in the web process, on its event loop, alone.

Waiting jobs take turns by client, so that one client's hundred jobs do not hold up another's first. Reports,
drawings and chores (checks, explanations) have slots of their own. A job ends in one last event: its result or
an error; it ends early when its time is up, when it is cancelled, or when the process that ran it died.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from unixcxr.serve.failure import RequestError
from unixcxr.serve.wire import Message

log = logging.getLogger(__name__)

GROUPS = {"report": "report", "draw": "draw", "check": "chore", "explain": "chore"}
"""Kind of job -> the slots it runs in."""

LAST_EVENTS = frozenset({"report", "pictures", "check", "explain", "error"})


@dataclass(frozen=True)
class QueueSettings:
    """How much may wait and run, and for how long. Times in seconds."""

    max_waiting: int = 64
    max_reports: int = 16
    max_drawings: int = 8
    max_chores: int = 4
    time_limit_s: float = 300.0
    keep_s: float = 600.0
    max_kept: int = 256

    def slots(self, group: str) -> int:
        """Return how many jobs of a group run at once."""
        return {"report": self.max_reports, "draw": self.max_drawings, "chore": self.max_chores}[group]


@dataclass(frozen=True)
class Event:
    """One thing that happened to a job; `data` is JSON but for pictures, which are bytes."""

    name: str
    data: dict[str, Any]


@dataclass(eq=False)
class Job:
    """One request on its way."""

    id: str
    kind: str
    client: str
    message: Message
    is_kept: bool
    began: float
    state: str = "waiting"
    events: list[Event] = field(default_factory=list)
    progress: float = 0.0
    failure: RequestError | None = None
    result: dict[str, Any] | None = None
    seconds: float = 0.0
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def group(self) -> str:
        """The slots it runs in."""
        return GROUPS[self.kind]

    @property
    def is_over(self) -> bool:
        """Whether the last event has happened."""
        return self.state in ("done", "failed", "cancelled")

    def tell(self, event: Event) -> None:
        """Add an event, and wake who follows. Only the newest previews are kept."""
        if event.data.get("previews"):
            self.events = [
                Event(old.name, {**old.data, "previews": None}) if old.data.get("previews") else old
                for old in self.events
            ]
        self.events.append(event)
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self, after: int = 0) -> AsyncIterator[tuple[int, Event]]:
        """Yield (number, event) from event `after` + 1 on, until the last one."""
        shown = after
        while True:
            changed = self._changed
            while shown < len(self.events):
                shown += 1
                yield shown, self.events[shown - 1]
            if self.is_over:
                return
            await changed.wait()

    async def wait(self) -> dict[str, Any]:
        """Return the result. Raises the RequestError that ended the job instead."""
        while not self.is_over:
            await self._changed.wait()
        if self.failure is not None:
            raise self.failure
        assert self.result is not None, "a job ends in a result or a failure"
        return self.result


class Runner(Protocol):
    """Where jobs run. Events go to the `on_event` that `start` was given, on the event loop."""

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded and takes work."""
        ...

    def send(self, message: Message) -> None:
        """Hand over a message without waiting."""
        ...


class JobQueue:
    """Takes jobs, runs them as slots allow, and passes the runner's events on."""

    def __init__(
        self, runner: Runner, settings: QueueSettings, on_end: Callable[[Job], None] | None = None
    ) -> None:
        self.runner = runner
        self.settings = settings
        self.on_end = on_end
        self.is_draining = False
        self.running: dict[str, Job] = {}
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: dict[str, OrderedDict[str, deque[Job]]] = {
            group: OrderedDict() for group in set(GROUPS.values())
        }
        self._pace_s = dict.fromkeys(self._waiting, 1.0)

    # --- what requests call

    def submit(
        self, kinds: Sequence[str], messages: Sequence[Message], client: str, *, is_kept: bool = False
    ) -> list[Job]:
        """Take jobs, all or none. Raises RequestError when the queue is full or the server is on its way down."""
        if self.is_draining:
            raise RequestError("draining", "the server is shutting down; send it again", retry_after_s=10)
        free = (
            sum(self._free(group) for group in {GROUPS[kind] for kind in kinds})
            if self.runner.is_ready
            else 0
        )
        if self.num_waiting + len(kinds) > self.settings.max_waiting + free:
            raise RequestError(
                "queue_full",
                f"{self.num_waiting} jobs are waiting and {self.settings.max_waiting} may; send it again later",
                retry_after_s=self._retry_after_s(GROUPS[kinds[0]]),
            )
        loop = asyncio.get_running_loop()
        jobs = []
        for kind, message in zip(kinds, messages, strict=True):
            number = f"job-{secrets.token_urlsafe(16)}"
            job = Job(number, kind, client, {**message, "op": kind, "id": number}, is_kept, loop.time())
            job.tell(Event("queued", {"id": number, "position": self._num_waiting(job.group)}))
            job.timers.append(loop.call_later(self.settings.time_limit_s, self._expire, job))
            self._jobs[number] = job
            self._waiting[job.group].setdefault(client, deque()).append(job)
            jobs.append(job)
        self._pump()
        return jobs

    def get(self, number: str, client: str) -> Job:
        """Return a job of this client. Raises RequestError: other people's jobs do not exist."""
        job = self._jobs.get(number)
        if job is None or job.client != client:
            raise RequestError("no_such_job", "no such job; jobs are forgotten some minutes after they end")
        return job

    def position(self, job: Job) -> int | None:
        """Return how many jobs stand before one that waits: an estimate, since clients take turns."""
        queue = self._waiting[job.group].get(job.client, deque())
        return queue.index(job) if job.state == "waiting" else None

    def cancel(self, job: Job, failure: RequestError | None = None) -> None:
        """End a job that is not over; running, it leaves the model between two steps."""
        if job.is_over:
            return
        if job.state == "running":
            self.runner.send({"op": "cancel", "id": job.id})
        self._end(job, failure=failure or RequestError("cancelled", "the job was cancelled"))

    def forget(self, job: Job) -> None:
        """Drop a job whose answer has been sent; one that is not over is cancelled."""
        self.cancel(job)
        self._jobs.pop(job.id, None)

    @property
    def num_waiting(self) -> int:
        """Jobs that have not begun."""
        return sum(self._num_waiting(group) for group in self._waiting)

    async def drain(self, time_limit_s: float) -> None:
        """Take nothing new, let what there is finish, and end what has not after the time limit."""
        self.is_draining = True
        loop = asyncio.get_running_loop()
        until = loop.time() + time_limit_s
        while (self.running or self.num_waiting) and loop.time() < until:
            await asyncio.sleep(0.05)
        for job in list(self._jobs.values()):
            self.cancel(
                job, RequestError("draining", "the server shut down before the job was done; send it again")
            )

    # --- what the runner calls

    def on_event(self, message: Message) -> None:
        """Take an event of the runner."""
        name = message["event"]
        if name == "ready":
            self._pump()
        elif name == "lost":
            self._lose_running(message["reason"])
        else:
            job = self.running.get(message["id"])
            if job is not None:  # else it was cancelled meanwhile
                self._pass_on(job, name, message)

    def _pass_on(self, job: Job, name: str, message: Message) -> None:
        data = {key: value for key, value in message.items() if key not in ("event", "id")}
        if name == "error":
            self._end(job, failure=RequestError(data["code"], data["message"]))
        elif name in LAST_EVENTS:
            self._end(job, result=data, name=name)
        else:
            if name == "step":
                job.progress = data["step"] / data["num_steps"]
            job.tell(Event(name, data))

    def _lose_running(self, reason: str) -> None:
        log.warning("the model process was lost (%s); %d jobs end", reason, len(self.running))
        for job in list(self.running.values()):
            text = f"the model process ended while the job ran ({reason}); send it again"
            self._end(job, failure=RequestError("worker_died", text, retry_after_s=10))

    # --- inside

    def _num_waiting(self, group: str) -> int:
        return sum(len(queue) for queue in self._waiting[group].values())

    def _free(self, group: str) -> int:
        return self.settings.slots(group) - sum(job.group == group for job in self.running.values())

    def _pump(self) -> None:
        """Start what waits, client by client, while there are slots."""
        if not self.runner.is_ready:
            return
        for group, clients in self._waiting.items():
            for _ in range(self._free(group)):
                if not clients:
                    break
                client, queue = clients.popitem(last=False)
                job = queue.popleft()
                if queue:
                    clients[client] = queue
                job.state = "running"
                self.running[job.id] = job
                self.runner.send(job.message)
                job.message = {}

    def _expire(self, job: Job) -> None:
        limit = f"{self.settings.time_limit_s:g} s"
        self.cancel(
            job, RequestError("deadline", f"not done within {limit}; ask for less, or when less is going on")
        )

    def _end(
        self,
        job: Job,
        *,
        result: dict[str, Any] | None = None,
        failure: RequestError | None = None,
        name: str = "error",
    ) -> None:
        loop = asyncio.get_running_loop()
        if job.state == "waiting":
            queue = self._waiting[job.group][job.client]
            queue.remove(job)
            if not queue:
                del self._waiting[job.group][job.client]
        elif self.running.pop(job.id, None) and result is not None:
            self._pace_s[job.group] += 0.2 * (loop.time() - job.began - self._pace_s[job.group])
        for timer in job.timers:
            timer.cancel()
        job.seconds = loop.time() - job.began
        job.message = {}
        job.result, job.failure = result, failure
        if failure is None:
            job.state, job.progress = "done", 1.0
        else:
            job.state = "cancelled" if failure.code == "cancelled" else "failed"
        job.tell(Event(name, failure.detail if failure is not None else result or {}))
        if self.on_end is not None:
            self.on_end(job)
        if job.is_kept:
            loop.call_later(self.settings.keep_s, self._jobs.pop, job.id, None)
            over = [number for number, kept in self._jobs.items() if kept.is_over and kept.is_kept]
            for number in over[: max(0, len(over) - self.settings.max_kept)]:
                del self._jobs[number]
        self._pump()

    def _retry_after_s(self, group: str) -> int:
        """Guess when a place is free: the pace of late, over the slots."""
        rounds = (self._num_waiting(group) + 1) / self.settings.slots(group)
        return min(60, max(1, math.ceil(self._pace_s[group] * rounds)))
