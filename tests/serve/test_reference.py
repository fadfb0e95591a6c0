"""The HTTP reference says what the routes do, and its examples work."""

from __future__ import annotations

import json
from typing import Any

from docs import make_api_reference

from serve.serving import Running
from unixcxr.serve import schema


def test_the_http_reference_is_fresh() -> None:
    assert make_api_reference.TARGET.read_text(encoding="utf-8") == make_api_reference.render(), (
        "run `make docs`"
    )


def test_every_json_route_has_examples_and_they_work(running: Running) -> None:
    api = running.client.get("/openapi.json").json
    tried = 0
    for path, methods in api["paths"].items():
        for method, route in methods.items():
            assert route["summary"]
            assert route["description"]
            content = route.get("requestBody", {}).get("content", {}).get("application/json")
            if content is None:
                continue
            for example in content["examples"].values():
                answer = running.client.post(path, _small(example["value"]))
                assert answer.status in (200, 202), (path, answer.body[:300])
                tried += 1
            assert method == "post"
    assert tried >= 7


def _small(value: dict[str, Any]) -> dict[str, Any]:
    """The tiny model knows few long prompts, and the test has little time."""
    return json.loads(json.dumps(value).replace('"num_pictures": 4', '"num_pictures": 2'))


def test_every_event_is_described() -> None:
    text = make_api_reference.render()
    for name in schema.EVENTS:
        assert f"`{name}`" in text
