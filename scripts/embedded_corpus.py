"""Prepare what the embedded model is trained on: corpus directories of pictures and texts.

    python scripts/embedded_corpus.py phantoms  OUT --first-seed 0 --count 12000
    python scripts/embedded_corpus.py real      OUT --pack DIR --split train
    python scripts/embedded_corpus.py composites OUT --pack DIR --split train --per-image 3

`phantoms` need nothing. `real` and `composites` read a folder with `index.jsonl` (image, split, source,
labels, license_tier); only tier A is taken. Composites are findings painted onto real normal adults.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unixcxr.data.transforms import fit_image
from unixcxr.phantom import PhantomFinding, sample_phantom, write_phantom_report
from unixcxr.phantom.finding import SIDES
from unixcxr.train.corpus import Row, write_corpus

logger = logging.getLogger("embedded_corpus")

SIZE_PX = 256
VARIANTS = 12
"""Wordings of one real picture's report and prompt."""

PNEUMONIA_FINDINGS = (
    "There is {kind} pneumonia.",
    "Findings of {kind} pneumonia are present.",
    "The lungs show {kind} pneumonia.",
    "{Kind} pneumonia is present.",
    "Appearances are those of {kind} pneumonia.",
)
PNEUMONIA_IMPRESSIONS = ("{Kind} pneumonia.", "Pneumonia, {kind}.", "Findings of {kind} pneumonia.")
PAEDIATRIC_OPENINGS = (
    "Paediatric chest radiograph.",
    "Paediatric radiograph.",
    "Paediatric frontal chest radiograph.",
    "Paediatric chest radiograph, AP view.",
)
PAEDIATRIC_PROMPTS = (
    "Paediatric.",
    "Paediatric chest radiograph.",
    "Paediatric chest X-ray.",
    "Paediatric radiograph.",
)

Picture = tuple[Row, NDArray[np.uint8]]


def main() -> None:
    """Write one corpus directory."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["phantoms", "real", "composites"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=12000)
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--per-image", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.what == "phantoms":
        pictures = phantoms(range(arguments.first_seed, arguments.first_seed + arguments.count))
    elif arguments.what == "real":
        pictures = real_pictures(arguments.pack, arguments.split)
    else:
        pictures = composites(arguments.pack, arguments.split, arguments.per_image)
    rows, images = zip(*pictures, strict=True)
    write_corpus(arguments.out, rows, np.stack(images))
    logger.info("%s: %d pictures", arguments.out, len(rows))


def phantoms(seeds: Sequence[int]) -> Iterator[Picture]:
    """Draw phantoms with two more wordings of their truth each."""
    for seed in seeds:
        phantom = sample_phantom(seed, SIZE_PX)
        texts = [
            phantom,
            *(write_phantom_report(phantom.findings, _rng(seed, n), phantom.view) for n in (1, 2)),
        ]
        reports = (phantom.report, *(text.text for text in texts[1:]))
        row = Row(
            id=f"phantom-{seed:08d}",
            source="phantom",
            reports=reports,
            prompts=_prompts(texts, "Phantom."),
            targets=finding_targets(phantom.findings),
        )
        yield row, phantom.image


def real_pictures(pack: Path, split: str) -> Iterator[Picture]:
    """Read tier A pictures; their texts say what their label says and nothing else."""
    for number, entry in enumerate(_entries(pack, split)):
        image = _read(pack, entry)
        if entry["source"] == "rsna_normal":
            reports, prompts = _normal_texts(number, "adult")
            yield (
                Row(entry["id"], "adult", reports, prompts, {**finding_targets(()), "pneumonia": False}),
                image,
            )
        elif entry["source"] == "paediatric" and entry["labels"] == ["Normal"]:
            reports, prompts = _normal_texts(number, "paediatric")
            yield (
                Row(entry["id"], "paediatric", reports, prompts, {**finding_targets(()), "pneumonia": False}),
                image,
            )
        elif entry["source"] == "paediatric":
            reports, prompts = _pneumonia_texts(number, entry["labels"][0].split()[0].lower())
            yield Row(entry["id"], "paediatric", reports, prompts, {"pneumonia": True}), image
        else:
            yield Row(entry["id"], entry["source"]), image


def composites(pack: Path, split: str, per_image: int) -> Iterator[Picture]:
    """Paint findings onto real normal adults; pictures whose lungs are not found are left out and counted."""
    from unixcxr.phantom import draw_findings, estimate_anatomy, paint_findings

    refused = 0
    normals = [entry for entry in _entries(pack, split) if entry["source"] == "rsna_normal"]
    for number, entry in enumerate(normals):
        image = _read(pack, entry)
        anatomy = estimate_anatomy(image)
        if anatomy is None:
            refused += 1
            continue
        for copy in range(per_image):
            rng = _rng(number, 100 + copy)
            findings = draw_findings(rng)
            while not findings:
                findings = draw_findings(rng)
            painted = paint_findings(image, anatomy, findings, rng)
            texts = [write_phantom_report(findings, rng, None, kind="adult") for _ in range(3)]
            yield (
                Row(
                    id=f"{entry['id']}-composite-{copy}",
                    source="composite",
                    reports=tuple(text.text for text in texts),
                    prompts=_prompts(texts, ""),
                    targets={**finding_targets(findings), "pneumonia": False},
                ),
                painted,
            )
    logger.info("composites: %d of %d pictures left out, their lungs were not found", refused, len(normals))


def finding_targets(findings: Sequence[PhantomFinding]) -> dict[str, bool]:
    """Return every kind and every kind on each side, and whether it is present."""
    names = [
        f"{kind} {side}".strip()
        for kind in SIDES
        for side in ("", "left", "right")
        if not side or SIDES[kind][0]
    ]
    present = {f.kind for f in findings} | {f"{f.kind} {side}" for f in findings for side in f.sides}
    return {name: name in present for name in names} | {"normal": not findings}


def _prompts(texts: Sequence, opening: str) -> tuple[str, ...]:
    """Return prompts: the composed ones, the impressions and the findings sections."""
    impressions = [f"{opening} {text.impression_text}".strip() for text in texts]
    return (*(text.prompt for text in texts), *impressions, texts[0].findings_text)


def _normal_texts(number: int, kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    texts = [write_phantom_report((), _rng(number, n), None, kind=kind) for n in range(VARIANTS)]  # type: ignore[arg-type]
    opening = "Paediatric." if kind == "paediatric" else ""
    return tuple(text.text for text in texts), _prompts(texts, opening)


def _pneumonia_texts(number: int, kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    rng = _rng(number, 0)
    reports, prompts = [], []

    def pick(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))].format(kind=kind, Kind=kind.capitalize())

    for _ in range(VARIANTS):
        findings = f"{pick(PAEDIATRIC_OPENINGS)} {pick(PNEUMONIA_FINDINGS)}"
        reports.append(f"FINDINGS: {findings}\nIMPRESSION: {pick(PNEUMONIA_IMPRESSIONS)}")
        prompts.append(f"{pick(PAEDIATRIC_PROMPTS)} {pick(PNEUMONIA_IMPRESSIONS)}")
    return tuple(reports), (*prompts, findings)


def _entries(pack: Path, split: str) -> Iterator[dict]:
    with (pack / "index.jsonl").open(encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            if entry["split"] == split and entry["license_tier"] == "A":
                yield entry


def _read(pack: Path, entry: dict) -> NDArray[np.uint8]:
    return fit_image(np.asarray(Image.open(pack / entry["image"]).convert("L")), "pad", SIZE_PX)


def _rng(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(numbers)


if __name__ == "__main__":
    main()
