"""From jobs to answers: waiting while the client is there, server-sent events, and results as clients read them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from unixcxr.serve import schema
from unixcxr.serve.failure import RequestError
from unixcxr.serve.jobs import Event, Job, JobQueue

PING_S = 10.0
"""A stream that is silent for so long says that it is still there: proxies close idle connections."""

PNG = b"\x89PNG"

Result = schema.ReportResult | schema.DrawResult | schema.CheckResult | schema.ExplainResult


async def wait_for(queue: JobQueue, request: Request, jobs: Sequence[Job]) -> list[Job]:
    """Wait until all jobs are over; they are cancelled when the client goes away, and forgotten."""
    try:
        await _while_here(request, _until_over(jobs))
        return list(jobs)
    finally:
        for job in jobs:
            queue.forget(job)


async def wait_for_text(queue: JobQueue, request: Request, job: Job) -> None:
    """Wait until a report has text. Raises the RequestError of one that failed before: it is still a status then."""
    try:
        await _while_here(request, _until_text(job))
        if job.failure is not None:
            raise job.failure
    except BaseException:  # a cancelled request too
        queue.forget(job)
        raise


class EventStream(Response):
    """Sends chunks of server-sent events as they come, with pings; `on_end` runs when it is over or the client gone."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[str], on_end: Callable[[], None]) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self.chunks = chunks
        self.on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the chunks or the connection end."""
        tasks = {asyncio.create_task(_until_gone(receive)), asyncio.create_task(self._pump(send))}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            self.on_end()

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        coming: asyncio.Task[str] | None = None
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(self.chunks))
                done, _ = await asyncio.wait({coming}, timeout=PING_S)
                if not done:
                    chunk = ": still here\n\n"
                else:
                    chunk, coming = coming.result(), None
                await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})
        except StopAsyncIteration:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if coming is not None:
                coming.cancel()


async def event_chunks(job: Job, after: int = 0) -> AsyncIterator[str]:
    """Yield the events of a job as server-sent events, from number `after` + 1 on."""
    async for number, event in job.follow(after):
        yield f"id: {number}\nevent: {event.name}\ndata: {json.dumps(present_event(job, event))}\n\n"


def present_event(job: Job, event: Event) -> dict[str, Any]:
    """Return the data of an event as clients read it."""
    if event.name in ("report", "pictures", "check", "explain"):
        return present(job).model_dump(mode="json")
    if event.data.get("previews"):
        return {**event.data, "previews": [data_url(preview) for preview in event.data["previews"]]}
    return event.data


def present(job: Job) -> Result:
    """Return the result of a finished job as clients read it. Raises the RequestError of a failed one."""
    if job.failure is not None:
        raise job.failure
    data = {**(job.result or {}), "seconds": round(job.seconds, 3)}
    if job.kind == "report":
        return schema.ReportResult(**data)
    if job.kind == "draw":
        pictures = [{**picture, "data": data_url(picture["data"])} for picture in data["pictures"]]
        return schema.DrawResult(**{**data, "pictures": pictures})
    image = data.get("image")
    data["image"] = None if image is None else data_url(image)
    return schema.CheckResult(**data) if job.kind == "check" else schema.ExplainResult(**data)


def data_url(content: bytes) -> str:
    """Return a PNG or DICOM file as a data: URL."""
    media_type = "image/png" if content.startswith(PNG) else "application/dicom"
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def from_data_url(url: str) -> bytes:
    """Return the bytes of a data: URL in base64. Raises RequestError when it is damaged."""
    try:
        return base64.b64decode(url.partition(";base64,")[2], validate=True)
    except ValueError:
        raise RequestError("bad_image", "the data: URL is not valid base64; encode the file again") from None


async def _while_here(request: Request, work: Coroutine[Any, Any, None]) -> None:
    """Run work as long as the client is there. Raises RequestError when it goes."""
    gone, done = asyncio.create_task(_until_gone(request.receive)), asyncio.create_task(work)
    try:
        await asyncio.wait({gone, done}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise RequestError("cancelled", "the client went away")
        done.result()
    finally:
        gone.cancel()
        done.cancel()


async def _until_text(job: Job) -> None:
    async for _, event in job.follow():
        if event.name == "text":
            return


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _until_over(jobs: Sequence[Job]) -> None:
    for job in jobs:
        async for _ in job.follow(len(job.events)):
            pass
