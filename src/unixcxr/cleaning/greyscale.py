"""The grey-scale pipeline of DICOM (PS3.3 C.11, PS3.14): stored values to what a viewer shows, uint8 (H, W).

    stored → Modality LUT or rescale → VOI LUT or window → inversion → levels, padding shown as air

Written out because every step has a trap (see docs/input.md); pydicom decodes the pixels.
"""

from __future__ import annotations

import copy
import math
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)

from unixcxr.cleaning.pictures import DAMAGE, TAIL_PERCENT, from_array, full_scale, reason, sample, to_uint8
from unixcxr.errors import DicomError

JPEG_FRAME_MARKERS = {0xFFC0, 0xFFC1, 0xFFC2, 0xFFC3, 0xFFF7}
"""Baseline, extended, progressive and lossless JPEG, and JPEG-LS."""

JPEG_START_OF_SCAN = 0xFFDA
PILLOW_SYNTAXES = (JPEGBaseline8Bit, JPEGExtended12Bit)
"""What Pillow decodes as well as gdcm, and safely: see `_check_stream`."""

Mapping = Callable[[np.ndarray], np.ndarray]


def show_dataset(dataset: Dataset, max_pixels: int) -> tuple[np.ndarray, bool]:
    """Decode and show a single-frame dataset: uint8 (H, W), bright on dark, and whether it had colours.

    Raises DicomError when the pixels cannot be decoded or a grey-scale setting makes no sense.
    """
    dataset = _with_transfer_syntax(dataset)
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    try:
        if syntax.is_encapsulated:
            _check_stream(dataset)
        stored = pixel_array(dataset, decoding_plugin="pillow" if syntax in PILLOW_SYNTAXES else "")
    except DAMAGE as error:
        what = f"its pixel data cannot be decoded ({uid_name(syntax)}): {reason(error)}"
        raise DicomError(f"{what}; get a fresh or uncompressed copy") from None
    try:
        if stored.ndim == 3:
            return from_array(stored, max_pixels)
        return _show_grey(dataset, stored), False
    except DAMAGE as error:
        raise DicomError(f"a grey-scale setting cannot be used: {reason(error)}") from None


def uid_name(uid: str) -> str:
    """Return a UID's name in the standard; what the registry does not know is not repeated in messages."""
    name = UID(uid).name
    return "unknown" if name == uid else name


def window_linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Apply a LINEAR window, 0..1 (PS3.3 C.11.2.1.2.1); a forbidden width below 1 is LINEAR_EXACT."""
    if width < 1:
        return window_linear_exact(values, center, width)
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def window_linear_exact(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Apply a LINEAR_EXACT window, 0..1 (PS3.3 C.11.2.1.3.2)."""
    return np.clip((values - center) / width + 0.5, 0, 1)


