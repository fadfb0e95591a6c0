"""Many machines: the same application on Ray Serve, so many replicas, each with a model process of its own.

Needs the extra `ray`. Jobs live in the replica that began them, and Ray sends each request where it likes:
`/v1/jobs/{id}` is for a single server; streams, batches and everything else need nothing of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unixcxr.errors import ConfigError
from unixcxr.serve.app import create_app
from unixcxr.serve.runner import ProcessRunner
from unixcxr.serve.service import Service

if TYPE_CHECKING:
    from unixcxr.serve.server import Options

SPARE_REQUESTS = 16
"""Requests beyond jobs that a replica answers at once: health, numbers, the page."""


class Replica:
    """One copy of the application (ASGI), which starts and stops its model process with itself."""

    def __init__(self, options: Options) -> None:
        self.service = Service(ProcessRunner(options.worker()), options.settings())
        self.app = create_app(self.service)

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        """Answer a request, or live through a "lifespan" from start to end."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        while True:
            if (await receive())["type"] == "lifespan.startup":
                await self.service.runner.start(self.service.queue.on_event)
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.service.queue.drain(self.service.settings.drain_s)
                await self.service.runner.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def check_health(self) -> None:
        """Raise when the model takes no work: Ray starts a replica again that says so three times."""
        if not self.service.runner.is_ready:
            raise RuntimeError("the model process is not ready")


def deploy(options: Options, num_replicas: int, name: str = "unixcxr") -> None:
    """Deploy replicas on the Ray cluster that is connected to, or on a new one of this machine; return when they run.

    Raises ConfigError when Ray is not installed.
    """
    try:
        import ray
        from ray import serve
    except ImportError:
        raise ConfigError("--runner ray needs Ray; install it: pip install 'unixcxr[ray]'") from None
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anybody
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)

    def build() -> Replica:
        return Replica(options)

    @serve.ingress(build)
    class Deployment:
        def check_health(self) -> None:
            self.app.check_health()  # type: ignore[attr-defined]  # Ray's ingress adds the application

    deployment = serve.deployment(
        Deployment,
        name=name,
        num_replicas=num_replicas,
        max_ongoing_requests=options.max_queue + options.max_reports + options.max_drawings + SPARE_REQUESTS,
        health_check_period_s=10,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=options.drain_s + 5,
        ray_actor_options={"num_cpus": 1, "num_gpus": 1 if options.device.startswith("cuda") else 0},
    )
    serve.start(http_options={"host": options.host, "port": options.port})
    serve.run(deployment.bind(), name=name, route_prefix="/")


def run_on_ray(options: Options, num_replicas: int, on_started: Callable[[str, str], None]) -> None:
    """Serve on Ray until told to stop."""
    deploy(options, num_replicas)
    from ray import serve

    on_started(f"http://{options.host}:{options.port}", f"{num_replicas} replicas of {options.model}")
    try:
        threading.Event().wait()
    finally:
        serve.shutdown()
