"""`unixcxr draw`: draw radiographs from text."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unixcxr.atomic import require_writable
from unixcxr.cli import engines, options
from unixcxr.cli.console import percent, print_error, print_json, progress, say
from unixcxr.errors import ConfigError, InputError

if TYPE_CHECKING:
    from unixcxr.sampling.picture import Picture


def draw(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT...]", help="What the radiograph should show.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="A text file with one more prompt a line.")] = None,
    num_pictures: Annotated[
        int,
        typer.Option("-n", "--num-pictures", min=1, help="Pictures of each text; picture k has seed + k."),
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A .png or .dcm file, or a folder. Default: this folder."),
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Save one PNG sheet, a row for each text.")] = False,
    bits: Annotated[int, typer.Option(help="Depth of the files, 8 or 16 bits.")] = 8,
    format: Annotated[  # noqa: A002  (the option's name)
        Literal["png", "dcm"] | None, typer.Option(help="Files in a folder: png (default) or dcm.")
    ] = None,
    seed: options.Seed = 0,
    num_steps: options.NumSteps = None,
    guidance_scale: options.GuidanceScale = None,
    size_px: options.SizePx = None,
    json_lines: options.Json = False,
    model: options.Model = "embedded",
    device: options.Device = "cpu",
    dtype: options.DType = "float32",
) -> int:
    """Draw chest X-rays from text, as PNG (8 or 16 bit) or as DICOM secondary captures marked SYNTHETIC.

    [bold]Example:[/bold] unixcxr draw "Large right pleural effusion." -n 4 --grid --out effusions.png
    """
    wanted = list(texts or ()) + _read_prompts(prompts)
    if not wanted:
        raise ConfigError("nothing to draw; give a text, or a file of them with --prompts")
    targets = _plan(wanted, num_pictures, seed, out, grid, bits, format)
    settings = options.drawing_settings(num_steps, guidance_scale, size_px)
    engine = engines.load(model, device, dtype)
    num_failed = 0
    sheet: list[Picture] = []
    with progress("Drawing", len(wanted) * 100, in_percent=True) as advance:
        for row, text in enumerate(wanted):
            started = time.perf_counter()
            seeds = [seed + k for k in range(num_pictures)]
            try:
                pictures = engine.draw_images(
                    [text] * num_pictures, seeds=seeds, progress=percent(advance), **settings
                )
            except InputError as error:
                num_failed += 1
                print_error(f"prompt {row + 1} of {len(wanted)}: {error}")
                advance(100)
                continue
            seconds = (time.perf_counter() - started) / num_pictures
            sheet += pictures
            if not grid:
                for picture, target in zip(pictures, targets[row], strict=True):
                    picture.save(target, bits=bits)
                    _tell(text, picture, target, seconds, json_lines)
    if grid and sheet:
        _save_grid(sheet, num_pictures, targets[0][0], json_lines)
    if num_failed and len(wanted) > 1:
        say(f"{num_failed} of {len(wanted)} prompts failed")
    return 1 if num_failed else 0


def _read_prompts(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(
            f"--prompts {path}: {reason}; expected a text file with one prompt a line"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def _plan(
    texts: list[str],
    num_pictures: int,
    seed: int,
    out: Path | None,
    grid: bool,
    bits: int,
    format: str | None,  # noqa: A002
) -> list[list[Path]]:
    """Decide every file name, and refuse impossible wishes, before anything is drawn."""
    if bits not in (8, 16):
        raise ConfigError(f"--bits {bits}: expected 8 or 16")
    out = out or Path()
    is_file = out.suffix.lower() in (".png", ".dcm", ".dicom")
    if out.suffix and not is_file and not out.is_dir():
        raise ConfigError(f"--out {out}: expected a name that ends in .png or .dcm, or a folder")
    if is_file and format is not None:
        raise ConfigError(f"--format has no effect on --out {out}, whose name says its kind; leave one out")
    if grid:
        if bits == 16 or format is not None or (is_file and out.suffix.lower() != ".png"):
            raise ConfigError(
                "--grid saves one 8-bit PNG sheet; leave out --bits, --format and other suffixes"
            )
        targets = [[out if is_file else out / f"{_slug(texts[0])}-grid.png"]] * len(texts)
    elif is_file:
        single = len(texts) * num_pictures == 1
        numbered = iter(range(1, len(texts) * num_pictures + 1))
        targets = [
            [out if single else out.with_stem(f"{out.stem}-{next(numbered)}") for _ in range(num_pictures)]
            for _ in texts
        ]
    else:
        targets = [
            [out / f"{_slug(text)}-seed{seed + k}.{format or 'png'}" for k in range(num_pictures)]
            for text in texts
        ]
        if len({path for row in targets for path in row}) < len(texts) * num_pictures:
            targets = [
                [path.with_stem(f"{i + 1}-{path.stem}") for path in row] for i, row in enumerate(targets)
            ]
    require_writable(targets[0][0])
    return targets


def _slug(text: str) -> str:
    """Return the beginning of a text as a file name."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:48].strip("-") or "picture"


def _tell(text: str, picture: Picture, target: Path, seconds: float, json_lines: bool) -> None:
    if json_lines:
        row = {"text": text, "picture": str(target), "seed": picture.seed, "settings": picture.settings}
        print_json({**row, "seconds": round(seconds, 3)})
    else:
        print(target, flush=True)


def _save_grid(pictures: list[Picture], num_columns: int, target: Path, json_lines: bool) -> None:
    from unixcxr.sampling.picture import contact_sheet, save_png

    save_png(contact_sheet(pictures, num_columns), target, pictures[0].seed, pictures[0].settings)
    if json_lines:
        cells = [{"seed": picture.seed, "settings": picture.settings} for picture in pictures]
        print_json({"picture": str(target), "columns": num_columns, "cells": cells})
    else:
        print(target, flush=True)
