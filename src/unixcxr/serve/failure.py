"""Everything that can go wrong with a request, by a stable code: its status, and the shape clients get."""

from __future__ import annotations

import traceback
from typing import Any

from unixcxr.errors import UnixcxrError

STATUS = {
    "invalid_request": 400,
    "bad_image": 400,
    "bad_prompt": 400,
    "bad_setting": 400,
    "bad_token": 401,
    "bad_origin": 403,
    "bad_host": 403,
    "no_such_route": 404,
    "no_such_job": 404,
    "no_such_model": 404,
    "bad_method": 405,
    "too_slow": 408,
    "too_large": 413,
    "bad_content_type": 415,
    "gate_refused": 422,
    "queue_full": 429,
    "rate_limited": 429,
    "cancelled": 499,
    "engine_error": 500,
    "internal_error": 500,
    "worker_died": 503,
    "not_ready": 503,
    "draining": 503,
    "busy": 503,
    "deadline": 504,
}
"""Code -> HTTP status. 499 is nginx's "client closed request"."""

_TYPES = {401: "authentication_error", 403: "authentication_error", 429: "rate_limit_error"}


class RequestError(UnixcxrError):
    """A request that gets no answer; the message says what was found, what was expected, what to do."""

    def __init__(
        self, code: str, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.status, self.param, self.retry_after_s = code, STATUS[code], param, retry_after_s

    @property
    def detail(self) -> dict[str, Any]:
        """Return what clients read, in OpenAI's shape."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"message": str(self), "type": kind, "code": self.code, "param": self.param}

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that go with the status."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return {**headers, "WWW-Authenticate": "Bearer"} if self.status == 401 else headers


def places(error: Exception) -> str:
    """Return the lines an error passed, without its message: that may quote what a client sent."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))


def defect() -> RequestError:
    """Return what clients are told of an error that nobody foresaw."""
    return RequestError("internal_error", "the server failed; this is a defect, please report it")
