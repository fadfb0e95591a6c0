"""The application: routes, page, health and numbers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

import unixcxr
from unixcxr.serve import openai, reference, routes, schema
from unixcxr.serve.failure import RequestError, defect
from unixcxr.serve.forms import invalid
from unixcxr.serve.guard import Guard
from unixcxr.serve.service import Service, service_of

ABOUT = (
    "Read chest X-rays into reports and draw them from text. Research software, not a medical device. "
    "Nothing is stored unless asked. Errors have one shape on every route: `{error: {message, type, code, param}}`."
)
ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {"model": schema.ErrorBody, "description": "What was found, what was expected, what to do."}
}


def create_app(service: Service) -> Guard:
    """Return the guarded application around a service."""
    settings = service.settings

    app = FastAPI(
        title="UniX CXR",
        version=unixcxr.__version__,
        description=ABOUT,
        docs_url=None,  # the usual ones load scripts from elsewhere
        redoc_url=None,
        responses=ERRORS,
    )
    app.state.service = service
    app.include_router(openai.router, tags=["OpenAI's shape"])
    app.include_router(routes.router, tags=["plain"])
    _add_house_routes(app)
    _add_error_handlers(app)
    if settings.page.is_dir():
        app.mount("/", StaticFiles(directory=settings.page, html=True), name="page")
    return Guard(app, settings.guard, service.count_answer)


def _add_house_routes(app: FastAPI) -> None:
    @app.get(
        "/healthz", tags=["house"], summary="Is the web process alive?", response_class=PlainTextResponse
    )
    async def healthz() -> str:
        """Answer whenever the web process can."""
        return "ok\n"

    @app.get("/readyz", tags=["house"], summary="Does it take work?", response_class=PlainTextResponse)
    async def readyz(request: Request) -> str:
        """Answer 200 when the model is loaded and the server is not shutting down, else 503."""
        service = service_of(request)
        if service.queue.is_draining:
            raise RequestError("draining", "the server is shutting down", retry_after_s=10)
        if not service.runner.is_ready:
            raise RequestError("not_ready", "the model is being loaded", retry_after_s=5)
        return "ready\n"

    @app.get("/metrics", tags=["house"], summary="Numbers for Prometheus", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Return counts, times and gauges in Prometheus' text format; they hold nothing that a client wrote."""
        return Response(service_of(request).metrics(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    async def docs() -> str:
        return reference.as_html(app.openapi())


def _add_error_handlers(app: FastAPI) -> None:
    def answer(error: RequestError) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status, error.headers)

    @app.exception_handler(RequestError)
    async def on_failure(request: Request, error: RequestError) -> Response:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(invalid(error.errors()))

    @app.exception_handler(Exception)
    async def on_defect(request: Request, error: Exception) -> Response:
        return answer(defect())  # and then it is raised again, for the guard to log

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        codes = {404: "no_such_route", 405: "bad_method", 400: "invalid_request"}
        texts = {404: "no such route; see /docs", 405: "this route takes another method; see /docs"}
        code = codes.get(error.status_code, "internal_error")
        return answer(RequestError(code, texts.get(error.status_code, "the body cannot be parsed")))
