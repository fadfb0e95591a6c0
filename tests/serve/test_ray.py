"""Two replicas on a Ray cluster of this machine answer like one server. Needs the extra `ray`; about a minute."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.serving import Client, film, in_background, png
from unixcxr.sampling.engine import Engine
from unixcxr.serve.replicas import deploy
from unixcxr.serve.server import Options

pytestmark = [pytest.mark.long, pytest.mark.ray]


@pytest.fixture(scope="module")
def client(model_dir: Path) -> Iterator[Client]:
    ray = pytest.importorskip("ray")
    serve = pytest.importorskip("ray.serve")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        deploy(Options(port=port, model=str(model_dir)), num_replicas=2)
        yield Client("127.0.0.1", port)
    finally:
        serve.shutdown()
        ray.shutdown()


def test_replicas_answer_like_one_server(client: Client, engine: Engine) -> None:
    reads = [
        in_background(client.upload, "/v1/report", png(film(k)), force=True, seed=k, temperature=1.0)
        for k in range(8)
    ]
    for k, reading in enumerate(reads):
        alone = engine.write_report(film(k), seeds=[k], temperature=1.0)
        assert reading.result().json["token_ids"] == list(alone.token_ids)


def test_streams_and_failures_pass_the_proxy(client: Client) -> None:
    stream = client.post("/v1/draw", {"prompt": "Mass", "num_steps": 3, "stream": True})
    assert [name for name, _ in stream.events] == ["queued", "started", "step", "step", "step", "pictures"]
    assert client.upload("/v1/report", b"no picture").code == "bad_image"
    assert client.get("/readyz").status == 200
    assert "script-src 'self'" in client.get("/healthz").headers["content-security-policy"]


def test_both_replicas_work(client: Client) -> None:
    from ray import serve

    (deployment,) = serve.status().applications["unixcxr"].deployments.values()
    assert {str(state): count for state, count in deployment.replica_states.items()} == {"RUNNING": 2}