def window_sigmoid(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Apply a SIGMOID window, 0..1 (PS3.3 C.11.2.1.3.1)."""
    return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))


WINDOWS = {"LINEAR": window_linear, "LINEAR_EXACT": window_linear_exact, "SIGMOID": window_sigmoid}


class StreamHead(NamedTuple):
    """What the head of a compressed picture says about it."""

    width: int
    height: int
    components: int
    bits: int


def stream_head(stream: bytes) -> StreamHead | None:
    """Read the head of a JPEG, JPEG-LS or JPEG 2000 stream; None for others.

    Raises DicomError when a JPEG's chain of markers breaks before its first scan.
    """
    if stream[:4] == b"\xff\x4f\xff\x51":
        right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
        components, depth = struct.unpack_from(">HB", stream, 40)
        return StreamHead(right - left, bottom - top, components, (depth & 0x7F) + 1)
    if stream[:2] != b"\xff\xd8":
        return None
    position, head = 2, None
    while position + 10 <= len(stream):
        marker, length = struct.unpack_from(">HH", stream, position)
        if marker in JPEG_FRAME_MARKERS:
            bits, height, width, components = struct.unpack_from(">BHHB", stream, position + 4)
            head = StreamHead(width, height, components, bits)
        if head and marker == JPEG_START_OF_SCAN:
            return head
        if marker <= 0xFF00 or length < 2:
            break
        position += 2 + length
    raise DicomError("its compressed picture is damaged; get a fresh copy")


def _check_stream(dataset: Dataset) -> None:
    """Refuse a compressed picture whose head contradicts the header.

    Decoders believe the stream: they allocate what it asks for, and gdcm (seen with 3.2.6) may end the whole
    process over a broken one.
    """
    head = stream_head(get_frame(dataset.PixelData, 0, number_of_frames=1))
    stated = StreamHead(dataset.Columns, dataset.Rows, dataset.SamplesPerPixel, dataset.BitsAllocated)
    if head is not None and (head[:3] != stated[:3] or not 1 < head.bits <= stated.bits):
        raise DicomError(f"the header says {_plain(stated)} but its compressed picture {_plain(head)}")


def _plain(head: StreamHead) -> str:
    return f"{head.width} x {head.height} x {head.components} of {head.bits} bits"


def _show_grey(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    padding = _padding_mask(dataset, stored)
    shown = stored if padding is None else stored[~padding]
    if shown.size == 0:
        return np.zeros(stored.shape, np.uint8)
    modality = _modality(dataset)
    brightness = _voi(dataset, modality(sample(shown).astype(np.float64)))
    inverted = _is_inverted(dataset)

    def levels(values: np.ndarray) -> np.ndarray:
        bright = brightness(modality(values.astype(np.float64)))
        return to_uint8(1 - bright if inverted else bright)

    image = _by_table(stored, levels)
    if padding is not None:
        image[padding] = 0
    return image


def _by_table(stored: np.ndarray, levels: Mapping) -> np.ndarray:
    """Apply a mapping to every pixel, by a table of the values that occur where that is shorter."""
    low, high = int(stored.min()), int(stored.max())
    if high - low >= min(2**16, stored.size):
        return levels(stored)
    return levels(np.arange(low, high + 1))[stored.astype(np.int64) - low]


def _is_inverted(dataset: Dataset) -> bool:
    """Say whether low values are white; MONOCHROME1 and a presentation shape INVERSE say it twice."""
    shape = dataset.get("PresentationLUTShape")
    return dataset.PhotometricInterpretation == "MONOCHROME1" or shape == "INVERSE"


def _padding_mask(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Mark pixels outside the picture (PS3.3 C.7.5.1.1.2): one stored value, or a range to its limit."""
    value = _number(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _number(dataset, "PixelPaddingRangeLimit")
    ends = [_as_stored(end, stored.dtype) for end in (value, value if limit is None else limit)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _as_stored(value: float, dtype: np.dtype) -> int:
    """Reread a value whose sign the header got wrong (US for signed pixels, or SS for unsigned)."""
    span = 2 ** (8 * dtype.itemsize)
    whole = int(value) % span
    return whole - span if dtype.kind == "i" and whole >= span // 2 else whole


def _modality(dataset: Dataset) -> Mapping:
    """Return the mapping of stored values to modality units: a LUT, a slope and intercept, or nothing."""
    if dataset.get("ModalityLUTSequence"):
        table, first = _lut(dataset, dataset.ModalityLUTSequence[0])
        return lambda values: _look_up(values, table, first)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if slope == 0:
        raise DicomError("the rescale slope is 0, which maps every pixel to one value")
    return lambda values: values * (1.0 if slope is None else slope) + (intercept or 0.0)


def _modality_is_identity(dataset: Dataset) -> bool:
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    return not dataset.get("ModalityLUTSequence") and slope in (None, 1.0) and not intercept


def _voi(dataset: Dataset, shown: np.ndarray) -> Mapping:
    """Return the mapping of modality units to brightness 0..1: the first VOI LUT or window of the header.

    Without either, plain 8-bit values are brightness already, and others run over the percentiles of `shown`,
    the modality values inside the picture.
    """
    if dataset.get("VOILUTSequence"):
        table, first = _lut(dataset, dataset.VOILUTSequence[0])
        scale = full_scale(table)
        return lambda values: _look_up(values, table, first) / scale
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if center is not None and width is not None and width > 0:
        function = str(dataset.get("VOILUTFunction") or "LINEAR")
        if function not in WINDOWS:
            known = ", ".join(WINDOWS)
            raise DicomError(f"unknown VOI LUT function {function[:20]!r}; expected one of {known}")
        return lambda values: WINDOWS[function](values, center, width)
    if dataset.BitsStored <= 8 and _modality_is_identity(dataset):
        return lambda values: values / (2.0**dataset.BitsStored - 1)
    low, high = np.percentile(shown, [TAIL_PERCENT, 100 - TAIL_PERCENT])
    return lambda values: (values - low) / (high - low if high > low else 1.0)


def _lut(dataset: Dataset, item: Dataset) -> tuple[np.ndarray, int]:
    """Return a LUT's entries and the value that maps to the first (PS3.3 C.11.1.1)."""
    entries, first, _ = (int(number) for number in item.LUTDescriptor)
    entries = entries or 2**16
    if dataset.PixelRepresentation == 1 and first >= 2**15:
        first -= 2**16
    data = item["LUTData"].value
    if isinstance(data, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        data = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * entries else "u1")
    table = np.asarray(data, dtype=np.float64).ravel()[:entries]
    if table.size == 0:
        raise DicomError("a lookup table is empty")
    return table, first


def _look_up(values: np.ndarray, table: np.ndarray, first: int) -> np.ndarray:
    """Map values through a table; those before the first or after the last entry take that entry."""
    return table[np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)]


def _number(dataset: Dataset, keyword: str) -> float | None:
    """Return the first finite number of an element; None when it is absent or empty."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    if not isinstance(value, (int, float, str)):
        if len(value) == 0:
            return None
        value = value[0]
    number = float(value)
    return number if math.isfinite(number) else None


def _with_transfer_syntax(dataset: Dataset) -> Dataset:
    """Return the dataset, or a copy that names the plain encoding which a missing file header stands for."""
    if "TransferSyntaxUID" in getattr(dataset, "file_meta", {}):
        return dataset
    is_implicit, is_little = dataset.original_encoding
    named = copy.copy(dataset)
    named.file_meta = FileMetaDataset()
    if is_little is False:
        named.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    else:
        named.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    return named
