"""The model's side: takes messages, runs one session for all of them, emits events. Also the child process itself.

    python -m unixcxr.serve.worker '{"model": ..., "device": ..., "dtype": ..., "max_pixels": ...}'

Frames come in on standard input and go out on what was standard output; whatever libraries print goes to
standard error. When standard input ends, so does the process.
"""

from __future__ import annotations

import io
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import numpy as np
from PIL import Image

from unixcxr.cleaning.dicom import SourceImage, read_source
from unixcxr.data.gate import GateResult, check_image
from unixcxr.errors import ConfigError, InputError, PromptError, UnixcxrError
from unixcxr.labels import label_sentences
from unixcxr.sampling.batching import Reading, Session, Sketch
from unixcxr.sampling.engine import Engine
from unixcxr.sampling.picture import Picture
from unixcxr.sampling.report import Report
from unixcxr.serve.failure import places
from unixcxr.serve.wire import LENGTH, MAX_FRAME_BYTES, Message, pack, unpack

log = logging.getLogger(__name__)

SHOWN_PX = 1024
"""Longest side of the picture that `/v1/check` sends back, and of an overlay."""

MAP_PX = 64
"""Longest side of an attention map as numbers: finer than any grid it comes from."""

BEAT_S = 1.0

Emit = Callable[[Message], None]


