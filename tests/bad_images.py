"""Bad images: how to make each file, and what the one line that refuses it must say.

Also makes good DICOM files: `make_dataset` gives the smallest valid radiograph with the pixels and elements asked.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    RLELossless,
)

RAMP = (np.arange(40 * 50).reshape(40, 50) * 2).astype(np.uint16)


@dataclass(frozen=True)
class BadImage:
    """One bad input: `make` writes it into a folder and returns its path; `says` stands in the message."""

    name: str
    make: Callable[[Path], Path]
    says: str


def make_dataset(pixels: np.ndarray | None, **elements: Any) -> Dataset:
    """Return an uncompressed CR dataset with these pixels (H, W) or (H, W, 3), and further elements by keyword."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = "1.2.3.4"
    if pixels is not None:
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
        dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
        if pixels.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def dicom_bytes(dataset: Dataset) -> bytes:
    """Return a dataset as the bytes of a DICOM file."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds next to nothing."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0")),
    ]
    body = b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def picture_bytes(kind: str, levels: np.ndarray = RAMP) -> bytes:
    """Return an array as the bytes of a PNG, JPEG, TIFF, …"""
    file = io.BytesIO()
    Image.fromarray(levels).save(file, kind)
    return file.getvalue()


def written(name: str, content: Callable[[], bytes]) -> Callable[[Path], Path]:
    """Return a maker that writes these bytes under this name."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content())
        return path

    return make


def cut(content: bytes, share: float) -> bytes:
    """Return the first part of some bytes."""
    return content[: int(len(content) * share)]


def noise() -> np.ndarray:
    """Return 80 x 80 levels that no format compresses, so that a cut falls into the pixels."""
    return np.random.default_rng(0).integers(0, 256, (80, 80)).astype(np.uint8)


def compressed() -> bytes:
    """Return an RLE compressed DICOM file."""
    dataset = make_dataset(noise())
    dataset.compress(RLELossless)
    return dicom_bytes(dataset)


def animation() -> bytes:
    """Return a GIF of two frames."""
    file = io.BytesIO()
    frames = [Image.fromarray(noise()), Image.fromarray(noise().T)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def folder_named(name: str) -> Callable[[Path], Path]:
    """Return a maker of an empty folder."""

    def make(folder: Path) -> Path:
        (folder / name).mkdir()
        return folder / name

    return make


BAD_IMAGES = (
    BadImage("missing file", lambda folder: folder / "missing.png", "no such file"),
    BadImage("folder", folder_named("folder.png"), "is a directory"),
    BadImage("empty file", written("empty.png", lambda: b""), "is empty (0 bytes)"),
    BadImage("text", written("words.png", lambda: b"these are words"), "not an image"),
    BadImage("zip", written("pack.dcm", lambda: b"PK\x03\x04" + bytes(300)), "not an image"),
    BadImage("cut PNG", written("cut.png", lambda: cut(picture_bytes("PNG", noise()), 0.5)), "damaged"),
    BadImage("cut JPEG", written("cut.jpg", lambda: cut(picture_bytes("JPEG", noise()), 0.5)), "truncated"),
    BadImage("cut TIFF", written("cut.tif", lambda: cut(picture_bytes("TIFF", noise()), 0.5)), "damaged"),
    BadImage("head of a PNG", written("head.png", lambda: picture_bytes("PNG")[:20]), "damaged"),
    BadImage("large PNG bomb", written("bomb.png", lambda: png_header(60_000, 60_000)), "too many pixels"),
    BadImage("small PNG bomb", written("bombs.png", lambda: png_header(10_000, 9_500)), "too many pixels"),
    BadImage("two frames", written("two.gif", animation), "2 frames or pages"),
    BadImage(
        "NaN",
        written("nan.tif", lambda: picture_bytes("TIFF", np.full((9, 9), np.nan, np.float32))),
        "found NaN",
    ),
    BadImage(
        "negative",
        written("minus.tif", lambda: picture_bytes("TIFF", np.full((9, 9), -1, np.float32))),
        "expected none below 0",
    ),
    BadImage("head of a DICOM", written("head.dcm", lambda: bytes(128) + b"DICM\2\0\0\0UL\4\0"), "cut short"),
    BadImage(
        "cut DICOM",
        written("cut.dcm", lambda: cut(dicom_bytes(make_dataset(RAMP)), 0.7)),
        "less than expected",
    ),
    BadImage("cut compressed DICOM", written("rle.dcm", lambda: cut(compressed(), 0.7)), "cut short"),
    BadImage(
        "DICOM bomb",
        written("bomb.dcm", lambda: dicom_bytes(make_dataset(RAMP, Rows=60_000, Columns=60_000))),
        "too many pixels",
    ),
    BadImage(
        "report",
        written("sr.dcm", lambda: dicom_bytes(make_dataset(None, SOPClassUID=BasicTextSRStorage))),
        "holds no picture (its kind: Basic Text SR Storage)",
    ),
    BadImage(
        "PDF in DICOM",
        written("pdf.dcm", lambda: dicom_bytes(make_dataset(None, SOPClassUID=EncapsulatedPDFStorage))),
        "holds no picture (its kind: Encapsulated PDF Storage)",
    ),
    BadImage(
        "many frames",
        written("cine.dcm", lambda: dicom_bytes(make_dataset(RAMP, NumberOfFrames=7))),
        "holds 7 frames",
    ),
    BadImage(
        "palette DICOM",
        written(
            "palette.dcm", lambda: dicom_bytes(make_dataset(RAMP, PhotometricInterpretation="PALETTE COLOR"))
        ),
        "photometric interpretation 'PALETTE COLOR'",
    ),
    BadImage(
        "slope 0",
        written("slope.dcm", lambda: dicom_bytes(make_dataset(RAMP, RescaleSlope=0, RescaleIntercept=0))),
        "rescale slope is 0",
    ),
)
