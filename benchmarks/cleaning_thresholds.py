"""Set the thresholds of `cleaning.quality` and `cleaning.duplicates` on real radiographs and measure their errors.

    python benchmarks/cleaning_thresholds.py PACK [--write]

PACK is a folder with index.jsonl (id, image, split, source, patient_id) and images. The template and the thresholds
come from its train part; every number printed is from its valid part. --write stores them in the package.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import platform
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unixcxr.atomic import write_text
from unixcxr.cleaning import quality
from unixcxr.cleaning.dicom import read_image
from unixcxr.cleaning.duplicates import near_pairs, picture_hash

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "src" / "unixcxr" / "cleaning" / "template.toml"
MOST_PER_SOURCE = 400
FEWEST_PER_SOURCE = 20
"""No source outweighs the others: one of them holds most of the pack."""


def load(pack: Path, split: str) -> dict[str, list[np.ndarray]]:
    """Return up to MOST_PER_SOURCE pictures of a split for each source, chosen by a fixed seed."""
    rows = [json.loads(line) for line in (pack / "index.jsonl").open()]
    images: dict[str, list[np.ndarray]] = {}
    for source in sorted({row["source"] for row in rows}):
        chosen = [row for row in rows if row["source"] == source and row["split"] == split]
        random.Random(0).shuffle(chosen)
        images[source] = [read_image(pack / row["image"]) for row in chosen[:MOST_PER_SOURCE]]
    return {source: found for source, found in images.items() if len(found) >= FEWEST_PER_SOURCE}


def with_text(image: np.ndarray, seed: int) -> np.ndarray:
    """Write a line or two of invented identification into a corner, as a modality would."""
    chooser = random.Random(seed)
    picture = Image.fromarray(image)
    font = ImageFont.load_default(size=max(10, min(image.shape) // 22))
    words = "".join(chooser.choice("ABCDEFGHIKLMNOPRSTUVW") for _ in range(9))
    date = f"{chooser.randint(10, 28)}.0{chooser.randint(1, 9)}.2019"
    lines = f"{words[:5]}, {words[5:]}\n{date} {chooser.randint(1000, 9999)}"
    place = (chooser.choice((4, image.shape[1] // 2)), chooser.choice((4, int(image.shape[0] * 0.86))))
    ImageDraw.Draw(picture).multiline_text(place, lines, fill=255, font=font)
    return np.asarray(picture)


def altered(image: np.ndarray, seed: int) -> np.ndarray:
    """Return the same picture as another archive would hold it: resized, recompressed, with another contrast."""
    chooser = random.Random(seed)
    factor = chooser.uniform(0.5, 1.5)
    picture = Image.fromarray(image).resize((round(image.shape[1] * factor), round(image.shape[0] * factor)))
    values = 255 * (np.asarray(picture) / 255) ** chooser.uniform(0.8, 1.25)
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(file, "JPEG", quality=chooser.randint(50, 95))
    return np.asarray(Image.open(file))


def quarter_turned(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image))


def set_thresholds(train: dict[str, list[np.ndarray]]) -> dict[str, object]:
    """Make the template and choose thresholds: one real picture in 500 is refused, one in 100 is marked."""
    mean = np.mean(
        [np.mean([quality.coarse_shape(i) for i in images], axis=0) for images in train.values()], axis=0
    )
    mean /= np.linalg.norm(mean)
    everything = [image for images in train.values() for image in images]
    likeness = np.array([(quality.coarse_shape(image) * mean).sum() for image in everything])
    strokes = np.array([quality.measure(image).strokes for image in everything])
    return {
        "mean": np.round(mean, 4).tolist(),
        "inverted_below": round(float(min(np.quantile(likeness, 0.002), -np.quantile(likeness, 0.02))), 3),
        "frontal_above": round(float(np.quantile(likeness, 0.002)), 3),
        "strokes_above": round(float(np.quantile(strokes, 0.99)), 2),
    }


def share(images: list[np.ndarray], test) -> float:
    return float(np.mean([bool(test(quality.measure(image))) for image in images]))


def report(pack: Path) -> dict[str, object]:
    """Measure on the valid part: false alarms by source, and what is caught of each kind of damage."""
    limits = quality.load_template()
    valid = load(pack, "valid")
    everything = [image for images in valid.values() for image in images]
    inverted = lambda q: q.likeness < limits["inverted_below"]  # noqa: E731
    other = lambda q: q.likeness < limits["frontal_above"]  # noqa: E731
    text = lambda q: q.strokes > limits["strokes_above"]  # noqa: E731
    numbers: dict[str, object] = {
        "limits": {name: float(limits[name]) for name in limits if name != "mean"},
        "false alarms by source (inverted, not frontal, text), n": {
            source: [round(share(images, t), 4) for t in (inverted, other, text)] + [len(images)]
            for source, images in valid.items()
        },
        "caught inverted": share([255 - image for image in everything], inverted),
        "caught turned by a quarter (as inverted or not frontal)": share(
            [quarter_turned(i) for i in everything], other
        ),
        "caught upside down": share([np.ascontiguousarray(i[::-1]) for i in everything], other),
        "caught burned-in text": share([with_text(image, k) for k, image in enumerate(everything)], text),
        "spread, 0.1 % quantile": float(np.quantile([quality.measure(i).spread for i in everything], 0.001)),
        "white, largest": max(quality.measure(i).white for i in everything),
        "black, largest": max(quality.measure(i).black for i in everything),
        "aspect, largest": max(max(i.shape) / min(i.shape) for i in everything),
        "n": len(everything),
    }
    leg = pack / "dicom" / "wg04_RG3_cr_leg_NOT_CHEST_j2k.dcm"
    if leg.exists():
        numbers["a leg, likeness"] = quality.measure(read_image(leg)).likeness
    hashes = np.frombuffer(b"".join(map(picture_hash, everything)), np.uint8).reshape(-1, 32)
    copies = [picture_hash(altered(image, k)) for k, image in enumerate(everything)]
    distances = np.bitwise_count(hashes ^ np.frombuffer(b"".join(copies), np.uint8).reshape(-1, 32)).sum(
        axis=1
    )
    numbers["altered copies, share within 4, 8, 12, 16 bits"] = [
        float((distances <= d).mean()) for d in (4, 8, 12, 16)
    ]
    numbers["pairs of different files within 4, 8, 12, 16, 24 bits"] = [
        sum(1 for _ in near_pairs(hashes, d)) for d in (4, 8, 12, 16, 24)
    ]
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.write:
        limits = set_thresholds(load(arguments.pack, "train"))
        head = "# The mean frontal chest and its thresholds; benchmarks/cleaning_thresholds.py writes this file.\n"
        write_text(
            TEMPLATE, head + "".join(f"{name} = {json.dumps(value)}\n" for name, value in limits.items())
        )
        quality.load_template.cache_clear()
    numbers = {"python": platform.python_version(), "numpy": np.__version__, **report(arguments.pack)}
    day = datetime.datetime.now(datetime.UTC).date()
    write_text(
        ROOT / "benchmarks" / "results" / f"{day}_cleaning_thresholds.json",
        json.dumps(numbers, indent=1) + "\n",
    )
    print(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