class Worker:
    """Does what messages ask, one pass of the network at a time; `put` may be called from any thread.

    Pictures are decoded on threads beside, so that a large file holds nobody up.
    """

    def __init__(
        self, engine: Engine, emit: Emit, max_pixels: int, make_session: Callable[[Engine], Session] = Session
    ) -> None:
        self.engine = engine
        self.emit = emit
        self.max_pixels = max_pixels
        self.make_session = make_session
        self.session = make_session(engine)
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._wanted: set[str] = set()
        self._tasks: dict[Reading | Sketch, tuple[str, Message]] = {}
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="picture")

    def put(self, message: Message) -> None:
        """Take a message of the web process."""
        self._inbox.put(lambda: self._take(message))

    def stop(self) -> None:
        """End `run` after the pass that is going on."""
        self._inbox.put(None)

    def run(self) -> None:
        """Work until stopped; emits "ready" first, and "beat" now and then."""
        self.emit({"event": "ready", "info": describe(self.engine)})
        try:
            while self._take_all():
                self._step()
        finally:
            self._readers.shutdown(wait=False, cancel_futures=True)

    def _take_all(self) -> bool:
        """Do what came in; wait for it when there is nothing else to do. Return False when stopped."""
        is_idle = not self._tasks
        while True:
            try:
                call = self._inbox.get(block=is_idle, timeout=BEAT_S if is_idle else None)
            except queue.Empty:
                self.emit({"event": "beat"})
                return True
            if call is None:
                return False
            call()
            is_idle = False

    def _take(self, message: Message) -> None:
        number, kind = message["id"], message["op"]
        if kind == "cancel":
            self._wanted.discard(number)
            for task, (owner, _) in list(self._tasks.items()):
                if owner == number:
                    self.session.leave(task)
                    del self._tasks[task]
            return
        self._wanted.add(number)
        if kind == "draw":
            self._guarded(number, self._begin_drawing, message)
        else:
            self._readers.submit(self._read_picture, message)

    def _read_picture(self, message: Message) -> None:
        """Decode the picture on a thread of its own, and hand it to the main one."""

        def fail(error: Exception) -> None:
            self._inbox.put(lambda: self._fail(message["id"], error))

        try:
            source = read_source(message["image"], self.max_pixels)
            gate = check_image(source.image, source.facts, source.is_colour)
        except Exception as error:  # whatever a decoder does must not take the thread down
            fail(error)
            return
        then = {"report": self._begin_report, "check": self._check, "explain": self._explain}[message["op"]]
        message["image"] = b""
        self._inbox.put(lambda: self._guarded(message["id"], then, message, source, gate))

    def _guarded(self, number: str, call: Callable[..., None], *arguments: Any) -> None:
        if number not in self._wanted:
            return
        try:
            call(*arguments)
        except Exception as error:  # one request's failure is that request's answer
            self._fail(number, error)

    def _fail(self, number: str, error: Exception) -> None:
        if number not in self._wanted:
            return
        self._wanted.discard(number)
        self.emit({"event": "error", "id": number, **explain_error(error)})

    def _end(self, number: str, name: str, data: Message) -> None:
        self._wanted.discard(number)
        self.emit({"event": name, "id": number, **data})

    # --- one kind of request each

    def _begin_report(self, message: Message, source: SourceImage, gate: GateResult) -> None:
        shown = _gate(gate)
        if not gate.accepted and not message["force"]:
            hint = "send force to read it all the same"
            self._wanted.discard(message["id"])
            text = f"not likely a frontal chest radiograph: {gate.reason}; {hint}"
            self.emit({"event": "error", "id": message["id"], "code": "gate_refused", "message": text})
            return
        reading = self.session.read(
            source.image, message["prompt"], seed=message["seed"], **message["settings"]
        )
        self._tasks[reading] = message["id"], {"gate": shown}
        self.emit({"event": "started", "id": message["id"], "gate": shown})

    def _begin_drawing(self, message: Message) -> None:
        settings = dict(message["settings"])
        if "guidance_interval" in settings:
            settings["guidance_interval"] = tuple(settings["guidance_interval"])
        size = message["size_px"]
        seeds = message["seeds"]
        sketch = self.session.draw(
            [message["prompt"]] * len(seeds), seeds=seeds, size_px=tuple(size) if size else None, **settings
        )
        self._tasks[sketch] = message["id"], message
        self.emit({"event": "started", "id": message["id"]})

    def _check(self, message: Message, source: SourceImage, gate: GateResult) -> None:
        height, width = source.image.shape
        data: Message = {"gate": _gate(gate), "height": height, "width": width, "image": None}
        data["is_dicom"] = source.facts is not None
        if message["include_image"]:
            data["image"] = _png(_shrunk(Image.fromarray(source.image), SHOWN_PX))
        self._end(message["id"], "check", data)

    def _explain(self, message: Message, source: SourceImage, gate: GateResult) -> None:
        engine, token_ids = self.engine, tuple(message["token_ids"])
        vocab_size = engine.config.transformer.vocab_size
        if not token_ids or not all(0 <= token < vocab_size for token in token_ids):
            raise PromptError("token_ids are not those of a report; send them as /v1/report gave them")
        prompt = message["prompt"] or engine.config.sampling.report_prompt
        how = engine.text_settings({"max_new_tokens": len(token_ids)})
        engine.check_room(prompt, how)
        report = engine.finish_report(
            source.image, prompt, how, 0, [(token_id, 0.0) for token_id in token_ids]
        )
        heat = np.asarray(engine.explain(report, message["sentence"]))
        heat = heat / max(float(heat.max()), 1e-12)
        data: Message = {"sentence": message["sentence"], "image": None, "values": None}
        if message["format"] == "floats":
            small = _shrunk(Image.fromarray(heat.astype(np.float32), mode="F"), MAP_PX)
            data["values"] = np.asarray(small).round(4).tolist()
        else:
            data["image"] = _png(_shrunk(_overlay(heat), SHOWN_PX))
        self._end(message["id"], "explain", data)

    # --- passes of the network

    def _step(self) -> None:
        try:
            moved = self.session.step()
        except Exception as error:  # out of memory, or a bug: who ran is told, and the rest goes on
            log.error("a pass of the network failed: %s at %s", type(error).__name__, places(error))
            for number, _ in self._tasks.values():
                self._fail(number, error)
            self._tasks.clear()
            self.session = self.make_session(self.engine)
            return
        for task in moved:
            number, message = self._tasks[task]
            if isinstance(task, Reading):
                self._tell_reading(task, number, message)
            else:
                self._tell_sketch(task, number, message)

    def _tell_reading(self, reading: Reading, number: str, message: Message) -> None:
        text = reading.take_text()
        if text:
            self.emit({"event": "text", "id": number, "delta": text})
        if reading.report is not None:
            del self._tasks[reading]
            usage = {"ending": reading.ending, "num_given": reading.num_given}
            self._end(
                number,
                "report",
                {**_report(reading.report), **usage, **message, "model": self.engine.config.name},
            )

    def _tell_sketch(self, sketch: Sketch, number: str, message: Message) -> None:
        every, num_steps = message["preview_every"], sketch.settings.num_steps
        step: Message = {"event": "step", "id": number, "step": sketch.num_done, "num_steps": num_steps}
        is_shown = every and sketch.num_done % every == 0 and sketch.num_done < num_steps
        step["previews"] = [p.to_bytes() for p in sketch.previews(self.engine)] if is_shown else None
        self.emit(step)
        if sketch.pictures is not None:
            del self._tasks[sketch]
            self._end(number, "pictures", _pictures(sketch.pictures, message["format"]))


