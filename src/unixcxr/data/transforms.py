"""Pictures to tensors and back: resizing by name, normalisation, and where the picture sits in the square.

    C channels, H height, W width

This room does not read files (see `cleaning.dicom`) and knows no model. Pre-processing has four names, kept
in a model's config:

    pad              ours: pad to a square with black (air), then one antialiased bicubic resize
    released         the released resize rules; for reading, a non-square picture is padded to a square first
    released_eval    the released evaluation: shrink to fit by LANCZOS, centre on white
    released_gradio  the released web demo: squash to the square by LANCZOS, whatever the shape
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from unixcxr.errors import ConfigError, ImageReadError

Preprocessing = Literal["pad", "released", "released_eval", "released_gradio"]
PREPROCESSING: tuple[str, ...] = get_args(Preprocessing)

SIGLIP_MEAN = 0.555895
SIGLIP_STD = 0.336385
RELEASED_MAX_PIXELS = 1_806_336
AIR = 0
PAPER = 255


@dataclass(frozen=True)
class Placement:
    """Where the original picture sits in the model's input: x_input = x * scale + offset, along each axis.

    All pairs are (vertical, horizontal); `size` and `offset` in pixels of the input, `original` in its own.
    """

    original: tuple[int, int]
    size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]

    def map_back(self, heat: Float[np.ndarray, "rows cols"]) -> Float[np.ndarray, "H W"]:
        """Stretch a map over the model's input (any grid) to the original picture, dropping the padding."""
        rows, cols = heat.shape
        step_y, step_x = rows / self.size[0], cols / self.size[1]
        top, left = self.offset[0] * step_y, self.offset[1] * step_x
        bottom = top + self.original[0] * self.scale[0] * step_y
        right = left + self.original[1] * self.scale[1] * step_x
        picture = Image.fromarray(np.ascontiguousarray(heat, dtype=np.float32), mode="F")
        box = (max(left, 0.0), max(top, 0.0), min(right, cols), min(bottom, rows))
        height, width = self.original
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))


def resized_size(
    width: int,
    height: int,
    max_px: int,
    min_px: int,
    stride: int,
    max_pixels: int = RELEASED_MAX_PIXELS,
    num_images: int = 1,
) -> tuple[int, int]:
    """Return the (width, height) that the released resize gives a picture.

    Sides become multiples of `stride`, rounded half to even as Python does. Kept as released: each of up to
    three steps rounds again, so the shape drifts, and the pixel limit scales the sides by a ratio of areas.
    """

    def scaled(sides: tuple[int, int], factor: float) -> tuple[int, int]:
        whole = (round(sides[0] * factor), round(sides[1] * factor))
        return max(stride, round(whole[0] / stride) * stride), max(stride, round(whole[1] / stride) * stride)

    factor = max(min(max_px / max(width, height), 1.0), min_px / min(width, height))
    sides = scaled((width, height), factor)
    if sides[0] * sides[1] > max_pixels / num_images:
        sides = scaled(sides, max_pixels / num_images / (sides[0] * sides[1]))
    if max(sides) > max_px:
        sides = scaled(sides, max_px / max(sides))
    return sides


def released_resize(
    image: UInt8[np.ndarray, "H W"], size_px: int, stride: int = 16
) -> UInt8[np.ndarray, "h w"]:
    """Resize as the released code does: one bicubic step to `resized_size`, the shape kept but for drift."""
    height, width = image.shape
    size = resized_size(width, height, size_px, size_px, stride)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def pad_to_square(image: UInt8[np.ndarray, "H W"], value: int = AIR) -> UInt8[np.ndarray, "S S"]:
    """Centre a picture on a square of its longer side, the rest filled with `value`."""
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side), value, dtype=np.uint8)
    square[top : top + height, left : left + width] = image
    return square


