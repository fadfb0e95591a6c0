"""Draw whole phantoms: a body, its findings, the film and the report, from one seed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unixcxr.errors import ConfigError
from unixcxr.phantom.anatomy import render_body
from unixcxr.phantom.body import draw_body
from unixcxr.phantom.chest_map import ChestMap
from unixcxr.phantom.film import draw_film, expose
from unixcxr.phantom.finding import PhantomFinding, check_findings, draw_findings
from unixcxr.phantom.painters import paint_density
from unixcxr.phantom.report import write_phantom_report
from unixcxr.records import LabelState, Record, write_manifest

_SMALLEST_PX, _LARGEST_PX = 32, 2048


@dataclass(frozen=True, eq=False)
class Phantom:
    """One drawn radiograph with its exact truth: `image` is uint8 (H, W), bright bone on dark air."""

    image: NDArray[np.uint8]
    findings: tuple[PhantomFinding, ...]
    report: str
    findings_text: str
    impression_text: str
    prompt: str
    labels: dict[str, LabelState]
    view: str
    seed: int
    anatomy: ChestMap


def sample_phantom(
    seed: int, size_px: int = 256, findings: Sequence[PhantomFinding] | None = None
) -> Phantom:
    """Draw the phantom of a seed: the same body, film and findings at any size.

    With `findings=None` they are drawn from the prior of `draw_findings`; given ones replace them on the same
    body. Raises ConfigError for a negative seed, a size outside 32..2048 or findings that cannot stand
    together.
    """
    if seed < 0:
        raise ConfigError(f"seed is {seed}; expected 0 or more")
    if not _SMALLEST_PX <= size_px <= _LARGEST_PX:
        raise ConfigError(f"size_px is {size_px}; expected {_SMALLEST_PX} to {_LARGEST_PX}")
    body_rng, finding_rng, paint_rng, film_rng, noise_rng, text_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(6)
    )
    chosen = draw_findings(finding_rng) if findings is None else check_findings(findings)
    view = "PA" if body_rng.random() < 0.65 else "AP"
    field, anatomy = render_body(draw_body(body_rng, view), size_px)
    field = paint_density(field, anatomy, chosen, paint_rng)
    image = expose(field, draw_film(film_rng, view), noise_rng)
    report = write_phantom_report(chosen, text_rng, view)
    return Phantom(
        image=image,
        findings=chosen,
        report=report.text,
        findings_text=report.findings_text,
        impression_text=report.impression_text,
        prompt=report.prompt,
        labels=report.labels,
        view=view,
        seed=seed,
        anatomy=anatomy,
    )


def write_phantom_set(directory: str | os.PathLike[str], seeds: Iterable[int], size_px: int = 256) -> int:
    """Write the phantoms of `seeds` as PNG files with a manifest.jsonl of `Record`; return how many."""
    from PIL import Image

    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)

    def rows() -> Iterable[Record]:
        for seed in seeds:
            phantom = sample_phantom(seed, size_px)
            name = f"phantom-{seed:08d}"
            Image.fromarray(phantom.image).save(target / f"{name}.png")
            yield Record(
                id=name,
                image_path=f"{name}.png",
                findings=phantom.findings_text,
                impression=phantom.impression_text,
                raw_report=phantom.report,
                view=phantom.view,
                labels=phantom.labels,
                patient_id=name,
                source="phantom",
                license="Apache-2.0",
            )

    return write_manifest(rows(), target / "manifest.jsonl")
