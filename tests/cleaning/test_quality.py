"""Pixel checks on drawn chests and their damaged copies; duplicates against the obvious slow search."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from cleaning.trees import film
from unixcxr.cleaning.duplicates import near_pairs, picture_hash
from unixcxr.cleaning.quality import judge, load_template, measure
from unixcxr.config.cleaning import QualityConfig

FILMS = [film(seed) for seed in range(6)]


def reason(image: np.ndarray, **settings: object) -> str:
    return judge(measure(image), QualityConfig(**settings)).reason  # type: ignore[arg-type]


def with_letters(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image).resize((512, 512))
    font = ImageFont.load_default(size=22)
    ImageDraw.Draw(picture).multiline_text((8, 8), "DOE, JANE\n12.03.1957 F 4711", fill=255, font=font)
    return np.asarray(picture)


def test_sound_films_pass_without_a_note() -> None:
    for image in FILMS:
        verdict = judge(measure(image), QualityConfig())
        assert (verdict.reason, verdict.notes) == ("", ())


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (FILMS[0][::2, ::2], "tiny"),
        (np.tile(FILMS[0], (1, 3)), "extreme aspect"),
        (np.full((256, 256), 90, np.uint8), "blank"),
        (np.where(FILMS[0] > 60, 255, FILMS[0]).astype(np.uint8), "saturated"),
        (np.where(FILMS[0] < 170, 0, FILMS[0]).astype(np.uint8), "saturated"),
        (255 - FILMS[0], "inverted"),
        (np.ascontiguousarray(np.rot90(FILMS[0])), "does not look frontal"),
    ],
)
def test_each_damage_has_its_reason(image: np.ndarray, expected: str) -> None:
    assert reason(image) == expected


@pytest.mark.parametrize(
    ("setting", "limit", "better"),
    [("min_side_px", 192, 193), ("max_aspect", 1.0, 0.99), ("max_white", 0.0, None)],
)
def test_limits_are_inclusive(setting: str, limit: float, better: float | None) -> None:
    image = np.clip(FILMS[0], 3, 249)
    assert reason(image, **{setting: limit}) == ""
    if better is not None:
        assert reason(image, **{setting: better}) != ""


def test_inverted_may_be_dropped_mended_marked_or_let_be() -> None:
    quality = measure(255 - FILMS[0])
    assert judge(quality, QualityConfig(inverted="mend")).is_inverted
    assert judge(quality, QualityConfig(inverted="mark")).notes == ("looks inverted",)
    assert judge(quality, QualityConfig(inverted="off")).notes == ()
    assert "MONOCHROME2" in judge(quality, QualityConfig(), "MONOCHROME2").detail


def test_burned_in_text_is_marked_or_dropped() -> None:
    image = with_letters(FILMS[0])
    assert judge(measure(image), QualityConfig()).notes == ("burned-in text suspected",)
    assert reason(image, burned_in_text="drop") == "burned-in text suspected"
    assert judge(measure(image), QualityConfig(burned_in_text="off")).notes == ()


@pytest.mark.parametrize("gamma", [0.6, 1.0, 1.7])
def test_likeness_knows_no_contrast(gamma: float) -> None:
    image = (255 * (FILMS[1] / 255) ** gamma).round().astype(np.uint8)
    assert measure(image).likeness == pytest.approx(measure(FILMS[1]).likeness, abs=0.02)
    assert measure(255 - image).likeness == pytest.approx(-measure(image).likeness, abs=0.02)


def test_the_template_is_a_unit_vector_without_a_mean() -> None:
    mean = load_template()["mean"]
    assert mean.shape == (16, 16)
    assert np.linalg.norm(mean) == pytest.approx(1, abs=1e-2)
    assert mean.mean() == pytest.approx(0, abs=1e-3)


def distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


def recompressed(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).resize((300, 300)).save(file, "JPEG", quality=70)
    return np.asarray(Image.open(file))


def test_a_copy_is_near_and_another_film_is_far() -> None:
    hashes = [picture_hash(image) for image in FILMS]
    assert all(
        distance(a, picture_hash(recompressed(image))) <= 8 for a, image in zip(hashes, FILMS, strict=True)
    )
    assert min(distance(a, b) for a, b in combinations(hashes, 2)) > 8


def test_the_hash_of_a_ramp_is_known() -> None:
    ramp = np.tile(np.arange(170, dtype=np.uint8), (160, 1))
    assert picture_hash(ramp) == b"\xff" * 32
    assert picture_hash(ramp[:, ::-1].copy()) == b"\0" * 32


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(2, 60))
def test_near_pairs_are_those_of_the_slow_search(seed: int, max_distance: int, number: int) -> None:
    chooser = np.random.default_rng(seed)
    hashes = chooser.integers(0, 256, (number, 32), dtype=np.uint8)
    for row in range(1, number):  # most are copies of an earlier one with a few bits turned
        if chooser.random() < 0.7:
            bits = np.unpackbits(hashes[chooser.integers(row)])
            bits[chooser.choice(256, chooser.integers(0, 16), replace=False)] ^= 1
            hashes[row] = np.packbits(bits)
    slow = {
        (i, j, d)
        for i, j in combinations(range(number), 2)
        if (d := distance(hashes[i].tobytes(), hashes[j].tobytes())) <= max_distance
    }
    found = list(near_pairs(hashes, max_distance))
    assert set(found) == slow
    assert len(found) == len(slow)
