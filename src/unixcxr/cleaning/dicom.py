"""Read one grey picture from whatever a hospital or a user has: DICOM, PNG, JPEG, TIFF, PIL images, arrays.

The answer is always uint8 (H, W), bright bone on dark air. Resizing is in `data.transforms`; whether the
picture is a chest at all is for `data.gate`. Nothing here keeps a patient identifier.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from unixcxr.cleaning.greyscale import show_dataset, uid_name
from unixcxr.cleaning.pictures import DAMAGE, check_size, from_array, from_file, from_picture, reason
from unixcxr.errors import DicomError, ImageReadError, InputError

log = logging.getLogger(__name__)

MAX_PIXELS = 80_000_000
"""Larger pictures are refused before they are decoded; the largest film digitisers give about 30 million."""

MAX_UNPACKED_BYTES = 8 * MAX_PIXELS

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
CHEST_WORDS = ("CHEST", "THORAX", "THORAC", "TORAX", "TORACE", "TORACIC", "LUNG", "PULMO", "POUMON")

ImageSource = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray | Dataset


@dataclass(frozen=True)
class DicomFacts:
    """What a DICOM header says about the picture, without anything that names a person.

    `is_chest` is a guess from body part and descriptions: None when the header says nothing about either.
    """

    modality: str
    body_part: str
    view_position: str
    photometric_interpretation: str
    rows: int
    columns: int
    is_chest: bool | None


@dataclass(frozen=True)
class SourceImage:
    """One picture as read: uint8 (H, W), the header's facts if it was DICOM, and whether it had colours."""

    image: np.ndarray
    facts: DicomFacts | None = None
    is_colour: bool = False


