"""Read and draw for many callers at once: requests join and leave between tokens and between steps.

What a request gets does not depend on what else runs: token ids are those of the engine alone, latents within
1e-4 (float32). One thread uses a session.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from unixcxr.batch import Example
from unixcxr.errors import PromptError
from unixcxr.flow.path import picture_from_velocity
from unixcxr.sampling.engine import Engine
from unixcxr.sampling.image import Denoiser, Drawing, DrawSettings, GuidedVelocity
from unixcxr.sampling.picture import Picture
from unixcxr.sampling.prefix import PrefixStore
from unixcxr.sampling.report import Pieces, Report
from unixcxr.sampling.text import DecodingBatch, Ending, NewToken, TextSettings

MAX_NEW_READINGS = 8
"""Radiographs that are encoded together when they join: a larger group would hold up who is already writing."""


@dataclass(eq=False)
class Reading:
    """One report being written; `report` is there when it is finished."""

    image: np.ndarray
    prompt: str
    seed: int
    settings: TextSettings
    example: Example
    num_given: int
    pieces: Pieces
    tokens: list[tuple[int, float]] = field(default_factory=list)
    row: int | None = None
    report: Report | None = None
    ending: Ending | None = None
    _new_text: str = ""

    def take_text(self) -> str:
        """Return the text written since the last call; all of it joined is the report's text."""
        text, self._new_text = self._new_text, ""
        return text

    def write(self, token: NewToken) -> None:
        """Add a token."""
        self.tokens.append((token.token_id, token.logprob))
        self._new_text += self.pieces.add(token.token_id)

    def finish(self, engine: Engine, ending: Ending) -> None:
        """Turn the tokens into a report."""
        self._new_text += self.pieces.rest()
        self.ending = ending
        self.report = engine.finish_report(self.image, self.prompt, self.settings, self.seed, self.tokens)


@dataclass(eq=False)
class Sketch:
    """Pictures being drawn together; `pictures` is there when they are finished."""

    texts: Sequence[str]
    seeds: Sequence[int]
    grid: tuple[int, int]
    settings: DrawSettings
    num_done: int = 0
    drawing: Drawing | None = None
    pictures: list[Picture] | None = None
    _estimate: Tensor | None = None

    def note(self, step: int, x: Tensor, velocity: Tensor, timestep: float) -> None:
        """Count a step of the solver, and keep what the pictures would become from here."""
        self.num_done = step
        self._estimate = picture_from_velocity(x, velocity, x.new_full((len(x),), timestep))

    def previews(self, engine: Engine) -> list[Picture]:
        """Decode what the pictures would become; before the first step there is nothing to see."""
        if self._estimate is None:
            return []
        return self._decode(engine, self._estimate)

    def begin(self, engine: Engine, store: PrefixStore) -> None:
        """Encode the texts and draw the noise."""
        velocity = GuidedVelocity(
            engine.model, engine.conditions(self.texts), self.grid, self.settings, store
        )
        self.drawing = Drawing(velocity, engine.noise(self.seeds, self.grid), self.note)

    def finish(self, engine: Engine) -> None:
        """Decode the finished latents."""
        latents = None if self.drawing is None else self.drawing.latents
        assert latents is not None, "this sketch is not finished"
        self.pictures = self._decode(engine, latents)

    def _decode(self, engine: Engine, latents: Tensor) -> list[Picture]:
        return [
            engine.finish_picture(latent, self.grid, text, seed, self.settings)
            for latent, text, seed in zip(latents, self.texts, self.seeds, strict=True)
        ]