def describe(engine: Engine) -> Message:
    """Return what the page and the limits need to know about a model."""
    config = engine.config
    sampling = config.sampling
    return {
        "model": config.name,
        "licence": config.licence,
        "report_prompt": sampling.report_prompt,
        "max_new_tokens": sampling.max_new_tokens,
        "size_px": sampling.size_px,
        "size_step_px": config.autoencoder.downsample,
        "num_steps": sampling.num_steps,
        "guidance_scale": sampling.guidance_scale,
    }


def explain_error(error: Exception) -> dict[str, str]:
    """Return code and message of an error; of one that is not ours, only its kind."""
    codes = {PromptError: "bad_prompt", InputError: "bad_image", ConfigError: "bad_setting"}
    for kind, code in codes.items():
        if isinstance(error, kind):
            return {"code": code, "message": str(error).removeprefix("<bytes>: ")}
    return {"code": "engine_error", "message": f"the model failed ({type(error).__name__}); try again"}


def _gate(gate: GateResult) -> Message:
    scores = {name: float(score) for name, score in gate.scores.items()}
    return {"accepted": gate.accepted, "reason": gate.reason, "scores": scores}


def _report(report: Report) -> Message:
    sentences = [
        {"text": text, "start": start, "end": end} for text, start, end, _ in label_sentences(report.text)
    ]
    return {
        "text": report.text,
        "sentences": sentences,
        "findings": [finding._asdict() for finding in report.findings],
        "token_ids": list(report.token_ids),
        "prompt": report.prompt,
        "seed": report.seed,
        "settings": {key: value for key, value in report.settings.items() if key != "model"},
    }


def _pictures(pictures: list[Picture], kind: str) -> Message:
    first = pictures[0].settings
    return {
        "pictures": [{"data": p.to_bytes(kind), "seed": p.seed} for p in pictures],
        "prompt": first["text"],
        "settings": {key: value for key, value in first.items() if key not in ("text", "model")},
        "model": first["model"],
    }


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _shrunk(picture: Image.Image, longest_px: int) -> Image.Image:
    scale = longest_px / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def _overlay(heat: np.ndarray) -> Image.Image:
    """Paint a map 0..1 in orange, as opaque as it is strong."""
    rgba = np.empty((*heat.shape, 4), dtype=np.uint8)
    rgba[..., :3] = (255, 120, 0)
    rgba[..., 3] = np.rint(np.clip(heat, 0, 1) * 180)
    return Image.fromarray(rgba, "RGBA")


def read_frames(stream: IO[bytes], take: Callable[[Message], None]) -> None:
    """Pass every message of a stream on until it ends."""
    while len(head := stream.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        if length > MAX_FRAME_BYTES or len(body := stream.read(length)) < length:
            return
        take(unpack(body))


def main(spec: dict[str, Any]) -> int:
    """Be the child process: load the model, then work until standard input ends."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lock = threading.Lock()

    def emit(message: Message) -> None:
        with lock:
            out.write(pack(message))
            out.flush()

    from unixcxr.sampling.engine import load_engine

    try:
        engine = load_engine(spec["model"], device=spec["device"], dtype=spec["dtype"])
    except UnixcxrError as error:
        emit({"event": "fatal", "message": str(error)})
        return 2
    worker = Worker(engine, emit, spec["max_pixels"])

    def listen() -> None:
        read_frames(sys.stdin.buffer, worker.put)
        os._exit(0)  # the web process is gone: nobody wants what is being computed

    threading.Thread(target=listen, daemon=True, name="listen").start()
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
