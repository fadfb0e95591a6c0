"""What every request passes before a route sees it: host, origin, token, rate, content type, size and time.

The whole body is read here, up to its limit, and handed on from memory: nothing of it touches the disk. Answers
get their security headers here, and errors that nobody foresaw become a plain 500 here, without their message.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from unixcxr.serve.failure import RequestError, places
from unixcxr.serve.tokens import owner_of

log = logging.getLogger(__name__)

Scope = dict[str, Any]

UPLOAD_ROUTES = frozenset({"/v1/report", "/v1/check", "/v1/explain"})
OPEN_ROUTES = frozenset({"/healthz", "/readyz"})

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class GuardSettings:
    """Limits and tokens. `allowed_hosts` empty lets any Host header pass; rates are requests a minute, 0 for none.

    `max_held_bytes` is what all bodies being received or read may take together.
    """

    tokens: dict[str, str] = field(default_factory=dict)
    allowed_hosts: frozenset[str] = frozenset({"localhost", "127.0.0.1", "[::1]"})
    rate_per_minute: int = 0
    max_upload_bytes: int = 64 << 20
    max_held_bytes: int = 512 << 20
    body_time_s: float = 30.0


@dataclass
class _Bucket:
    """A rate limit: full it lets a minute's worth pass at once, then it fills at an even pace."""

    level: float
    seen_s: float


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: Callable[..., Any],
        settings: GuardSettings,
        on_answer: Callable[[str, str, int, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self.settings = settings
        self.on_answer = on_answer
        self.clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Let an HTTP request pass, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = self.clock(), 0

        async def send_safely(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_security_headers(scope["path"])]}
            await send(message)

        held = 0
        try:
            scope.setdefault("state", {})["client"] = self._admit(scope)
            body = await self._read_body(scope, receive)
            held = len(body)
            await self.app(scope, _replay(body, receive), send_safely)
        except RequestError as error:
            await _answer(error, send_safely)
        except (
            Exception
        ) as error:  # the last resort: answered, and logged without what it says of the request
            log.error("unforeseen %s at %s", type(error).__name__, places(error))
            if not status:
                failure = RequestError(
                    "internal_error", "the server failed; this is a defect, please report it"
                )
                await _answer(failure, send_safely)
        finally:
            self._held_bytes -= held
            route = getattr(scope.get("route"), "path", "unknown")
            self.on_answer(scope["method"], route, status or 499, self.clock() - started)

    def _admit(self, scope: Scope) -> str:
        """Check who asks and what for; return the client's name."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self.settings.allowed_hosts and _without_port(host) not in self.settings.allowed_hosts:
            raise RequestError(
                "bad_host", "this server does not go by that name; start it with --allowed-host"
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise RequestError("bad_origin", "pages of other sites may not use this server")
        if scope["path"] in OPEN_ROUTES or not scope["path"].startswith(("/v1/", "/metrics")):
            return "anyone"
        client = self._owner(headers, scope)
        if self.settings.rate_per_minute:
            self._count(client)
        if scope["method"] == "POST":
            _check_content_type(scope["path"], headers.get("content-type", ""))
        return client

    def _owner(self, headers: dict[str, str], scope: Scope) -> str:
        if not self.settings.tokens:
            return f"address {(scope.get('client') or ['unknown'])[0]}"
        kind, _, token = headers.get("authorization", "").partition(" ")
        owner = owner_of(token.strip(), self.settings.tokens) if kind.lower() == "bearer" else None
        if owner is None:
            raise RequestError("bad_token", "no valid token; send Authorization: Bearer TOKEN")
        return f"token {owner}"

    def _count(self, client: str) -> None:
        rate, now = self.settings.rate_per_minute, self.clock()
        if (
            len(self._buckets) > 10_000
        ):  # addresses that have been quiet for a minute have a full bucket anyway
            self._buckets = {k: b for k, b in self._buckets.items() if now - b.seen_s < 60}
        bucket = self._buckets.setdefault(client, _Bucket(rate, now))
        bucket.level = min(rate, bucket.level + (now - bucket.seen_s) * rate / 60)
        bucket.seen_s = now
        if bucket.level < 1:
            wait_s = max(1, round((1 - bucket.level) * 60 / rate + 0.5))
            raise RequestError("rate_limited", f"more than {rate} requests a minute", retry_after_s=wait_s)
        bucket.level -= 1

    async def _read_body(self, scope: Scope, receive: Callable[..., Any]) -> bytes:
        limit = self.settings.max_upload_bytes
        too_large = RequestError("too_large", f"the body is larger than {limit:,} bytes; send less")
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > limit:
            raise too_large
        chunks: list[bytes] = []
        held = 0
        try:
            async with asyncio.timeout(self.settings.body_time_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError("cancelled", "the client went away")
                    chunk = message.get("body", b"")
                    chunks.append(chunk)
                    held += len(chunk)
                    self._held_bytes += len(chunk)
                    if held > limit:
                        raise too_large
                    if self._held_bytes > self.settings.max_held_bytes:
                        raise RequestError("busy", "too many uploads at once; send it again", retry_after_s=5)
                    if not message.get("more_body"):
                        return b"".join(chunks)
        except TimeoutError:
            self._held_bytes -= held
            seconds = self.settings.body_time_s
            raise RequestError("too_slow", f"the body did not arrive within {seconds:g} s") from None
        except RequestError:
            self._held_bytes -= held
            raise


def _check_content_type(path: str, content_type: str) -> None:
    wanted = "multipart/form-data" if path in UPLOAD_ROUTES else "application/json"
    if content_type.partition(";")[0].strip().lower() != wanted:
        raise RequestError("bad_content_type", f"expected Content-Type: {wanted}")


def _without_port(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()


def _security_headers(path: str) -> list[tuple[bytes, bytes]]:
    headers = dict(SECURITY_HEADERS)
    if path.startswith("/v1/"):
        headers["Cache-Control"] = "no-store"
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def _replay(body: bytes, receive: Callable[..., Any]) -> Callable[..., Any]:
    """Hand a body that has been read to whoever asks first; later calls wait for the connection to end."""
    is_sent = False

    async def replay() -> dict[str, Any]:
        nonlocal is_sent
        if is_sent:
            message: dict[str, Any] = await receive()
            return message
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(error: RequestError, send: Callable[..., Any]) -> None:
    content = json.dumps({"error": error.detail}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **error.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": content})