class Session:
    """Runs one engine for everybody; each `step` is one pass of the network.

    Reading and drawing share its time equally while there is both. Drawings take turns when they need more than
    `max_draw_rows` rows of the network together. Prefixes are remembered up to `prefix_bytes`.
    """

    def __init__(
        self,
        engine: Engine,
        max_draw_rows: int = 8,
        prefix_bytes: int = 64 << 20,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.engine = engine
        self.max_draw_rows = max_draw_rows
        self.clock = clock
        self._store = PrefixStore(engine.model, prefix_bytes)
        self._batch = DecodingBatch(engine.model)
        self._denoiser = Denoiser(engine.model)
        self._new: deque[Reading] = deque()
        self._readings: dict[int, Reading] = {}
        self._sketches: deque[Sketch] = deque()
        self._spent = {"read": 0.0, "draw": 0.0}

    @property
    def num_readings(self) -> int:
        """Reports being written."""
        return len(self._new) + len(self._readings)

    @property
    def num_sketches(self) -> int:
        """Groups of pictures being drawn."""
        return len(self._sketches)

    def read(
        self, image: np.ndarray, prompt: str | None = None, *, seed: int = 0, **settings: Any
    ) -> Reading:
        """Begin a report of a radiograph (uint8 (H, W)); settings are those of `Engine.write_report`."""
        engine = self.engine
        text = prompt if prompt is not None else engine.config.sampling.report_prompt
        how = engine.text_settings(settings)
        num_given = engine.check_room(text, how)
        example = engine.reading(image, text)
        reading = Reading(image, text, seed, how, example, num_given, Pieces(engine.tokenizer))
        self._catch_up("read", self.num_readings)
        self._new.append(reading)
        return reading

    def draw(
        self,
        texts: Sequence[str],
        *,
        seeds: Sequence[int],
        size_px: int | tuple[int, int] | None = None,
        **settings: Any,
    ) -> Sketch:
        """Begin to draw pictures together; settings are those of `Engine.draw_images`."""
        engine = self.engine
        how, grid = engine.draw_settings(settings), engine.latent_grid(size_px)
        if len(texts) != len(seeds) or not texts:
            raise PromptError(f"found {len(texts)} texts and {len(seeds)} seeds; give one seed a text")
        engine.conditions(texts)  # what cannot be drawn is refused now, not when its turn comes
        sketch = Sketch(texts, seeds, grid, how)
        self._catch_up("draw", self.num_sketches)
        self._sketches.append(sketch)
        return sketch

    def leave(self, task: Reading | Sketch) -> None:
        """Take out what is not finished."""
        if isinstance(task, Sketch):
            if task in self._sketches:
                self._sketches.remove(task)
        elif task in self._new:
            self._new.remove(task)
        elif task.row in self._readings:
            self._batch.leave(task.row)
            del self._readings[task.row]

    def step(self) -> list[Reading | Sketch]:
        """Run one pass of the network; return what it moved on. With nothing to do, return nothing."""
        waiting = {"read": self.num_readings, "draw": self.num_sketches}
        kinds = [kind for kind, count in waiting.items() if count]
        if not kinds:
            return []
        kind = min(kinds, key=lambda kind: self._spent[kind])
        started = self.clock()
        moved: list[Reading | Sketch] = [
            *(self._step_readings() if kind == "read" else self._step_sketches())
        ]
        self._spent[kind] += self.clock() - started
        return moved

    def _catch_up(self, kind: str, num_running: int) -> None:
        """Let a kind that was idle not claim the time that it did not use."""
        if not num_running:
            self._spent[kind] = max(self._spent.values())

    def _step_readings(self) -> list[Reading]:
        joining = [self._new.popleft() for _ in range(min(len(self._new), MAX_NEW_READINGS))]
        if joining:
            prefix = self._store.encode([reading.example for reading in joining])
            for place, reading in enumerate(joining):
                one = prefix.select([place]) if len(joining) > 1 else prefix
                (reading.row,) = self._batch.join(one, reading.settings, [reading.seed])
                self._readings[reading.row] = reading
        tokens, ended = self._batch.step()
        moved = {token.row: self._readings[token.row] for token in tokens}
        for token in tokens:
            moved[token.row].write(token)
        for row, ending in ended.items():
            reading = moved[row] = self._readings.pop(row)
            reading.finish(self.engine, ending)
        return list(moved.values())

    def _step_sketches(self) -> list[Sketch]:
        chosen: list[Sketch] = []
        num_rows = 0
        for sketch in self._sketches:
            if sketch.drawing is None:
                sketch.begin(self.engine, self._store)
            assert sketch.drawing is not None
            num_rows += sketch.drawing.num_rows
            if chosen and num_rows > self.max_draw_rows:
                break
            chosen.append(sketch)
        before = {id(sketch): sketch.num_done for sketch in chosen}
        self._denoiser.step([sketch.drawing for sketch in chosen if sketch.drawing is not None])
        for sketch in chosen:
            self._sketches.remove(sketch)
            if sketch.drawing is not None and sketch.drawing.latents is not None:
                sketch.finish(self.engine)
            else:
                self._sketches.append(sketch)
        return [sketch for sketch in chosen if sketch.num_done > before[id(sketch)]]
