"""Image transforms against hand-worked sizes, Pillow, and slow plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unixcxr.data import transforms
from unixcxr.data.transforms import (
    PREPROCESSING,
    fit_image,
    image_to_latent_input,
    image_to_pixels,
    latent_output_to_image,
    letterbox,
    pad_to_square,
    place_image,
    released_resize,
    resized_size,
)
from unixcxr.errors import ConfigError, ImageReadError

SIDES = st.integers(1, 3000)


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width)).astype(np.uint8)


@pytest.mark.parametrize(
    ("sides", "limits", "expected"),
    [
        # 500 x 300: min 384 wants x 1.28: 640 x 384; longer side 640 > 384, x 0.6: 384 x 230 -> 224
        ((500, 300), (384, 384, 16), (384, 224)),
        ((300, 500), (384, 384, 16), (224, 384)),
        # already right
        ((384, 384), (384, 384, 16), (384, 384)),
        # 344 x 360: x 1.1163: 384 x 402 -> 384 x 400; 400 > 384, x 0.96: 369 x 384 -> 368 x 384
        ((344, 360), (384, 384, 16), (368, 384)),
        # room between min and max: nothing to do but the stride, 300 / 16 = 18.75 -> 304, 500 / 16 = 31.25 -> 496
        ((500, 300), (512, 256, 16), (496, 304)),
        # half to even: 344 / 16 = 21.5 -> 22, 360 / 16 = 22.5 -> 22
        ((344, 360), (512, 256, 16), (352, 352)),
        # a thin picture: never below one stride
        ((1000, 10), (64, 16, 16), (64, 16)),
        # too many pixels, 504 x 294 = 148176 > 100000: the sides shrink by the ratio of areas, 0.67487
        ((500, 300), (980, 224, 14, 200_000, 2), (336, 196)),
    ],
)
def test_resized_size_by_hand(
    sides: tuple[int, int], limits: tuple[int, ...], expected: tuple[int, int]
) -> None:
    assert resized_size(*sides, *limits) == expected


@given(SIDES, SIDES, st.sampled_from([14, 16]), st.integers(2, 40))
def test_resized_sides_are_strides_within_the_limit(width: int, height: int, stride: int, count: int) -> None:
    size_px = stride * count
    sides = resized_size(width, height, size_px, size_px, stride)
    assert all(side % stride == 0 and stride <= side <= size_px for side in sides)
    if width == height and size_px**2 <= transforms.RELEASED_MAX_PIXELS:
        assert sides == (size_px, size_px)


def test_released_is_one_bicubic_resize() -> None:
    image = random_image(300, 500)
    expected = Image.fromarray(image).resize((384, 224), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(released_resize(image, 384), np.asarray(expected))


def test_reading_pads_to_a_square_with_air_first() -> None:
    image = np.full((2, 5), 9, np.uint8)
    square = pad_to_square(image)
    assert square.tolist() == [[0] * 5, [9] * 5, [9] * 5, [0] * 5, [0] * 5]
    assert pad_to_square(image.T).tolist() == square.T.tolist()


@pytest.mark.parametrize("shape", [(300, 500), (64, 64), (777, 640)])
def test_pad_equals_released_for_reading_at_a_multiple_of_the_stride(shape: tuple[int, int]) -> None:
    image = random_image(*shape)
    np.testing.assert_array_equal(fit_image(image, "pad", 128), fit_image(image, "released", 128))


def test_pad_keeps_the_exact_size_and_released_rounds_it() -> None:
    image = random_image(90, 100)
    assert fit_image(image, "pad", 100).shape == (100, 100)
    assert fit_image(image, "released", 100).shape == (96, 96)


@pytest.mark.parametrize("shape", [(100, 60), (60, 100), (1777, 2544), (2544, 1777), (384, 384), (385, 383)])
def test_letterbox_is_the_rgba_thumbnail_on_white(shape: tuple[int, int]) -> None:
    image = random_image(*shape)
    thumbnail = Image.fromarray(image).convert("RGBA")
    thumbnail.thumbnail((384, 384), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (384, 384), (255, 255, 255, 0))
    canvas.paste(thumbnail, ((384 - thumbnail.width) // 2, (384 - thumbnail.height) // 2), thumbnail)
    np.testing.assert_array_equal(letterbox(image, 384), np.asarray(canvas.convert("RGB"))[:, :, 0])


def test_gradio_squashes() -> None:
    image = random_image(300, 500)
    expected = Image.fromarray(image).resize((384, 384), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(fit_image(image, "released_gradio", 384), np.asarray(expected))


def test_pixels_are_standardised_grey_in_every_channel() -> None:
    image = np.array([[0, 51], [102, 255]], np.uint8)
    pixels = image_to_pixels(image, "pad", 2, mean=0.4, std=0.2)
    assert pixels.dtype == torch.float32
    expected = [[-2.0, -1.0], [0.0, 3.0]]
    torch.testing.assert_close(pixels, torch.tensor([expected] * 3), atol=1e-6, rtol=0)
    assert image_to_pixels(image, "pad", 2, channels=1).shape == (1, 2, 2)


def test_latent_input_runs_from_minus_one_to_one_and_keeps_a_released_shape() -> None:
    image = np.array([[0, 255], [255, 0]], np.uint8).repeat(16, 0).repeat(16, 1)
    latent = image_to_latent_input(image, "pad", 32)
    assert (latent.min(), latent.max()) == (-1, 1)
    oblong = random_image(300, 500)
    assert image_to_latent_input(oblong, "released", 256).shape == (3, 160, 256)
    assert image_to_latent_input(oblong, "pad", 256).shape == (3, 256, 256)


def test_decoded_levels_are_truncated_and_clamped() -> None:
    values = torch.tensor([[[-3.0, -1.0, 0.0, 0.999, 1.0, 7.0]]]).expand(3, -1, -1)
    slow = [[int(min(max(v / 2 + 0.5, 0), 1) * 255) for v in (-3.0, -1.0, 0.0, 0.999, 1.0, 7.0)]]
    assert latent_output_to_image(values).tolist() == slow == [[0, 0, 127, 254, 255, 255]]


def test_decoded_channels_are_averaged_after_quantisation() -> None:
    levels = torch.tensor([10, 11, 13]) / 127.5 - 1 + 1e-4
    assert latent_output_to_image(levels[:, None, None]).tolist() == [[11]]  # 34 / 3 = 11.3
    pair = torch.tensor([10, 11]) / 127.5 - 1 + 1e-4
    assert latent_output_to_image(pair[:, None, None]).tolist() == [[11]]  # 10.5, half up


@given(SIDES, SIDES, st.sampled_from([64, 384, 512]))
def test_thumbnail_size_is_pillows(width: int, height: int, size_px: int) -> None:
    picture = Image.new("1", (width, height))
    picture.thumbnail((size_px, size_px), Image.Resampling.NEAREST)
    assert transforms._thumbnail_size(width, height, size_px) == picture.size


@pytest.mark.parametrize("name", PREPROCESSING)
@pytest.mark.parametrize("shape", [(200, 320), (320, 200), (160, 160), (40, 64)])
def test_placement_finds_a_bright_spot_again(name: str, shape: tuple[int, int]) -> None:
    image = np.zeros(shape, np.uint8)
    top, left = int(shape[0] * 0.6), int(shape[1] * 0.2)
    image[top : top + 8, left : left + 8] = 255
    fitted = fit_image(image, name, 128).astype(np.float32)
    if name == "released_eval":
        fitted[fitted == 255] = 0 if shape[0] > 100 else 255  # the white paper around
    placement = place_image(*shape, name, 128)
    back = placement.map_back(fitted)
    assert back.shape == shape
    weights = back * (back > 100) if name != "released_eval" or shape[0] > 100 else back * (image > 0)
    y, x = (float((axis * weights).sum() / weights.sum()) for axis in np.indices(shape))
    assert math.hypot(y - (top + 3.5), x - (left + 3.5)) < 2


def test_placement_by_hand() -> None:
    placement = place_image(200, 400, "pad", 100)
    assert placement.size == (100, 100)
    assert placement.scale == (0.25, 0.25)
    assert placement.offset == (25.0, 0.0)
    heat = np.zeros((4, 4), np.float32)
    heat[1:3] = [[1, 2, 3, 4]] * 2  # the picture fills the two middle rows
    back = placement.map_back(heat)
    assert back.shape == (200, 400)
    np.testing.assert_allclose(back[100, [50, 150, 250, 350]], [1, 2, 3, 4], atol=0.02)


def test_wrong_names_and_arrays_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of pad, released, released_eval, released_gradio"):
        fit_image(random_image(8, 8), "crop", 8)
    with pytest.raises(ConfigError, match="unknown pre-processing"):
        place_image(8, 8, "crop", 8)
    for wrong in (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8)), np.zeros((0, 8), np.uint8)):
        with pytest.raises(ImageReadError, match="expected uint8"):
            fit_image(wrong, "pad", 8)
