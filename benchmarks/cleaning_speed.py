"""Measure what cleaning does in a second on one core, and work out MIMIC-CXR from it.

    python benchmarks/cleaning_speed.py [--reports REPORTS.jsonl.gz] [--films FOLDER] [--number 48]

Pictures are phantoms of the size of a real film (2544 x 3056, 12 bit in DICOM); --films takes real JPEG or PNG files,
--reports real reports (rows with findings, impression, indication). Everything runs in this one process.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from unixcxr.atomic import write_text
from unixcxr.cleaning.dicom import read_image
from unixcxr.cleaning.duplicates import near_pairs, picture_hash
from unixcxr.cleaning.quality import measure
from unixcxr.cleaning.rewrite import RulesRewriter
from unixcxr.cleaning.sources.dicom_header import read_header
from unixcxr.cleaning.sources.found import sections
from unixcxr.cleaning.work import PNG_LEVEL, encode_png
from unixcxr.config.cleaning import OutputConfig
from unixcxr.labels import label_report
from unixcxr.phantom import sample_phantom

ROOT = Path(__file__).resolve().parents[1]
FILM_PX = (3056, 2544)
MIMIC_IMAGES, MIMIC_STUDIES = 377_110, 227_835
CORES = (2, 16, 64)


def write_films(folder: Path, number: int) -> dict[str, list[Path]]:
    """Write phantoms at the size of a film: as DICOM (12 of 16 bits, uncompressed), JPEG and PNG."""
    paths: dict[str, list[Path]] = {"dicom": [], "jpg": [], "png": []}
    noise = np.random.default_rng(0)
    for seed in range(number):
        small = Image.fromarray(sample_phantom(seed % 8, size_px=512).image)
        film = np.asarray(small.resize((FILM_PX[1], FILM_PX[0]), Image.Resampling.BICUBIC)).astype(np.int16)
        film = np.clip(film + noise.normal(0, 3, film.shape), 0, 255)
        for kind in ("jpg", "png"):
            paths[kind].append(folder / f"{seed}.{kind}")
            Image.fromarray(film.astype(np.uint8)).save(paths[kind][-1], quality=95)
        paths["dicom"].append(folder / f"{seed}.dcm")
        write_dicom(paths["dicom"][-1], (film * 16).astype(np.uint16))
    return paths


def write_dicom(path: Path, values: np.ndarray) -> None:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{path.stem}"
    data.Modality, data.Rows, data.Columns, data.ViewPosition = "CR", *values.shape, "PA"
    data.PatientID, data.StudyInstanceUID = path.stem, f"1.2.4.{path.stem}"
    data.PhotometricInterpretation, data.SamplesPerPixel, data.PixelRepresentation = "MONOCHROME2", 1, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelData = values.tobytes()
    data.save_as(path, enforce_file_format=True)


def per_second(work: Callable[[object], object], items: Iterable[object]) -> float:
    """Return how many items a second of this process's own time `work` does, after one to warm up."""
    items = list(items)
    work(items[0])
    started = time.process_time()
    for item in items:
        work(item)
    return len(items) / (time.process_time() - started)


def clean_film(path: object) -> bytes:
    """Do everything that a worker does with one picture."""
    image = read_image(path)  # type: ignore[arg-type]
    measure(image)
    picture_hash(image)
    return encode_png(image, OutputConfig())


def compare_levels(image: np.ndarray) -> list[float]:
    """Return how much longer and how much smaller zlib's level 6 is than the level that shards use."""
    small = Image.open(io.BytesIO(encode_png(image, OutputConfig())))
    times, sizes = [], []
    for level in (PNG_LEVEL, 6):
        started = time.process_time()
        for _ in range(10):
            file = io.BytesIO()
            small.save(file, "PNG", compress_level=level)
        times.append(time.process_time() - started)
        sizes.append(len(file.getvalue()))
    return [round(times[1] / times[0], 2), round(sizes[1] / sizes[0], 3)]


def read_reports(path: Path | None, number: int) -> list[str]:
    if path is None:
        return [sample_phantom(seed, size_px=64).report for seed in range(number)]
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    reports = [
        sections(**{name: row.get(name) or "" for name in ("indication", "findings", "impression")})
        for row in rows
    ]
    return [report for report in reports if report][:number]


def hours(seconds_of_core: float) -> dict[str, float]:
    return {f"{cores} cores": round(seconds_of_core / cores / 3600, 2) for cores in CORES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=Path)
    parser.add_argument("--films", type=Path)
    parser.add_argument("--number", type=int, default=24)
    arguments = parser.parse_args()
    numbers: dict[str, object] = {
        "device": platform.machine(),
        "cores of this machine": os.cpu_count(),
        "python": platform.python_version(),
        "film": f"{FILM_PX[1]} x {FILM_PX[0]}",
    }
    reports = read_reports(arguments.reports, 600)
    numbers["reports"] = "phantom" if arguments.reports is None else arguments.reports.name
    rewriter = RulesRewriter()
    rate_text = per_second(lambda text: rewriter.rewrite("", str(text)), reports)
    rate_label = per_second(lambda text: label_report(str(text)), reports)
    numbers["reports rewritten and judged a second"] = round(rate_text, 1)
    numbers["reports labelled a second"] = round(rate_label, 1)
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        films = write_films(Path(folder), arguments.number)
        if arguments.films:
            films["given"] = sorted(p for p in arguments.films.iterdir() if p.suffix in (".png", ".jpg"))[
                :200
            ]
        for kind, paths in films.items():
            rates[kind] = per_second(clean_film, paths)
            numbers[f"{kind}: images a second, all steps"] = round(rates[kind], 2)
        numbers["dicom: headers a second"] = round(
            per_second(lambda path: read_header(path), films["dicom"]), 1
        )  # type: ignore[arg-type]
        image = read_image(films["png"][0])
        numbers["png: read alone"] = round(per_second(read_image, films["png"]), 2)  # type: ignore[arg-type]
        numbers["dicom: read alone"] = round(per_second(read_image, films["dicom"]), 2)  # type: ignore[arg-type]
        numbers["measure alone"] = round(per_second(lambda _: measure(image), range(10)), 2)
        numbers["hash alone"] = round(per_second(lambda _: picture_hash(image), range(10)), 2)
        numbers["encode alone"] = round(per_second(lambda _: encode_png(image, OutputConfig()), range(10)), 2)
        numbers["PNG level 4 against 6: time, bytes"] = compare_levels(image)
        numbers["bytes of a 512 px picture in a shard"] = len(encode_png(image, OutputConfig()))
    hashes = np.random.default_rng(0).integers(0, 256, (100_000, 32), dtype=np.uint8)
    started = time.process_time()
    list(near_pairs(hashes, 8))
    numbers["duplicates among 100,000 random hashes, s"] = round(time.process_time() - started, 2)
    text = MIMIC_STUDIES * (1 / rate_text + 2 / rate_label)
    numbers["MIMIC-CXR, hours"] = {
        kind: hours(text + MIMIC_IMAGES / rates[name])
        for kind, name in (("every image, JPEG", "jpg"), ("every image, DICOM", "dicom"))
    }
    numbers["MIMIC-CXR, hours, text alone"] = hours(text)
    day = datetime.datetime.now(datetime.UTC).date()
    target = (
        ROOT
        / "benchmarks"
        / "results"
        / f"{day}_{platform.machine()}-{os.cpu_count()}cpu_cleaning_speed.json"
    )
    write_text(target, json.dumps(numbers, indent=1) + "\n")
    print(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
