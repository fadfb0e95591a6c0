"""Turn pictures that are not DICOM into grey levels: PIL images, arrays, and PNG, JPEG or TIFF files.

Without a window in the file, the scale must be told from the values: see `to_levels`. `cleaning.dicom` is the
door to this module; its messages lack the file's name, which the door puts before them.
"""

from __future__ import annotations

import struct
import zlib
from typing import IO

import numpy as np
from PIL import Image, ImageOps
from pydicom.errors import BytesLengthException, InvalidDicomError

from unixcxr.errors import ImageReadError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "JPEG2000", "WEBP", "GIF", "PPM")
BIT_DEPTHS = (8, 10, 12, 14, 16, 32)
TAIL_PERCENT = 0.1
"""How much of a picture may saturate at either end where no window is given: markers, dead pixels."""

COLOUR_SPREAD = 10.0
"""Levels of standard deviation in red - green or blue - green from which on a picture counts as coloured; an
even tint, such as that of a bluish film, stays below."""

TIFF_PHOTOMETRIC = 262
TIFF_WHITE_IS_ZERO = 0

# What Pillow, pydicom and gdcm raise on damaged files, found by flipping bytes of every kind of file.
DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    InvalidDicomError,
    BytesLengthException,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def from_file(file: IO[bytes], max_pixels: int) -> tuple[np.ndarray, bool]:
    """Decode an open picture file to uint8 (H, W) and whether it had colours."""
    try:
        picture = Image.open(file, formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise ImageReadError(
            f"not an image that can be read; expected DICOM or one of {', '.join(FORMATS)}"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageReadError(f"too many pixels; expected at most {max_pixels:,}") from None
    except DAMAGE as error:
        raise ImageReadError(f"damaged image ({reason(error)}); get a fresh copy") from None
    with picture:
        return from_picture(picture, max_pixels)


def from_picture(picture: Image.Image, max_pixels: int) -> tuple[np.ndarray, bool]:
    """Turn a PIL image of any mode into uint8 (H, W) and whether it had colours; transparency is air."""
    check_size(picture.width, picture.height, max_pixels)
    try:
        frames = getattr(picture, "n_frames", 1)
        white_is_zero = getattr(picture, "tag_v2", {}).get(TIFF_PHOTOMETRIC) == TIFF_WHITE_IS_ZERO
        upright = ImageOps.exif_transpose(picture)
        upright.load()
    except DAMAGE as error:
        raise ImageReadError(f"truncated or damaged image ({reason(error)}); get a fresh copy") from None
    if frames > 1 and picture.format != "MPO":
        raise ImageReadError(f"found {frames} frames or pages; expected one: export the one you mean")
    if upright.mode in ("1", "L"):
        return np.asarray(upright.convert("L")), False
    if upright.mode.startswith(("I", "F")):
        levels = to_levels(np.asarray(upright))
        # Pillow inverts 8-bit pictures of this kind itself, deeper ones not.
        return (255 - levels if white_is_zero else levels), False
    try:
        return _from_colours(upright)
    except ValueError:
        raise ImageReadError(f"found a picture in mode {upright.mode}; expected grey or RGB") from None


def from_array(array: np.ndarray, max_pixels: int) -> tuple[np.ndarray, bool]:
    """Turn an array (H, W) or (H, W, 1, 3 or 4) into uint8 (H, W) and whether it had colours."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageReadError(
            f"found an array of shape {array.shape}; expected (H, W), (H, W, 3) or (H, W, 4)"
        )
    check_size(array.shape[1], array.shape[0], max_pixels)
    levels = to_levels(array)
    if array.ndim == 2:
        return levels, False
    return _from_colours(
        Image.fromarray(np.ascontiguousarray(levels), "RGB" if array.shape[2] == 3 else "RGBA")
    )


def to_levels(values: np.ndarray) -> np.ndarray:
    """Map numbers to uint8 of the same shape: uint8 as it is, others by what their values suggest.

    Floats up to 1 run from 0 to 1. Everything else runs from 0 to the full scale of its apparent bit depth
    (`full_scale`). Raises ImageReadError for NaN, infinite and negative values: they have no agreed meaning.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "uif":
        raise ImageReadError(f"found pixels of type {values.dtype}; expected unsigned integers or floats")
    low, high = values.min(), values.max()
    if not np.isfinite(low) or not np.isfinite(high):
        raise ImageReadError("found NaN or infinite pixels; replace them before reading")
    if low < 0:
        raise ImageReadError(f"found pixels from {low:g} to {high:g}; expected none below 0: rescale to 0..1")
    scale = 1.0 if values.dtype.kind == "f" and high <= 1 else full_scale(values)
    return to_uint8(values / scale)


def to_uint8(brightness: np.ndarray) -> np.ndarray:
    """Round brightness 0..1 to 0..255, clipping what lies outside."""
    return (np.clip(brightness, 0, 1) * 255 + 0.5).astype(np.uint8)


def full_scale(values: np.ndarray) -> float:
    """Return 2^n - 1 for the smallest usual bit depth n that holds the values but for the brightest 0.1 %."""
    top = float(np.percentile(sample(values), 100 - TAIL_PERCENT, method="lower"))
    return next((2.0**bits - 1 for bits in BIT_DEPTHS if top < 2**bits), top)


def sample(values: np.ndarray) -> np.ndarray:
    """Return every k-th value of a large array, about a million, for percentiles."""
    flat = values.ravel()
    return flat[:: max(1, flat.size // 1_000_003)]


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse pictures without pixels, and those too large to decode safely."""
    if width == 0 or height == 0:
        raise ImageReadError(f"found {width} x {height} pixels; expected at least one")
    if width * height > max_pixels:
        raise ImageReadError(f"too many pixels ({width} x {height}); expected at most {max_pixels:,}")


def reason(error: BaseException) -> str:
    """Return the telling line of a foreign error's message, or its kind when it has none.

    pydicom lists what each decoder said on lines of their own; the first of those tells most.
    """
    printable = "".join(sign if " " <= sign <= "~" else " " for sign in str(error).replace("\n", "~~"))
    lines = [" ".join(line.split()) for line in printable.split("~~") if line.strip()] or [""]
    telling = lines[min(1, len(lines) - 1)].partition(" - ")[0][:160]
    if "NoneType" in telling:  # gdcm hands back nothing where it fails, and pydicom trips over it
        return "the decoder gave nothing"
    return telling or type(error).__name__


def is_coloured(colours: np.ndarray) -> bool:
    """Say whether an RGB array (H, W, 3) shows hues rather than one tint of grey."""
    step = max(1, max(colours.shape[:2]) // 256)
    red, green, blue = np.moveaxis(colours[::step, ::step].astype(np.int16), -1, 0)
    return bool(max((red - green).std(), (blue - green).std()) > COLOUR_SPREAD)


def _from_colours(picture: Image.Image) -> tuple[np.ndarray, bool]:
    if picture.has_transparency_data:
        on_air = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        on_air.alpha_composite(picture.convert("RGBA"))
        picture = on_air
    colours = picture.convert("RGB")
    return np.asarray(colours.convert("L")), is_coloured(np.asarray(colours))
