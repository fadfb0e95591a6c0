"""Our own routes: read, draw, check, explain, several at once, and jobs with events."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

import unixcxr
from unixcxr.labels import label_report, label_sentences
from unixcxr.sampling.export import ExportedFinding, report_to_dicom_sr, report_to_fhir
from unixcxr.serve import schema
from unixcxr.serve.failure import RequestError
from unixcxr.serve.forms import CheckForm, ExplainForm, ReportForm, form_schema, read_form
from unixcxr.serve.jobs import Job
from unixcxr.serve.service import Service, service_of
from unixcxr.serve.streams import EventStream, event_chunks, from_data_url, present, wait_for

router = APIRouter(prefix="/v1")

EVENT: dict[str, Any] = {
    "type": "object",
    "description": "One server-sent event; `data` is JSON, or [DONE] at the end of OpenAI's streams.",
    "properties": {"event": {"type": "string"}, "id": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
EVENTS_DOC: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The result; with `stream` its events.",
        "content": {"text/event-stream": {"schema": EVENT}},
    }
}
DRAW_EXAMPLES = {
    "simple": {"summary": "One picture", "value": {"prompt": "Large right pleural effusion.", "seed": 7}},
    "grid": {
        "summary": "Four seeds with previews, streamed",
        "value": {
            "prompt": "Severe cardiomegaly with a left pacemaker.",
            "num_pictures": 4,
            "num_steps": 16,
            "guidance_scale": 2.0,
            "preview_every": 4,
            "stream": True,
        },
    },
}
DRAW_JOB = {"kind": "draw", "prompt": "Normal chest radiograph.", "seed": 1}
TINY_PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAA"
    "ggCBd81ytgAAAABJRU5ErkJggg=="
)
REPORT_JOB = {"kind": "report", "image": TINY_PNG, "force": True}
JOB_EXAMPLES = {
    "draw": {"summary": "A drawing", "value": DRAW_JOB},
    "report": {"summary": "A report", "value": REPORT_JOB},
}
BATCH_EXAMPLES = {"both": {"summary": "One of each", "value": {"requests": [DRAW_JOB, REPORT_JOB]}}}

LABEL_EXAMPLES = {"text": {"summary": "A text", "value": {"text": "Large right pleural effusion. No edema."}}}
EXPORT_EXAMPLES = {
    form: {
        "summary": name,
        "value": {
            "format": form,
            "text": "Large right pleural effusion.",
            "findings": [
                {
                    "label": "Pleural Effusion",
                    "state": "positive",
                    "sentence": "Large right pleural effusion.",
                    "confidence": 0.8,
                }
            ],
            "model": "unix-embedded-v1",
        },
    }
    for form, name in (("fhir", "FHIR DiagnosticReport"), ("dicom_sr", "DICOM structured report"))
}

READ_FIELDS = ("max_new_tokens", "temperature", "top_p", "repetition_penalty")
DRAW_FIELDS = ("num_steps", "guidance_scale", "guidance_interval", "timestep_shift", "renorm", "solver")


@router.get("/info", summary="What is behind this server")
async def info(request: Request) -> schema.Info:
    """Say which model runs here, its defaults and the server's limits."""
    service = service_of(request)
    guard = service.settings.guard
    return schema.Info(
        version=unixcxr.__version__,
        max_upload_bytes=guard.max_upload_bytes,
        needs_token=bool(guard.tokens),
        **service.runner.info,
    )


@router.post(
    "/report",
    summary="Read a chest X-ray",
    response_model=schema.ReportResult,
    responses=EVENTS_DOC,
    openapi_extra=form_schema(ReportForm),
)
async def report(request: Request) -> Response:
    """Write the report of a DICOM, PNG or JPEG.

    A picture that is unlikely to be a frontal chest radiograph is refused with 422 unless `force` is set. With
    `stream` the answer is server-sent events: queued, started, text..., report or error.
    """
    content, form = await read_form(request, ReportForm)
    service = service_of(request)
    job = service.submit(request, "report", report_message(content, form))
    return await _answer(service, request, job, form.stream)


