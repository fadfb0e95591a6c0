"""Bodies that no honest client sends: the server answers each, lives, and leaves nothing behind.

The model runs in its own process, as for users: a decoder that crashes takes that one down, and the next request
is answered all the same. The short run is part of every test run, the long one of `make check-long`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from serve.serving import Client, Running, as_url, film, form_type, multipart, png, serving, until
from unixcxr.sampling.engine import Engine
from unixcxr.serve.runner import ProcessRunner, WorkerSpec
from unixcxr.serve.service import ServeSettings

NUM_SHORT = 500
NUM_LONG = 10_000
EXPECTED = frozenset({200, 202, 400, 404, 413, 415, 422})
CRASHED = "worker_died"

Make = Callable[[random.Random], bytes]


@pytest.fixture(scope="module")
def running(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run a server whose process has a folder for temporary files of its own, which must stay empty."""
    folder = tmp_path_factory.mktemp("temporary")
    before, os.environ["TMPDIR"] = os.environ.get("TMPDIR"), str(folder)
    try:
        with serving(
            ProcessRunner(WorkerSpec(str(model_dir), max_pixels=200_000)), ServeSettings()
        ) as running:
            yield running
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before
    assert [path for path in folder.iterdir() if not path.name.startswith("torchinductor")] == []


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Damage bytes in one to four of the ways that wires, disks and people do."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place, length = chance.randrange(len(data) + 1), chance.randint(1, 16)
        kind = chance.randrange(7)
        if kind == 0 and data:
            data[min(place, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[place : place + length] = chance.randbytes(length)
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = data[max(0, place - length) : place]
        elif kind == 4:
            del data[place:]
        elif kind == 5:
            data[place : place + 4] = chance.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x80"]
            )
        else:
            data[place:place] = bytes(length)
    return bytes(data)


def dicoms(engine: Engine) -> list[bytes]:
    """Return one picture in several transfer syntaxes."""
    files = [engine.draw_image("Mass", seed=1, num_steps=1).to_bytes("dicom")]
    for syntax in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless):
        dataset = pydicom.dcmread(io.BytesIO(files[0]))
        if syntax == RLELossless:
            dataset.compress(syntax)
        dataset.file_meta.TransferSyntaxUID = syntax
        file = io.BytesIO()
        dataset.save_as(
            file, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True
        )
        files.append(file.getvalue())
    return files


def pictures(engine: Engine) -> list[bytes]:
    files = [png(film(0)), *dicoms(engine)]
    for kind in ("JPEG", "TIFF", "BMP", "GIF", "WEBP"):
        file = io.BytesIO()
        Image.fromarray(film(1)).save(file, kind)
        files.append(file.getvalue())
    return files


def jsons() -> list[tuple[str, dict[str, Any]]]:
    url = as_url(png(film(0)))
    part = {"type": "image_url", "image_url": {"url": url}}
    draw = {
        "kind": "draw",
        "prompt": "Mass",
        "num_steps": 1,
        "guidance_interval": [0, 1],
        "height_px": 4,
        "width_px": 4,
    }
    report = {
        "kind": "report",
        "image": url,
        "force": True,
        "max_new_tokens": 2,
        "temperature": 1.0,
        "top_p": 0.5,
    }
    chat = {
        "model": "tiny",
        "messages": [{"role": "user", "content": [part]}],
        "max_tokens": 2,
        "force": True,
    }
    return [
        ("/v1/draw", {key: value for key, value in draw.items() if key != "kind"}),
        ("/v1/batch", {"requests": [draw, report]}),
        ("/v1/jobs", report),
        ("/v1/chat/completions", chat),
        ("/v1/images/generations", {"prompt": "Mass", "n": 1, "size": "4x4", "num_steps": 1}),
    ]


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    1e308,
    "",
    "\0",
    "\U0001f9e0" * 50,
    [],
    {},
    [[]],
    {"a": 1},
    "NaN",
    "../x",
]


