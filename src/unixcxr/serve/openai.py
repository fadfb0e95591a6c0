"""The routes that OpenAI's clients speak: chat with a picture, image generation, the list of models."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from unixcxr.serve import schema
from unixcxr.serve.failure import RequestError
from unixcxr.serve.jobs import Job
from unixcxr.serve.routes import EVENTS_DOC, TINY_PNG, draw_message, report_message
from unixcxr.serve.service import service_of
from unixcxr.serve.streams import EventStream, from_data_url, present, wait_for, wait_for_text

router = APIRouter(prefix="/v1")

ANY_MODEL = "unixcxr"
"""A name that every server answers to, whatever its model is called."""

CHAT_EXAMPLES = {
    "report": {
        "summary": "Report a picture",
        "value": {
            "model": ANY_MODEL,
            "force": True,
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": TINY_PNG}}]}
            ],
        },
    }
}
IMAGE_EXAMPLES = {
    "effusion": {"summary": "One picture", "value": {"prompt": "Large right pleural effusion.", "n": 1}}
}


@router.get("/models", summary="The model, in OpenAI's shape")
async def models(request: Request) -> schema.ModelList:
    """List the one model that runs here; it also answers to the name `unixcxr`."""
    return schema.ModelList(data=[schema.ModelItem(id=service_of(request).runner.info["model"])])


@router.post(
    "/chat/completions",
    summary="Read a chest X-ray, in OpenAI's shape",
    response_model=schema.ChatCompletion,
    responses=EVENTS_DOC,
)
async def chat(
    request: Request, wanted: Annotated[schema.ChatRequest, Body(openapi_examples=CHAT_EXAMPLES)]
) -> Response:
    """Report the one picture in the messages, given as a data: URL; the texts around it are the report prompt.

    Without any text the model's own report prompt is used. With `stream` chunks come until `data: [DONE]`.
    """
    service = service_of(request)
    _check_model(wanted.model, service.runner.info["model"])
    if wanted.max_tokens is not None and wanted.max_completion_tokens is not None:
        raise RequestError(
            "bad_setting", "max_tokens and max_completion_tokens: give one", param="max_tokens"
        )
    image, prompt = _read_messages(wanted.messages)
    settings = schema.ReadSettings(
        prompt=prompt,
        max_new_tokens=wanted.max_completion_tokens or wanted.max_tokens,
        temperature=wanted.temperature,
        top_p=None if wanted.top_p == 1 else wanted.top_p,
        seed=wanted.seed or 0,
        force=wanted.force,
    )
    if wanted.stream_options is not None and not wanted.stream:
        raise RequestError(
            "bad_setting", "stream_options have no effect without stream", param="stream_options"
        )
    job = service.submit(request, "report", report_message(image, settings))
    if not wanted.stream:
        (job,) = await wait_for(service.queue, request, [job])
        return JSONResponse(_completion(job).model_dump(mode="json"))
    await wait_for_text(service.queue, request, job)
    include_usage = wanted.stream_options is not None and wanted.stream_options.include_usage
    return EventStream(
        _chunks(job, service.runner.info["model"], include_usage), lambda: service.queue.forget(job)
    )


@router.post("/images/generations", summary="Draw chest X-rays, in OpenAI's shape")
async def images(
    request: Request, wanted: Annotated[schema.ImagesRequest, Body(openapi_examples=IMAGE_EXAMPLES)]
) -> schema.ImagesResponse:
    """Draw synthetic radiographs; each is a PNG in base64, marked synthetic. Picture k has seed + k."""
    service = service_of(request)
    if wanted.model is not None:
        _check_model(wanted.model, service.runner.info["model"])
    width, height = (None, None) if wanted.size in (None, "auto") else map(int, wanted.size.split("x"))
    try:
        draw = schema.DrawRequest(
            prompt=wanted.prompt,
            num_pictures=wanted.n or 1,
            seed=wanted.seed,
            num_steps=wanted.num_steps,
            guidance_scale=wanted.guidance_scale,
            height_px=height,
            width_px=width,
        )
    except ValueError:
        raise RequestError("bad_setting", f"size {wanted.size}: sides go up to 2048", param="size") from None
    job = service.submit(request, "draw", draw_message(draw))
    (job,) = await wait_for(service.queue, request, [job])
    present(job)  # raises what went wrong
    result = job.result or {}
    data = [
        schema.ImageDatum(b64_json=base64.b64encode(picture["data"]).decode(), seed=picture["seed"])
        for picture in result["pictures"]
    ]
    height, width = result["settings"]["size_px"]
    return schema.ImagesResponse(created=int(time.time()), data=data, size=f"{width}x{height}")


def _check_model(name: str, served: str) -> None:
    if name not in (served, ANY_MODEL):
        raise RequestError(
            "no_such_model",
            f"no such model; this server has {served!r}, also called {ANY_MODEL!r}",
            param="model",
        )


def _read_messages(messages: list[schema.Message]) -> tuple[bytes, str | None]:
    """Return the one picture of a chat, and its texts joined as the prompt."""
    urls: list[str] = []
    texts: list[str] = []
    for message in messages:
        if message.role == "assistant":
            raise RequestError("invalid_request", "one turn only: the model does not talk", param="messages")
        if isinstance(message.content, str):
            texts.append(message.content)
            continue
        for part in message.content:
            if isinstance(part, schema.TextPart):
                texts.append(part.text)
            else:
                urls.append(part.image_url.url)
    if len(urls) != 1:
        raise RequestError(
            "invalid_request", f"found {len(urls)} pictures; send one, as an image_url part", param="messages"
        )
    prompt = "\n".join(text.strip() for text in texts if text.strip())
    if len(prompt) > schema.MAX_TEXT:
        raise RequestError(
            "bad_prompt", f"the texts have more than {schema.MAX_TEXT} signs", param="messages"
        )
    return from_data_url(urls[0]), prompt or None


def _completion(job: Job) -> schema.ChatCompletion:
    report = present(job)
    assert isinstance(report, schema.ReportResult), "a report job gives a report"
    choice = schema.ChatChoice(message=schema.ChatMessage(content=report.text), finish_reason=_ending(job))
    return schema.ChatCompletion(
        id=_chat_id(job),
        created=int(time.time()),
        model=report.model,
        choices=[choice],
        usage=_usage(job),
        report=report,
    )


def _chat_id(job: Job) -> str:
    return job.id.replace("job-", "chatcmpl-", 1)


def _ending(job: Job) -> Any:
    return (job.result or {})["ending"]


def _usage(job: Job) -> schema.Usage:
    given, written = (job.result or {})["num_given"], len((job.result or {})["token_ids"])
    return schema.Usage(prompt_tokens=given, completion_tokens=written, total_tokens=given + written)


async def _chunks(job: Job, model: str, include_usage: bool) -> AsyncIterator[str]:
    created = int(time.time())

    def line(choices: list[dict[str, Any]], **more: Any) -> str:
        head = {"id": _chat_id(job), "object": "chat.completion.chunk", "created": created, "model": model}
        return f"data: {json.dumps({**head, 'choices': choices, **more})}\n\n"

    def choice(delta: dict[str, str], ending: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": ending}]

    yield line(choice({"role": "assistant", "content": ""}))
    async for _, event in job.follow():
        if event.name == "text":
            yield line(choice({"content": event.data["delta"]}))
        elif event.name == "error":
            yield f"data: {json.dumps({'error': event.data})}\n\n"
            return
    yield line(choice({}, _ending(job)))
    if include_usage:
        yield line([], usage=_usage(job).model_dump())
    yield "data: [DONE]\n\n"
