"""What the routes share: the queue, the runner, the settings and the numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request

from unixcxr.serve.guard import GuardSettings
from unixcxr.serve.jobs import Job, JobQueue, QueueSettings, Runner
from unixcxr.serve.runner import OnEvent

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class ServeSettings:
    """Everything that can be set about a server but its address."""

    queue: QueueSettings = field(default_factory=QueueSettings)
    guard: GuardSettings = field(default_factory=GuardSettings)
    drain_s: float = 30.0
    page: Path = PAGE


class StartedRunner(Runner, Protocol):
    """A runner with its life: what the application starts and stops."""

    info: dict[str, Any]
    num_restarts: int

    async def start(self, on_event: OnEvent) -> None:
        """Return when the model is loaded."""
        ...

    async def stop(self) -> None:
        """End it."""
        ...


class Service:
    """One server's queue, runner and numbers."""

    def __init__(self, runner: StartedRunner, settings: ServeSettings) -> None:
        self.runner = runner
        self.settings = settings
        self.registry = CollectorRegistry()
        self.queue = JobQueue(runner, settings.queue, self._count_job)
        self._requests = Counter(
            "unixcxr_requests", "HTTP requests", ("method", "route", "status"), registry=self.registry
        )
        self._request_s = Histogram(
            "unixcxr_request_seconds", "Time to answer", ("route",), buckets=SECONDS, registry=self.registry
        )
        self._jobs = Counter("unixcxr_jobs", "Jobs that ended", ("kind", "outcome"), registry=self.registry)
        self._job_s = Histogram(
            "unixcxr_job_seconds",
            "Time from arrival to result",
            ("kind",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter("unixcxr_tokens", "Report tokens written", registry=self.registry)
        self._pictures = Counter("unixcxr_pictures", "Pictures drawn", registry=self.registry)
        gauges = {
            "unixcxr_jobs_waiting": ("Jobs that have not begun", lambda: self.queue.num_waiting),
            "unixcxr_jobs_running": ("Jobs in the model", lambda: len(self.queue.running)),
            "unixcxr_model_ready": ("1 when the model takes work", lambda: int(runner.is_ready)),
            "unixcxr_model_restarts": (
                "Times the model process was started again",
                lambda: runner.num_restarts,
            ),
        }
        for name, (about, value) in gauges.items():
            Gauge(name, about, registry=self.registry).set_function(value)

    def submit(self, request: Request, kind: str, message: dict[str, Any], *, is_kept: bool = False) -> Job:
        """Queue one job for the client of a request."""
        return self.submit_all(request, [kind], [message], is_kept=is_kept)[0]

    def submit_all(
        self,
        request: Request,
        kinds: Sequence[str],
        messages: Sequence[dict[str, Any]],
        *,
        is_kept: bool = False,
    ) -> list[Job]:
        """Queue jobs, all or none, for the client of a request."""
        return self.queue.submit(kinds, messages, request.state.client, is_kept=is_kept)

    def count_answer(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP answer; the route is its template, so that numbers hold nothing a client wrote."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._request_s.labels(route).observe(seconds)

    def metrics(self) -> bytes:
        """Return the numbers in Prometheus' text format."""
        return generate_latest(self.registry)

    def _count_job(self, job: Job) -> None:
        self._jobs.labels(job.kind, job.failure.code if job.failure else "done").inc()
        if job.result is None:
            return
        self._job_s.labels(job.kind).observe(job.seconds)
        self._tokens.inc(len(job.result.get("token_ids", ())))
        self._pictures.inc(len(job.result.get("pictures", ())))


_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})


def service_of(request: Request) -> Service:
    """Return the service of the application that a request came to."""
    service: Service = request.app.state.service
    return service