@router.post("/check", summary="Is this a chest X-ray?", openapi_extra=form_schema(CheckForm))
async def check(request: Request) -> schema.CheckResult:
    """Ask the input gate about a picture, and on request get it back as a PNG that browsers can show."""
    content, form = await read_form(request, CheckForm)
    service = service_of(request)
    job = service.submit(request, "check", {"image": content, **form.model_dump()})
    result = present((await wait_for(service.queue, request, [job]))[0])
    assert isinstance(result, schema.CheckResult), "a check gives a check's result"
    return result


@router.post("/explain", summary="Where did a sentence look?", openapi_extra=form_schema(ExplainForm))
async def explain(request: Request) -> schema.ExplainResult:
    """Show where one sentence of a report attended to the picture. It shows attention, not causes.

    The server keeps no pictures: send the file again, with `token_ids` and `prompt` as `/v1/report` gave them.
    """
    content, form = await read_form(request, ExplainForm)
    service = service_of(request)
    job = service.submit(request, "explain", {"image": content, **form.model_dump()})
    result = present((await wait_for(service.queue, request, [job]))[0])
    assert isinstance(result, schema.ExplainResult), "an explanation gives its own result"
    return result


@router.post("/draw", summary="Draw chest X-rays", response_model=schema.DrawResult, responses=EVENTS_DOC)
async def draw(
    request: Request, wanted: Annotated[schema.DrawRequest, Body(openapi_examples=DRAW_EXAMPLES)]
) -> Response:
    """Draw synthetic radiographs from a text; every file is marked synthetic.

    With `stream` the answer is server-sent events: queued, started, step..., pictures or error.
    """
    service = service_of(request)
    job = service.submit(request, "draw", draw_message(wanted))
    return await _answer(service, request, job, wanted.stream)


@router.post("/label", summary="What does a text say?")
def label(
    wanted: Annotated[schema.LabelRequest, Body(openapi_examples=LABEL_EXAMPLES)],
) -> schema.LabelResult:
    """Label a text by rules: the 14 CheXpert labels, positive, negative, uncertain or not mentioned."""
    sentences = [
        schema.LabeledSentence(text=text, start=start, end=end, labels=labels)
        for text, start, end, labels in label_sentences(wanted.text)
    ]
    return schema.LabelResult(labels=label_report(wanted.text), sentences=sentences)


@router.post(
    "/export",
    summary="A report for a hospital system",
    response_class=Response,
    responses={
        200: {
            "content": {
                "application/fhir+json": {"schema": {"type": "object"}},
                "application/dicom": {"schema": {"type": "string", "format": "binary"}},
            }
        }
    },
)
def export(wanted: Annotated[schema.ExportRequest, Body(openapi_examples=EXPORT_EXAMPLES)]) -> Response:
    """Turn a report into a FHIR DiagnosticReport (R4) or a DICOM Basic Text SR: unverified, without a patient."""
    findings = [ExportedFinding(**finding.model_dump()) for finding in wanted.findings]
    now = datetime.now().astimezone()
    if wanted.format == "fhir":
        content = json.dumps(report_to_fhir(wanted.text, findings, wanted.model, now)).encode()
        return Response(content, media_type="application/fhir+json")
    return Response(
        report_to_dicom_sr(wanted.text, findings, wanted.model, now), media_type="application/dicom"
    )


@router.post("/batch", summary="Several at once")
async def batch(
    request: Request, wanted: Annotated[schema.BatchRequest, Body(openapi_examples=BATCH_EXAMPLES)]
) -> schema.BatchResult:
    """Read and draw several at once; each succeeds or fails on its own. The queue takes all of them or none."""
    service = service_of(request)
    for one in wanted.requests:
        _refuse_stream(one)
    kinds = [one.kind for one in wanted.requests]
    jobs = service.submit_all(request, kinds, [job_message(one) for one in wanted.requests])
    items = []
    for index, job in enumerate(await wait_for(service.queue, request, jobs)):
        error = None if job.failure is None else schema.ErrorDetail(**job.failure.detail)
        items.append(
            schema.BatchItem(index=index, result=None if error else present(job), error=error)  # type: ignore[arg-type]
        )
    return schema.BatchResult(results=items)