def letterbox(image: UInt8[np.ndarray, "H W"], size_px: int) -> UInt8[np.ndarray, "S S"]:
    """Shrink (never enlarge) a picture to fit by LANCZOS and centre it on white: the released evaluation."""
    # With an alpha channel, as the released code has it: some Pillow versions resize those in one step and
    # pictures without alpha in two.
    picture = Image.fromarray(image).convert("LA")
    picture.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
    canvas = Image.new("L", (size_px, size_px), PAPER)
    canvas.paste(picture.getchannel("L"), ((size_px - picture.width) // 2, (size_px - picture.height) // 2))
    return np.asarray(canvas)


def fit_image(
    image: UInt8[np.ndarray, "H W"], name: str, size_px: int, stride: int = 16
) -> UInt8[np.ndarray, "h w"]:
    """Bring a picture to the square that a model reads, by one of `PREPROCESSING`.

    The side is `size_px`; for `released` it is that rounded to a multiple of `stride`.
    """
    _check_image(image)
    if name == "pad":
        square = Image.fromarray(pad_to_square(image))
        return np.asarray(square.resize((size_px, size_px), Image.Resampling.BICUBIC))
    if name == "released":
        return released_resize(pad_to_square(image), size_px, stride)
    if name == "released_eval":
        return letterbox(image, size_px)
    if name == "released_gradio":
        return np.asarray(Image.fromarray(image).resize((size_px, size_px), Image.Resampling.LANCZOS))
    raise _unknown(name)


def place_image(height: int, width: int, name: str, size_px: int, stride: int = 16) -> Placement:
    """Say where `fit_image` puts a picture of this shape."""
    if name in ("pad", "released"):
        side = max(height, width)
        size = size_px if name == "pad" else resized_size(side, side, size_px, size_px, stride)[0]
        scale = size / side
        offset = (side - height) // 2 * scale, (side - width) // 2 * scale
        return Placement((height, width), (size, size), (scale, scale), offset)
    if name == "released_eval":
        shown_width, shown_height = _thumbnail_size(width, height, size_px)
        offset = float((size_px - shown_height) // 2), float((size_px - shown_width) // 2)
        return Placement(
            (height, width), (size_px, size_px), (shown_height / height, shown_width / width), offset
        )
    if name == "released_gradio":
        return Placement((height, width), (size_px, size_px), (size_px / height, size_px / width), (0.0, 0.0))
    raise _unknown(name)


def image_to_pixels(
    image: UInt8[np.ndarray, "H W"],
    name: str,
    size_px: int,
    mean: float = SIGLIP_MEAN,
    std: float = SIGLIP_STD,
    stride: int = 16,
    channels: int = 3,
) -> Float[Tensor, "C h w"]:
    """Turn a picture into what the vision tower reads: (grey / 255 - mean) / std in every channel."""
    return normalise(fit_image(image, name, size_px, stride), mean, std, channels)


def image_to_latent_input(
    image: UInt8[np.ndarray, "H W"], name: str, size_px: int, stride: int = 16, channels: int = 3
) -> Float[Tensor, "C h w"]:
    """Turn a picture into what the autoencoder encodes, in -1..1.

    `released` keeps the picture's shape here (the released code draws non-square pictures); every other name
    gives a square.
    """
    if name == "released":
        _check_image(image)
        return normalise(released_resize(image, size_px, stride), 0.5, 0.5, channels)
    return normalise(fit_image(image, name, size_px, stride), 0.5, 0.5, channels)


def normalise(
    image: UInt8[np.ndarray, "h w"], mean: float, std: float, channels: int = 3
) -> Float[Tensor, "C h w"]:
    """Scale grey levels to 0..1, then subtract the mean and divide by the standard deviation, in float32."""
    pixels = torch.from_numpy(image.astype(np.float32)) / 255.0
    return ((pixels - mean) / std).expand(channels, -1, -1).contiguous()


def latent_output_to_image(pixels: Float[Tensor, "C h w"]) -> UInt8[np.ndarray, "h w"]:
    """Turn a decoded picture in -1..1 into grey levels: x / 2 + 0.5, clamp, times 255, truncated as released.

    Channels are averaged after quantisation, half rounding up; three equal channels stay as they are.
    """
    levels = ((pixels.detach().float().cpu() / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8).to(torch.int32)
    return ((2 * levels.sum(0) + len(levels)) // (2 * len(levels))).to(torch.uint8).numpy()


def _thumbnail_size(width: int, height: int, size_px: int) -> tuple[int, int]:
    """Return the (width, height) of Pillow's `thumbnail`: the shorter side rounds to the nearest aspect."""
    if size_px >= width and size_px >= height:
        return width, height
    aspect = width / height
    if aspect <= 1:
        sides = {math.floor(size_px * aspect), math.ceil(size_px * aspect)} - {0}
        return min(sorted(sides), key=lambda side: abs(aspect - side / size_px)), size_px
    sides = {math.floor(size_px / aspect), math.ceil(size_px / aspect)} - {0}
    return size_px, min(sorted(sides), key=lambda side: abs(aspect - size_px / side))


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 2 or 0 in image.shape:
        raise ImageReadError(
            f"found an array of {image.dtype} {image.shape}; expected uint8 (height, width): use read_image"
        )


def _unknown(name: str) -> ConfigError:
    return ConfigError(f"unknown pre-processing {name!r}; expected one of {', '.join(PREPROCESSING)}")
