"""Lungs found on pictures: right on drawn chests whose masks are known, None on what is no chest."""

from __future__ import annotations

import numpy as np
import pytest

from unixcxr.phantom import PhantomFinding, estimate_anatomy, paint_findings, sample_phantom

SEEDS = range(12)


def dice(one: np.ndarray, two: np.ndarray) -> float:
    first, second = one > 0.5, two > 0.5
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_found_lungs_agree_with_the_drawn_ones() -> None:
    found = 0
    for seed in SEEDS:
        phantom = sample_phantom(seed, 160, [])
        chest = estimate_anatomy(phantom.image)
        if chest is None:
            continue
        found += 1
        assert dice(chest.right, phantom.anatomy.right) > 0.85
        assert dice(chest.left, phantom.anatomy.left) > 0.85
        assert abs(chest.midline_at(0.5) - phantom.anatomy.midline_at(0.5)) < 0.04
        assert abs(chest.cardiothoracic_ratio - phantom.anatomy.cardiothoracic_ratio) < 0.09
    assert found >= 10


def test_a_picture_that_is_not_square_is_located_in_its_own_fractions() -> None:
    image = sample_phantom(5, 160, []).image
    wide = np.repeat(image, 2, axis=1)
    square, stretched = estimate_anatomy(image), estimate_anatomy(wide)
    assert square is not None
    assert stretched is not None
    assert stretched.right.shape == wide.shape
    assert stretched.heart == pytest.approx(square.heart, abs=0.03)


def not_chests() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:128, 0:128] / 128
    disc = np.hypot(x - 0.5, y - 0.5) < 0.3
    shin = 60 + 120 * np.exp(-(((x - 0.5) / 0.12) ** 2))
    chest = sample_phantom(2, 128, []).image
    return {
        "blank": np.full((128, 128), 90, np.uint8),
        "noise": rng.integers(0, 256, (128, 128)).astype(np.uint8),
        "ramp": (255 * y).astype(np.uint8),
        "disc": np.where(disc, 200, 20).astype(np.uint8),
        "shin": shin.astype(np.uint8),
        "inverted chest": 255 - chest,
        "chest on its side": chest.T.copy(),
        "colour": np.zeros((64, 64, 3), np.uint8),
        "thumbnail": chest[::8, ::8].copy(),
    }


@pytest.mark.parametrize("name", not_chests())
def test_what_is_no_upright_chest_is_not_located(name: str) -> None:
    assert estimate_anatomy(not_chests()[name]) is None


@pytest.mark.parametrize("side", ["left", "right"])
def test_painting_through_a_found_map_changes_the_named_side_of_a_foreign_picture(side: str) -> None:
    image = sample_phantom(5, 160, []).image
    chest = estimate_anatomy(image)
    assert chest is not None
    finding = PhantomFinding("effusion", side, size="moderate")  # type: ignore[arg-type]
    painted = paint_findings(image, chest, [finding], np.random.default_rng(0))
    change = painted.astype(float) - image
    own, foreign = (change[:, 80:], change[:, :80]) if side == "left" else (change[:, :80], change[:, 80:])
    assert painted.dtype == np.uint8
    assert own.mean() > 5
    assert np.abs(foreign).mean() < 0.5


def test_painting_nothing_changes_nothing() -> None:
    image = sample_phantom(5, 96, []).image
    anatomy = sample_phantom(5, 96, []).anatomy
    assert np.array_equal(paint_findings(image, anatomy, [], np.random.default_rng(0)), image)