@router.post("/jobs", status_code=202, summary="Begin a job")
async def begin_job(
    request: Request, wanted: Annotated[schema.JobRequest, Body(openapi_examples=JOB_EXAMPLES)]
) -> schema.JobStatus:
    """Queue a report or a drawing and return at once. Its result is kept in memory for some minutes."""
    _refuse_stream(wanted)
    service = service_of(request)
    job = service.submit(request, wanted.kind, job_message(wanted), is_kept=True)
    return _status(service, job)


@router.get("/jobs/{job_id}", summary="How is a job?")
async def job_status(request: Request, job_id: str) -> schema.JobStatus:
    """Return the state of a job of yours, and its result when it is done."""
    service = service_of(request)
    return _status(service, service.queue.get(job_id, request.state.client))


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": EVENT}}}},
)
async def job_events(
    request: Request, job_id: str, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Send the events of a job, from the first or after `Last-Event-ID`. Leaving does not cancel it."""
    job = service_of(request).queue.get(job_id, request.state.client)
    after = (
        int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 9 else 0
    )
    return EventStream(event_chunks(job, min(after, len(job.events))), lambda: None)


@router.delete("/jobs/{job_id}", summary="Cancel a job")
async def cancel_job(request: Request, job_id: str) -> schema.JobStatus:
    """Cancel a job of yours, also one behind a streamed `/v1/report` or `/v1/draw`; one that is over stays as it is."""
    service = service_of(request)
    job = service.queue.get(job_id, request.state.client)
    service.queue.cancel(job)
    return _status(service, job)


async def _answer(service: Service, request: Request, job: Job, is_streamed: bool) -> Response:
    if is_streamed:
        return EventStream(event_chunks(job), lambda: service.queue.forget(job))
    (job,) = await wait_for(service.queue, request, [job])
    return JSONResponse(present(job).model_dump(mode="json"))


def report_message(image: bytes, wanted: schema.ReadSettings) -> dict[str, Any]:
    """Return what the model's process is told of a report."""
    given = wanted.model_dump(include=set(READ_FIELDS), exclude_none=True)
    return {
        "image": image,
        "prompt": wanted.prompt,
        "seed": wanted.seed,
        "settings": given,
        "force": wanted.force,
    }


def draw_message(wanted: schema.DrawRequest) -> dict[str, Any]:
    """Return what the model's process is told of a drawing."""
    return {
        "prompt": wanted.prompt,
        "seeds": [wanted.seed + k for k in range(wanted.num_pictures)],
        "size_px": None if wanted.height_px is None else [wanted.height_px, wanted.width_px],
        "settings": wanted.model_dump(include=set(DRAW_FIELDS), exclude_none=True),
        "format": wanted.format,
        "preview_every": wanted.preview_every,
    }


def job_message(wanted: schema.ReportJob | schema.DrawJob) -> dict[str, Any]:
    """Return what the model's process is told of a job."""
    if isinstance(wanted, schema.ReportJob):
        return report_message(from_data_url(wanted.image), wanted)
    return draw_message(wanted)


def _refuse_stream(wanted: schema.ReportJob | schema.DrawJob) -> None:
    if getattr(wanted, "stream", False):
        raise RequestError(
            "bad_setting", "stream has no effect here; follow the job's events", param="stream"
        )


def _status(service: Service, job: Job) -> schema.JobStatus:
    return schema.JobStatus(
        id=job.id,
        kind=job.kind,  # type: ignore[arg-type]
        state=job.state,  # type: ignore[arg-type]
        position=service.queue.position(job),
        progress=job.progress,
        result=present(job) if job.state == "done" else None,
        error=None if job.failure is None else schema.ErrorDetail(**job.failure.detail),
        keep_s=service.settings.queue.keep_s,
    )
