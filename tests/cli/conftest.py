"""A fake engine behind the one seam of the commands, and a way to run a command as a user does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unixcxr.cleaning.dicom import read_image
from unixcxr.cli import engines
from unixcxr.cli.app import run
from unixcxr.errors import PromptError
from unixcxr.sampling.picture import Picture
from unixcxr.sampling.report import Report

TEXT = "Large right pleural effusion. No pneumothorax."


@dataclass
class FakeEngine:
    """Answers at once: every picture is read the same; a picture's grey is its seed. Black pictures are refused."""

    config: Any = field(default_factory=lambda: SimpleNamespace(name="fake", licence="none"))
    batches: list[int] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def check_image(self, image: Any) -> Any:
        black = int(read_image(image).max()) == 0
        return SimpleNamespace(accepted=not black, reason="blank picture" if black else "", scores={})

    def write_reports(
        self, images: Sequence[Any], *, prompt: str | None = None, seeds: Sequence[int] = (0,), **options: Any
    ) -> list[Report]:
        self._check(prompt)
        self.batches.append(len(images))
        self.calls.append({"prompt": prompt, "seeds": list(seeds), **options})
        ends = tuple(range(1, len(TEXT) + 1))
        zeros = (0.0,) * len(TEXT)
        return [
            Report(TEXT, ends, zeros, ends, prompt or "", seed, read_image(image))
            for image, seed in zip(images, seeds, strict=False)
        ]

    def write_report(self, image: Any, **options: Any) -> Report:
        return self.write_reports([image], **options)[0]

    def stream_report(self, image: Any, **options: Any) -> Iterator[str]:
        self._check(options.get("prompt"))
        read_image(image)
        yield from (TEXT[:10], TEXT[10:])

    def draw_images(
        self,
        texts: Sequence[str],
        *,
        seeds: Sequence[int],
        progress: Callable[[int, int], None],
        **settings: Any,
    ) -> list[Picture]:
        for text in texts:
            self._check(text)
        self.calls.append({"texts": list(texts), "seeds": list(seeds), **settings})
        progress(1, 2)
        progress(2, 2)
        return [
            Picture(
                Image.new("L", (8, 8), 100 + seed),
                torch.zeros(1, 1),
                seed,
                {"text": text, **settings},
                np.full((8, 8), (100 + seed) / 255, dtype=np.float32),
            )
            for text, seed in zip(texts, seeds, strict=True)
        ]

    def draw_image(self, text: str, *, seed: int, **options: Any) -> Picture:
        return self.draw_images([text], seeds=[seed], **options)[0]

    @staticmethod
    def _check(prompt: str | None) -> None:
        if prompt is not None and not prompt.strip():
            raise PromptError("the prompt is empty; say what to read or draw")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Put a fake engine in the place of the real one."""
    fake = FakeEngine()
    monkeypatch.setattr(engines, "load", lambda model, device, dtype: fake)
    return fake


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error:")]


@pytest.fixture
def unixcxr(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """Run a command in an empty folder; nothing pulled, nothing in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIXCXR_MODELS", str(tmp_path / "no-models"))

    def call(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return call


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Return a folder with two readable pictures, one in a folder below it, and a file that is none."""
    folder = tmp_path / "films"
    (folder / "more").mkdir(parents=True)
    ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    Image.fromarray(ramp).save(folder / "a.png")
    Image.fromarray(ramp).save(folder / "more" / "b.jpg")
    (folder / "notes.txt").write_text("not a picture")
    return folder
