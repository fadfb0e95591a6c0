"""`unixcxr demo`: read a radiograph, draw three, read those back, and show it all on one page."""

from __future__ import annotations

import base64
import html
import io
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any

import typer

import unixcxr
from unixcxr.atomic import require_writable, write_text
from unixcxr.cli import engines, findings, options
from unixcxr.cli.console import NOT_A_DEVICE, percent, print_json, progress, say

if TYPE_CHECKING:
    import numpy as np

    from unixcxr.sampling.engine import Engine
    from unixcxr.sampling.picture import Picture
    from unixcxr.sampling.report import Report

PROMPTS = (
    "Normal chest radiograph.",
    "Large right pleural effusion.",
    "Phantom chest X-ray. Left pacemaker.",
)
PHANTOM_SEED = 7
SHOWN_PX = 512


@dataclass(frozen=True)
class _Reading:
    """What was read: where it came from, whether the gate refused it, the truth where it is known."""

    image: np.ndarray
    what: str
    refusal: str | None
    truth: str | None
    truth_labels: dict[str, str]
    report: Report
    seconds: float


@dataclass(frozen=True)
class _Drawing:
    """A picture, its prompt, and what the model reads in it."""

    prompt: str
    picture: Picture
    report: Report
    draw_seconds: float
    read_seconds: float


def demo(
    image: Annotated[
        Path | None, typer.Option(help="A radiograph of yours; without one, a phantom is drawn and read.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for index.html.")] = Path("demo"),
    seed: options.Seed = 0,
    num_steps: options.NumSteps = None,
    guidance_scale: options.GuidanceScale = None,
    size_px: options.SizePx = None,
    json_lines: options.Json = False,
    model: options.Model = "embedded",
    device: options.Device = "cpu",
    dtype: options.DType = "float32",
) -> int:
    """Read a radiograph, draw three from text, read those back, and write one self-contained page.

    [bold]Example:[/bold] unixcxr demo --image chest.png --out demo
    """
    page = out / "index.html"
    require_writable(page)
    settings = options.drawing_settings(num_steps, guidance_scale, size_px)
    started = time.perf_counter()
    engine = engines.load(model, device, dtype)
    load_seconds = time.perf_counter() - started
    reading = _read(engine, image)
    say(f"read {reading.what.rstrip('.')} in {reading.seconds:.1f} s")
    drawings = []
    for number, prompt in enumerate(PROMPTS):
        drawings.append(_draw(engine, prompt, seed + number, settings))
        say(f"drew {prompt!r} in {drawings[-1].draw_seconds:.1f} s and read it back")
    seconds = time.perf_counter() - started
    write_text(page, _render(engine, device, reading, drawings, load_seconds, seconds))
    if json_lines:
        row: dict[str, Any] = {"page": str(page.absolute()), "report": reading.report.text}
        row["drawings"] = [
            {"text": d.prompt, "report": d.report.text, "seed": d.picture.seed} for d in drawings
        ]
        print_json({**row, "seconds": round(seconds, 2)})
    else:
        print(page.absolute())
    return 0


def _read(engine: Engine, path: Path | None) -> _Reading:
    """Read the user's picture, or a phantom whose truth is known."""
    if path is None:
        from unixcxr.phantom import sample_phantom

        phantom = sample_phantom(PHANTOM_SEED, size_px=256)
        image, truth, labels = (
            phantom.image,
            phantom.report,
            {label: str(state) for label, state in phantom.labels.items()},
        )
        what, refusal = "a phantom: a radiograph that the project draws, with known findings.", None
    else:
        gate = engine.check_image(path)
        image, truth, labels = unixcxr.read_image(path), None, {}
        what, refusal = f"your picture, {path.name}.", None if gate.accepted else gate.reason
    started = time.perf_counter()
    report = engine.write_report(image)
    return _Reading(image, what, refusal, truth, labels, report, time.perf_counter() - started)


