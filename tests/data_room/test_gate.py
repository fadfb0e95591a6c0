"""The input gate: rules one by one, features against slow arithmetic, and decisions on drawn pictures."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from benchmarks.gate_pictures import DRAWN, MISHANDLED
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.bad_images import make_dataset

from unixcxr.cleaning.dicom import DicomFacts, read_dicom_facts
from unixcxr.data import gate
from unixcxr.data.gate import REASONS, check_image, image_features, load_model, log_odds, trim_borders
from unixcxr.phantom import sample_phantom

SEEDS = range(900_000, 900_020)
"""Seeds that neither set nor measured the gate."""


@pytest.fixture(scope="module")
def phantoms() -> list[np.ndarray]:
    return [sample_phantom(seed, 160).image for seed in SEEDS]


def test_phantoms_are_accepted_at_any_size(phantoms: list[np.ndarray]) -> None:
    assert all(check_image(image).accepted for image in phantoms)
    assert all(check_image(sample_phantom(900_000, size_px).image).accepted for size_px in (64, 128, 512))


@pytest.mark.parametrize("kind", MISHANDLED)
def test_mishandled_phantoms_are_refused_with_their_reason(kind: str, phantoms: list[np.ndarray]) -> None:
    results = [check_image(np.ascontiguousarray(MISHANDLED[kind](image))) for image in phantoms]
    assert not any(result.accepted for result in results)
    assert sum(result.reason == REASONS[kind] for result in results) >= 0.9 * len(results)


@pytest.mark.parametrize("kind", DRAWN)
def test_drawn_other_pictures_are_refused(kind: str) -> None:
    accepted = [check_image(DRAWN[kind](np.random.default_rng(seed))).accepted for seed in SEEDS]
    assert sum(accepted) <= 1


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((300, 300), np.uint8), "blank"),
        (np.full((300, 300), 200, np.uint8), "blank"),
        (np.zeros((47, 300), np.uint8), "too small"),
        (np.zeros((3, 3), np.uint8), "too small"),
        (np.zeros((100, 201), np.uint8), "too long"),
    ],
)
def test_rules_say_what_they_found(image: np.ndarray, says: str) -> None:
    result = check_image(image)
    assert not result.accepted
    assert says in result.reason


def test_colour_is_refused(phantoms: list[np.ndarray]) -> None:
    assert "colour" in check_image(phantoms[0], is_colour=True).reason


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"Modality": "CT"}, "modality CT"),
        ({"Modality": "DX", "BodyPartExamined": "HAND"}, "body part HAND"),
        ({"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "LL"}, "view LL"),
        ({"Modality": "CR", "BodyPartExamined": "CHEST", "ViewPosition": "AP"}, ""),
        ({}, ""),
    ],
)
def test_the_dicom_header_counts(elements: dict[str, str], says: str, phantoms: list[np.ndarray]) -> None:
    facts = read_dicom_facts(make_dataset(phantoms[0], **elements))
    assert isinstance(facts, DicomFacts)
    result = check_image(phantoms[0], facts)
    assert result.accepted == (not says)
    assert says in result.reason


def test_scores_are_probabilities_of_every_kind(phantoms: list[np.ndarray]) -> None:
    scores = check_image(phantoms[0]).scores
    probabilities = [scores[kind] for kind in REASONS]
    assert sum(probabilities) == pytest.approx(1, abs=1e-4)
    assert scores["short_side_px"] == 160
    rest = sum(probabilities[1:])
    assert scores["frontal_log_odds"] == pytest.approx(np.log(probabilities[0] / rest), abs=1e-2)


def test_log_odds_in_closed_form() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]])
    np.testing.assert_allclose(log_odds(np.log(probabilities)), [0, np.log(9)], atol=1e-12)


def test_a_decision_does_not_change_with_borders_or_size(phantoms: list[np.ndarray]) -> None:
    image = phantoms[1]
    framed = np.pad(image, ((30, 10), (0, 40)), constant_values=0)
    np.testing.assert_array_equal(trim_borders(framed), trim_borders(image))
    large = image.repeat(3, 0).repeat(3, 1)
    assert check_image(framed).accepted
    assert check_image(large).accepted
    np.testing.assert_allclose(image_features(large), image_features(image), atol=0.5)


def test_even_pictures_are_not_trimmed_away() -> None:
    image = np.full((100, 100), 7, np.uint8)
    assert trim_borders(image).shape == (100, 100)


def test_edge_directions_by_slow_counting() -> None:
    levels = np.random.default_rng(0).standard_normal((64, 64))
    down, across = np.gradient(levels)
    slow = np.zeros((8, 8, 9))
    for y in range(64):
        for x in range(64):
            angle = np.arctan2(down[y, x], across[y, x]) % np.pi
            place = angle / np.pi * 9 - 0.5
            lower, part = int(np.floor(place)), place - np.floor(place)
            slow[y // 8, x // 8, lower % 9] += (1 - part) * np.hypot(down[y, x], across[y, x])
            slow[y // 8, x // 8, (lower + 1) % 9] += part * np.hypot(down[y, x], across[y, x])
    energy = (slow**2).sum(-1)
    for row in range(8):
        for column in range(8):
            around = sum(
                energy[min(max(row + i, 0), 7), min(max(column + j, 0), 7)]
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            )
            slow[row, column] /= np.sqrt(around + 4)
    np.testing.assert_allclose(gate._edge_directions(levels), slow, atol=1e-9)


def test_distances_of_the_model_by_plain_projection(phantoms: list[np.ndarray]) -> None:
    model = load_model()
    features = image_features(phantoms[2])
    standard = (features - model.mean) / model.scale
    off = (standard - model.centre).astype(np.float64)
    along = np.array([off @ direction for direction in model.components])
    rest = off - sum(amount * direction for amount, direction in zip(along, model.components, strict=True))
    raw = np.array([np.sqrt(np.mean((along / model.spreads) ** 2)), np.sqrt(np.mean(rest**2))])
    expected = (raw - model.distances[0]) / model.distances[1]
    np.testing.assert_allclose(model.inputs(features[None])[0, -2:], expected, atol=0.05)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 90), st.integers(1, 90))))
def test_any_picture_gets_an_answer(image: np.ndarray) -> None:
    result = check_image(image)
    assert result.reason
    assert all(np.isfinite(value) for value in result.scores.values())


def test_the_stored_numbers_are_few() -> None:
    assert Path(gate.__file__).with_name("gate.npz").stat().st_size < 200_000


def test_one_picture_takes_little_processor_time(phantoms: list[np.ndarray]) -> None:
    check_image(phantoms[0])
    started = time.process_time()
    for image in phantoms:
        check_image(image)
    assert (time.process_time() - started) / len(
        phantoms
    ) < 0.1  # about 6 ms; a generous bound for busy machines


def test_an_unsure_refusal_names_no_kind(monkeypatch: pytest.MonkeyPatch, phantoms: list[np.ndarray]) -> None:
    image = 255 - phantoms[0]
    assert check_image(image).reason == REASONS["inverted"]
    monkeypatch.setattr(gate, "SURE", 1.1)
    assert check_image(image).reason == "does not look like a frontal chest radiograph"
