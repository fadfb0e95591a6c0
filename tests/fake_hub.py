"""A small Hugging Face hub on 127.0.0.1: one repository in memory, with faults on request."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REVISION = "0123456789abcdef0123456789abcdef01234567"
CUT = 8192


@dataclass
class FakeHub:
    """The repository, and what to do wrong: each fault names the file that it strikes."""

    repo_id: str
    files: dict[str, bytes]
    cut_once: str | None = None
    """Send CUT bytes of this file, then drop the connection, the first time it is asked for."""
    refuse_after_cut: bool = False
    """Answer 500 for the file that was cut, until this is set to False."""
    swap: str | None = None
    """Send other bytes of the same length for this file."""
    ranges: list[tuple[str, int]] = field(default_factory=list)
    """(file, first byte asked for) of every download."""
    url: str = ""

    def __enter__(self) -> FakeHub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def describe(self) -> dict[str, Any]:
        """Return the model's metadata as the hub states it: sha256 for weights, a git hash for the rest."""
        siblings = []
        for path, content in self.files.items():
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": git}
            if path.endswith(".safetensors"):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return {
            "id": self.repo_id,
            "modelId": self.repo_id,
            "sha": REVISION,
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
            "cardData": {"license": "cc0-1.0"},
        }

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        if path.startswith(f"/api/models/{self.repo_id}"):
            return self.send(request, 200, json.dumps(self.describe()).encode(), "application/json")
        prefix = f"/{self.repo_id}/resolve/{REVISION}/"
        if path.startswith(prefix) and path.removeprefix(prefix) in self.files:
            return self.send_file(request, path.removeprefix(prefix))
        return self.send(request, 404, b"{}", "application/json", {"X-Error-Code": "RepoNotFound"})

    def send_file(self, request: BaseHTTPRequestHandler, name: str) -> None:
        content = self.files[name]
        if name == self.swap:
            content = bytes(255 - byte for byte in content)
        first = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.ranges.append((name, first))
        struck = name == self.cut_once
        if struck and self.refuse_after_cut and first > 0:
            return self.send(request, 500, b"broken", "text/plain")
        headers = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        body = content[first:]
        if not (struck and first == 0):
            return self.send(request, 206 if first else 200, body, "application/octet-stream", headers)
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[:CUT])
        request.wfile.flush()
        request.close_connection = True
        return None

    @staticmethod
    def send(
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        kind: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        request.send_response(status)
        for name, value in (
            {"Content-Type": kind, "Content-Length": str(len(body))} | (headers or {})
        ).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
