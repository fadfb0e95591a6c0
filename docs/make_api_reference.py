"""Write docs/api.md from the server's OpenAPI: `make docs`."""

from __future__ import annotations

from pathlib import Path

from unixcxr.serve.app import create_app
from unixcxr.serve.reference import as_markdown
from unixcxr.serve.runner import ProcessRunner, WorkerSpec
from unixcxr.serve.service import ServeSettings, Service

TARGET = Path(__file__).with_name("api.md")

HEAD = """<!-- Written by docs/make_api_reference.py from the routes; do not edit by hand. -->
"""

TAIL = """
## Events

A streamed answer is server-sent events: `event: NAME`, `id: N`, `data: JSON`. First `queued` (id, position), then
`started` (for a report with the gate's answer), then `text` (delta) or `step` (step, num_steps, previews), and at
last one of `report`, `pictures` or `error`. `DELETE /v1/jobs/{id}` with the id of `queued` cancels. A silent stream
sends a comment line now and then. `/v1/chat/completions` streams OpenAI's chunks instead, up to `data: [DONE]`.

## Errors

| status | code |
|---|---|
"""


def render() -> str:
    """Return the whole reference as Markdown."""
    from unixcxr.serve.failure import STATUS

    api = create_app(Service(ProcessRunner(WorkerSpec()), ServeSettings())).app.openapi()
    rows = [f"| {status} | `{code}` |" for code, status in STATUS.items()]
    return HEAD + as_markdown(api) + TAIL + "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