def _draw(engine: Engine, prompt: str, seed: int, settings: dict[str, Any]) -> _Drawing:
    with progress("Drawing", 100, in_percent=True) as advance:
        started = time.perf_counter()
        picture = engine.draw_image(prompt, seed=seed, progress=percent(advance), **settings)
    drawn = time.perf_counter()
    report = engine.write_report(picture.image)
    return _Drawing(prompt, picture, report, drawn - started, time.perf_counter() - drawn)


def _render(
    engine: Engine,
    device: str,
    reading: _Reading,
    drawings: Sequence[_Drawing],
    load_seconds: float,
    seconds: float,
) -> str:
    from PIL import Image

    template = Template(resources.files("unixcxr.cli").joinpath("demo.html").read_text(encoding="utf-8"))
    facts = {
        "Model": f"{engine.config.name}; {engine.config.licence}",
        "Loading": f"{load_seconds:.2f} s",
        "Reading": f"{reading.seconds:.2f} s, {len(reading.report.token_ids)} tokens",
        "Drawing": ", ".join(f"{drawing.draw_seconds:.2f} s" for drawing in drawings),
        "Reading back": ", ".join(f"{drawing.read_seconds:.2f} s" for drawing in drawings),
        "Drawing settings": _settings_line(drawings[0].picture.settings),
        "Machine": f"{platform.system()} {platform.machine()}, {device}, Python {platform.python_version()}",
    }
    return template.substitute(
        seconds=f"{seconds:.1f}",
        notice=NOT_A_DEVICE,
        version=unixcxr.__version__,
        read_what=html.escape(f"This is {reading.what}"),
        read_image=_data_uri(Image.fromarray(reading.image)),
        read_body=_reading_body(reading),
        drawings="\n".join(_drawing_card(drawing) for drawing in drawings),
        facts="\n".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in facts.items()
        ),
    )


def _reading_body(reading: _Reading) -> str:
    warning = (
        f'<p class="warning">The input gate would refuse this picture: {html.escape(reading.refusal)}</p>'
        if reading.refusal
        else ""
    )
    written = f"<div><h3>The model writes</h3>{_report(reading.report)}</div>"
    if reading.truth is None:
        return f"{warning}{written}"
    truth = (
        f'<div><h3>The truth of the phantom</h3><p class="report">{html.escape(reading.truth)}</p>'
        f"{_chips((label, state, None) for label, state in reading.truth_labels.items())}</div>"
    )
    return f'{warning}<div class="columns">{written}{truth}</div>'


def _drawing_card(drawing: _Drawing) -> str:
    picture = drawing.picture
    return (
        f'<article class="card"><figure><img src="{_data_uri(picture.image)}" '
        f'alt="Synthetic radiograph: {html.escape(drawing.prompt)}"></figure><div class="text">'
        f'<h3>Drawn from</h3><p class="prompt">{html.escape(drawing.prompt)}</p>'
        f"<h3>Read back</h3>{_report(drawing.report)}"
        f'<p class="meta">seed {picture.seed}, drawn in {drawing.draw_seconds:.2f} s</p></div></article>'
    )


def _report(report: Report) -> str:
    chips = _chips((label, state, confidence) for label, state, _, confidence in report.findings)
    return f'<p class="report">{html.escape(report.text)}</p>{chips}'


def _chips(found: Iterable[tuple[str, str, float | None]]) -> str:
    """Render findings as chips, one a label."""
    items = []
    for label, state, confidence in findings.one_per_label(found):
        kind = "clear" if label == "No Finding" else state
        words = html.escape(findings.in_words(label, state, confidence))
        items.append(f'<li class="{kind}" title="model confidence, not calibrated">{words}</li>')
    return f'<ul class="chips">{"".join(items)}</ul>'


def _settings_line(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if name != "text")


def _data_uri(picture: Any) -> str:
    """Return a PIL picture, at most SHOWN_PX a side, as a PNG data URI."""
    shown = picture.convert("L")
    shown.thumbnail((SHOWN_PX, SHOWN_PX))
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
