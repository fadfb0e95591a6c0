"""The options that several commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unixcxr.errors import ConfigError

Model = Annotated[
    str,
    typer.Option("--model", "-m", help="'embedded', a model folder, or the hub id of a pulled model."),
]
Device = Annotated[str, typer.Option(help="'cpu', 'cuda', 'cuda:1', 'mps', or 'auto' for the best there is.")]
DType = Annotated[str, typer.Option("--dtype", help="'float32', 'bfloat16' or 'float16'.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON lines.")]
NumSteps = Annotated[int | None, typer.Option(min=1, help="Denoising steps; default: the model's own.")]
GuidanceScale = Annotated[
    float | None, typer.Option(help="How closely pictures follow the text; default: the model's own.")
]
SizePx = Annotated[
    str | None, typer.Option("--size-px", metavar="N|HxW", help="Picture size; default: the model's own.")
]


def drawing_settings(
    num_steps: int | None, guidance_scale: float | None, size_px: str | None
) -> dict[str, Any]:
    """Return the drawing arguments that were given; the engine knows the model's own for the rest."""
    given = {"num_steps": num_steps, "guidance_scale": guidance_scale, "size_px": parse_size(size_px)}
    return {name: value for name, value in given.items() if value is not None}


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """Read "256" or "256x320" (height x width). Raises ConfigError for anything else."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ConfigError(f"--size-px {text!r} is not a size; write 256, or 256x320 for height x width")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def parse_out(out: Path | None, is_folder: bool) -> Path | None:
    """Check that --out is the kind of place that the results need. Raises ConfigError."""
    if out is not None and is_folder and out.is_file():
        raise ConfigError(f"--out {out} is a file, but there are several results; name a folder")
    return out