def read_image(source: ImageSource, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a picture as uint8 (H, W), bright bone on dark air whatever the file says.

    `source` is a path, the bytes or an open binary file of one, a PIL image, a pydicom Dataset, or an array
    (H, W) or (H, W, 3 or 4) of unsigned integers or floats; docs/input.md says how each is mapped.
    Raises ImageReadError or DicomError, one line that names the source.
    """
    return read_source(source, max_pixels).image


def read_source(source: ImageSource, max_pixels: int = MAX_PIXELS) -> SourceImage:
    """Read a picture like `read_image`, with what the input gate also wants to know."""
    with _named(source):
        if isinstance(source, np.ndarray):
            image, is_colour = from_array(source, max_pixels)
        elif isinstance(source, Image.Image):
            image, is_colour = from_picture(source, max_pixels)
        elif isinstance(source, Dataset):
            _check_header(source, max_pixels)
            return _show(source, max_pixels)
        else:
            with _opened(source) as file:
                if _is_dicom(file):
                    _check_header(_read_header(file), max_pixels)
                    return _show(_read_file(file), max_pixels)
                image, is_colour = from_file(file, max_pixels)
    return SourceImage(image, None, is_colour)


def read_dicom_facts(source: ImageSource) -> DicomFacts | None:
    """Read what the header of a DICOM file or Dataset says; None when the source is not DICOM.

    Raises ImageReadError or DicomError when the file cannot be opened or its header is damaged.
    """
    if isinstance(source, (Image.Image, np.ndarray)):
        return None
    with _named(source):
        if isinstance(source, Dataset):
            return _facts(source)
        with _opened(source) as file:
            return _facts(_read_header(file)) if _is_dicom(file) else None


@contextmanager
def _named(source: object) -> Iterator[None]:
    """Put the source's name before the message of an input error, and keep foreign warnings to ourselves."""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
    else:
        named = getattr(source, "filename", None) or getattr(source, "name", None)
        name = named if isinstance(named, str) and named else f"<{type(source).__name__}>"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", module=r"(pydicom|PIL)\.")
            yield
    except InputError as error:
        raise type(error)(f"{name}: {error}") from None


@contextmanager
def _opened(source: Any) -> Iterator[IO[bytes]]:
    """Open a path, or wrap bytes or a binary file, as a file that can be rewound."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        log.debug("reading %s", path)
        try:
            if path.is_dir():
                raise ImageReadError("is a directory; expected an image file")
            if path.exists() and not path.is_file():
                raise ImageReadError("is not a regular file; expected an image file")
            file: IO[bytes] = path.open("rb")
        except FileNotFoundError:
            raise ImageReadError("no such file; check the path") from None
        except PermissionError:
            raise ImageReadError("permission denied; make the file readable") from None
        except (OSError, ValueError) as error:
            raise ImageReadError(f"cannot be opened ({reason(error)})") from None
    else:
        data = source.read() if hasattr(source, "read") else source
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ImageReadError("expected a path, bytes, binary file, PIL image, array or pydicom Dataset")
        file = io.BytesIO(data)
    with file:
        if not file.read(1):
            raise ImageReadError("is empty (0 bytes); expected an image file")
        file.seek(0)
        yield file


def _is_dicom(file: IO[bytes]) -> bool:
    """Tell DICOM by its marker after the preamble or, without one, by a header that names an object."""
    head = file.read(132)
    file.seek(0)
    if head[128:] == b"DICM":
        return True
    if head[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08"):
        return False
    try:
        header = _read_header(file)
    except DicomError:
        return False
    return "SOPClassUID" in header or ("Rows" in header and "Columns" in header)


def _read_header(file: IO[bytes]) -> Dataset:
    """Read everything before the pixels, and rewind."""
    return _parse(file, stop_before_pixels=True)


def _read_file(file: IO[bytes]) -> Dataset:
    """Read the whole object, and rewind."""
    return _parse(file, stop_before_pixels=False)


def _parse(file: IO[bytes], stop_before_pixels: bool) -> Dataset:
    _check_deflated(file)
    try:
        return pydicom.dcmread(file, stop_before_pixels=stop_before_pixels, force=True)
    except DAMAGE as error:
        raise DicomError(f"damaged DICOM file ({reason(error)}); get a fresh copy") from None
    finally:
        file.seek(0)


def _check_deflated(file: IO[bytes]) -> None:
    """Refuse a deflated dataset that unpacks to more than any picture needs: pydicom knows no limit."""
    head = file.read(1024)
    if DeflatedExplicitVRLittleEndian.encode() not in head:
        file.seek(0)
        return
    unpacked = 0
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        (header_length,) = struct.unpack_from("<I", head, 140)
        file.seek(144 + header_length)
        for chunk in iter(lambda: file.read(1 << 16), b""):
            unpacked += len(inflater.decompress(chunk))
            if unpacked > MAX_UNPACKED_BYTES:
                raise DicomError(f"unpacks to more than {MAX_UNPACKED_BYTES:,} bytes; expected one picture")
    except (zlib.error, struct.error) as error:
        raise DicomError(f"damaged DICOM file ({reason(error)}); get a fresh copy") from None
    finally:
        file.seek(0)


def _show(dataset: Dataset, max_pixels: int) -> SourceImage:
    if "PixelData" not in dataset:
        raise DicomError("has no pixel data, or is cut short within; get a fresh copy")
    image, is_colour = show_dataset(dataset, max_pixels)
    return SourceImage(image, _facts(dataset), is_colour)


def _check_header(header: Dataset, max_pixels: int) -> None:
    """Refuse, before any pixel is decoded, what is not one picture of a size and kind that can be shown."""
    try:
        rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
        frames = int(header.get("NumberOfFrames") or 1)
        photometric = str(header.get("PhotometricInterpretation") or "missing")
        kind = uid_name(str(header.get("SOPClassUID") or ""))
    except DAMAGE as error:
        raise DicomError(f"damaged DICOM header ({reason(error)}); get a fresh copy") from None
    if "Rows" not in header or "Columns" not in header:
        raise DicomError(f"holds no picture (its kind: {kind}) or is cut short; expected a radiograph")
    check_size(columns, rows, max_pixels)
    if frames > 1:
        raise DicomError(f"holds {frames} frames; expected one: export the frame you mean")
    if photometric not in GREY + COLOURS:
        known = ", ".join(GREY + COLOURS)
        raise DicomError(f"photometric interpretation {photometric[:20]!r}; expected one of {known}")


def _facts(header: Dataset) -> DicomFacts:
    def text(keyword: str) -> str:
        return " ".join(str(header.get(keyword) or "").upper().split())[:64]

    try:
        body_part = text("BodyPartExamined")
        described = [text(key) for key in ("StudyDescription", "SeriesDescription", "ProtocolName")]
        is_chest: bool | None = None
        if any(word in entry for word in CHEST_WORDS for entry in (body_part, *described)):
            is_chest = True
        elif body_part:
            is_chest = False
        return DicomFacts(
            modality=text("Modality"),
            body_part=body_part,
            view_position=text("ViewPosition"),
            photometric_interpretation=text("PhotometricInterpretation"),
            rows=int(header.get("Rows") or 0),
            columns=int(header.get("Columns") or 0),
            is_chest=is_chest,
        )
    except DAMAGE as error:
        raise DicomError(f"damaged DICOM header ({reason(error)}); get a fresh copy") from None
