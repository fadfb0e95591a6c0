"""A real HTTP server on 127.0.0.1 that speaks the chat completions protocol and misbehaves on demand.

It rewrites by looking answers up: `answers` maps a raw report to (findings, impression). Misbehaviours are queued in
`script`, one per request; when the queue is empty it behaves.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ChatServer:
    """What the server knows, what it shall do next, and what it was asked.

    Once it has had `hold_after` requests it answers none before `go_on` is set.
    """

    answers: dict[str, tuple[str, str]] = field(default_factory=dict)
    script: deque[str] = field(default_factory=deque)
    retry_after: str = "0"
    delay_s: float = 0.0
    hold_after: int | None = None
    go_on: threading.Event = field(default_factory=threading.Event)
    requests: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    address: str = ""

    @property
    def base_url(self) -> str:
        return f"http://{self.address}/v1"

    def next_action(self, body: dict[str, Any], headers: dict[str, str]) -> str:
        with self.lock:
            self.requests.append(body)
            self.times.append(time.monotonic())
            self.headers.append(headers)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            return self.script.popleft() if self.script else ""

    def content(self, body: dict[str, Any], action: str) -> str:
        """Return what a good model would write, or what a bad one does."""
        messages = body["messages"]
        if "<original>" in messages[1]["content"]:
            return self._judgement(messages[1]["content"], action)
        raw = _between(messages[1]["content"], "report")
        findings, impression = self.answers[raw]
        if action == "invent":
            findings += " Large left pneumothorax."
        if action == "lose":
            findings = findings.rsplit(". ", 1)[0] + "."
        if action == "reword":
            findings += " The ribs are intact."
        text = json.dumps({"findings": findings, "impression": impression})
        if action == "malformed answer":
            return text[: len(text) // 2]
        if action == "fenced answer":
            return f"<think>{{hm}}</think>Here it is:\n```json\n{text}\n```"
        if action == "headed answer":
            return f"FINDINGS: {findings}\n\nIMPRESSION: {impression}"
        return text

    def _judgement(self, content: str, action: str) -> str:
        rewriting = _between(content, "rewriting")
        rows = [{"finding": part, "status": "kept", "note": ""} for part in rewriting.split(". ")]
        if action == "judge: lost":
            rows.append({"finding": "a rib", "status": "lost", "note": "say that the ribs are intact"})
        return "all fine" if action == "judge: nonsense" else json.dumps({"findings": rows})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        chat = self.server.chat
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        action = chat.next_action(body, dict(self.headers))
        try:
            if self.path != "/v1/chat/completions":
                self._send(404, {"error": {"message": f"no such path {self.path}"}})
            else:
                self._act(action, body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with chat.lock:
                chat.at_once -= 1

    def _act(self, action: str, body: dict[str, Any]) -> None:
        chat = self.server.chat
        time.sleep(chat.delay_s)
        if chat.hold_after is not None and len(chat.requests) > chat.hold_after:
            chat.go_on.wait()
        if action == "slow":
            time.sleep(1.0)
        if action == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if action in ("429", "500", "401", "400", "404"):
            extra = {"Retry-After": chat.retry_after} if action == "429" else {}
            self._send(int(action), {"error": {"message": f"you asked for {action}"}}, extra)
            return
        if action == "redirect":
            self._send(307, {}, {"Location": "http://127.0.0.2:9/v1/chat/completions"})
            return
        reply: Any = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": chat.content(body, action)},
                    "finish_reason": "length" if action == "cut answer" else "stop",
                }
            ],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
        }
        if action == "no choices":
            reply["choices"] = []
        data = b"<html>busy</html>" if action == "not json" else json.dumps(reply).encode()
        self._send_bytes(200, data, {}, cut=action == "cut body", trickle=action == "trickle")

    def _send(self, status: int, reply: dict[str, Any], extra: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(reply).encode(), extra or {})

    def _send_bytes(
        self, status: int, data: bytes, extra: dict[str, str], *, cut: bool = False, trickle: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **extra}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if cut:
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif trickle:
            for byte in data:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.02)
        else:
            self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    chat: ChatServer


@contextmanager
def serve_chat(**known: Any) -> Iterator[ChatServer]:
    """Run the server in threads of this process for the length of the block."""
    chat = ChatServer(**{**known, "script": deque(known.get("script", ()))})
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.chat = chat
        chat.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield chat
        finally:
            server.shutdown()
            thread.join()


def _between(text: str, tag: str) -> str:
    return text.split(f"<{tag}>\n", 1)[1].rsplit(f"\n</{tag}>", 1)[0]