def bend(value: Any, chance: random.Random) -> Any:
    """Put something odd in one place of a JSON value."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        return {**value, key: bend(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], bend(value[place], chance), *value[place + 1 :]]
    return chance.choice(ODD)


class Fuzzer:
    """Sends damaged bodies and counts the answers."""

    def __init__(self, client: Client, engine: Engine) -> None:
        self.client = client
        self.files = pictures(engine)
        self.answers: Counter[int] = Counter()
        self.surprises: list[tuple[str, int, bytes]] = []
        self.lock = threading.Lock()

    def send(self, seed: int) -> None:
        chance = random.Random(seed)
        path, body, content_type = self._upload(chance) if seed % 4 else self._json(chance)
        answer = self.client.ask("POST", path, body, content_type=content_type)
        is_fine = answer.status in EXPECTED or (answer.status == 503 and answer.code == CRASHED)
        with self.lock:
            self.answers[answer.status] += 1
            if not is_fine:
                self.surprises.append((f"{path} seed {seed}", answer.status, answer.body[:200]))

    def _upload(self, chance: random.Random) -> tuple[str, bytes, str]:
        file = mutate(chance.choice(self.files), chance)
        if chance.random() < 0.5:
            path, fields = "/v1/check", {"include_image": True}
        else:
            path, fields = "/v1/report", {"force": True, "max_new_tokens": 1}
        body = multipart(file, "a.png", fields)
        return path, mutate(body, chance) if chance.random() < 0.2 else body, form_type()

    def _json(self, chance: random.Random) -> tuple[str, bytes, str]:
        path, value = chance.choice(jsons())
        if chance.random() < 0.5:
            return path, json.dumps(bend(value, chance)).encode(), "application/json"
        return path, mutate(json.dumps(value).encode(), chance), "application/json"


def num_open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def fuzz(running: Running, engine: Engine, seeds: range) -> Counter[int]:
    fuzzer, runner = Fuzzer(running.client, engine), running.service.runner
    fuzzer.send(seeds.start)
    has_proc = Path("/proc/self/fd").exists()
    before = num_open_files(os.getpid()) if has_proc else 0
    child, child_before = runner.pid, num_open_files(runner.pid) if has_proc else 0
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(fuzzer.send, seeds))
    assert fuzzer.surprises == []
    until(lambda: runner.is_ready and not running.service.queue.running)
    report = running.client.upload("/v1/report", png(film(1)), force=True)
    assert report.json["token_ids"] == list(engine.write_report(film(1)).token_ids)
    if has_proc:
        until(lambda: num_open_files(os.getpid()) <= before + 2)
        assert child != runner.pid or num_open_files(child) <= child_before + 2
    assert running.server.config.app._held_bytes == 0
    return fuzzer.answers


def test_damaged_bodies(running: Running, engine: Engine) -> None:
    answers = fuzz(running, engine, range(NUM_SHORT))
    assert answers[200] > NUM_SHORT // 50  # some damage is harmless
    assert answers[400] > NUM_SHORT // 2


@pytest.mark.long
def test_very_many_damaged_bodies(running: Running, engine: Engine) -> None:
    answers = fuzz(running, engine, range(10_000_000, 10_000_000 + NUM_LONG))
    print(f"answers {dict(answers)}, restarts {running.service.runner.num_restarts}")
    assert sum(answers.values()) == NUM_LONG + 1


@pytest.mark.long
def test_the_openapi_is_kept(running: Running) -> None:
    """Every answer to generated requests, sound and unsound, is one that the OpenAPI describes."""
    checks = schemathesis.checks
    wanted = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    api = schemathesis.openapi.from_url(f"{running.client.url}/openapi.json")
    tried: set[str] = set()
    for found in api.get_all_operations():
        operation = found.ok()
        tried.add(operation.label)
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def keeps_its_word(case: Any) -> None:
                case.call_and_validate(checks=wanted)

            with contextlib.suppress(Unsatisfiable):  # a route without parameters cannot be asked unsoundly
                keeps_its_word()
    assert "POST /v1/report" in tried
    assert len(tried) >= 14
