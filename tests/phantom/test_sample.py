"""Whole phantoms: one seed, one chest at every size, and findings that change the right pixels the right way.

The same seed with and without a finding has the same body, film and noise, so the difference of the two pictures
is the finding alone. The patient's left is on the right of the picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from unixcxr.errors import ConfigError
from unixcxr.phantom import PhantomFinding, sample_phantom, write_phantom_set
from unixcxr.records import read_manifest

SEEDS = (1, 4, 10, 23)
SIZE = 128
Difference = NDArray[np.float64]


def difference(seed: int, *findings: PhantomFinding, size_px: int = SIZE) -> Difference:
    with_findings = sample_phantom(seed, size_px, findings).image.astype(float)
    return with_findings - sample_phantom(seed, size_px, []).image


def centroid(weight: Difference) -> tuple[float, float]:
    """Return the weighted mean (x, y) as fractions of the picture."""
    rows, columns = np.indices(weight.shape)
    total = weight.sum()
    return float((columns * weight).sum() / total) / SIZE, float((rows * weight).sum() / total) / SIZE


def halves(image: Difference, seed: int) -> dict[str, Difference]:
    """Cut a picture at the spine into the patient's right (picture left) and left."""
    cut = round(sample_phantom(seed, SIZE, []).anatomy.midline_at(0.5) * SIZE)
    return {"right": image[:, :cut], "left": image[:, cut:]}


def other(side: str) -> str:
    return "left" if side == "right" else "right"


def test_a_seed_gives_the_same_phantom_and_another_seed_another() -> None:
    first, again, second = sample_phantom(7, 96), sample_phantom(7, 96), sample_phantom(8, 96)
    assert np.array_equal(first.image, again.image)
    assert (first.report, first.prompt, first.labels) == (again.report, again.prompt, again.labels)
    assert not np.array_equal(first.image, second.image)
    assert first.image.shape == (96, 96)
    assert first.image.dtype == np.uint8


@pytest.mark.parametrize("seed", range(12))
def test_size_changes_neither_the_chest_nor_what_is_said(seed: int) -> None:
    small, large = sample_phantom(seed, 128), sample_phantom(seed, 256)
    assert small.findings == large.findings
    assert (small.report, small.prompt, small.view) == (large.report, large.prompt, large.view)
    halved = large.image.reshape(128, 2, 128, 2).mean(axis=(1, 3))
    apart = np.abs(halved - small.image)
    assert np.corrcoef(halved.ravel(), small.image.ravel())[0, 1] > 0.99
    assert np.median(apart) < 4


@pytest.mark.parametrize("seed", range(6))
def test_a_chest_has_dark_lungs_a_bright_middle_and_a_bright_abdomen(seed: int) -> None:
    phantom = sample_phantom(seed, SIZE, [])
    image, chest = phantom.image.astype(float), phantom.anatomy
    lungs = np.median(image[chest.lungs > 0.9])
    spine = image[100:110, round(chest.midline_at(0.8) * SIZE)].mean()
    assert spine > lungs + 60
    assert 0.36 < chest.cardiothoracic_ratio < 0.5
    assert chest.frames["right"].outer.min() < 0.3 < 0.7 < chest.frames["left"].outer.max()
    domes = {}
    for side, frame in chest.frames.items():
        x, _ = frame.place(0.5, 0.7)
        domes[side] = float(frame.floor[round(x * SIZE)])
        below = round((domes[side] + 0.03) * SIZE)
        assert image[below : below + 4, round(x * SIZE)].mean() > lungs + 50
    assert domes["right"] < domes["left"]


def test_ap_films_show_a_wider_heart_than_pa_films() -> None:
    ratios: dict[str, list[float]] = {"PA": [], "AP": []}
    for seed in range(60):
        phantom = sample_phantom(seed, 64, [])
        ratios[phantom.view].append(phantom.anatomy.cardiothoracic_ratio)
    assert np.mean(ratios["AP"]) > np.mean(ratios["PA"]) + 0.01


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_an_effusion_brightens_its_own_base_and_more_when_larger(seed: int, side: str) -> None:
    gains = []
    for size in ("small", "moderate", "large"):
        change = difference(seed, PhantomFinding("effusion", side, size=size))  # type: ignore[arg-type]
        parts = halves(change, seed)
        gains.append(parts[side].sum())
        assert np.abs(parts[other(side)]).mean() < 0.5
        frame = sample_phantom(seed, SIZE, []).anatomy.frames[side]
        _, y = centroid(np.clip(change, 0, None))
        assert y > frame.top + 0.5 * (frame.bottom - frame.top)
    assert 0 < gains[0] < 0.75 * gains[1] < 0.75 * gains[2]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_meniscus_stands_higher_at_the_wall(seed: int, side: str) -> None:
    change = difference(seed, PhantomFinding("effusion", side, size="moderate"))  # type: ignore[arg-type]
    frame = sample_phantom(seed, SIZE, []).anatomy.frames[side]
    wet = (change > 25) & (frame.mask > 0.9)

    def surface(near: float, far: float) -> float:
        band = wet & (frame.depth > near) & (frame.depth < far)
        return float(np.median(band.argmax(axis=0)[band.any(axis=0)]))

    assert surface(0.02, 0.15) < surface(0.45, 0.85) - 3


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_pneumothorax_darkens_the_outer_lung_behind_a_bright_line(seed: int, side: str) -> None:
    areas = []
    for size in ("small", "large"):
        change = difference(seed, PhantomFinding("pneumothorax", side, size=size))  # type: ignore[arg-type]
        parts = halves(change, seed)
        darker = np.clip(-change, 0, None)
        areas.append(int((darker > 12).sum()))
        assert np.abs(parts[other(side)]).mean() < 0.5
        frame = sample_phantom(seed, SIZE, []).anatomy.frames[side]
        assert np.average(frame.depth, weights=darker * (frame.mask > 0.5)) < 0.4
        assert change.max() > 25
    assert 60 < areas[0] < 0.7 * areas[1]


def test_a_pneumothorax_has_no_vessels_beyond_the_line() -> None:
    def fine(image: Difference) -> Difference:
        around = [np.roll(image, step, (0, 1)) for step in ((4, 0), (-4, 0), (0, 4), (0, -4))]
        return np.asarray(image - np.mean(around, axis=0))

    for seed in SEEDS:
        bare, air = (
            sample_phantom(seed, 256, f)
            for f in ([], [PhantomFinding("pneumothorax", "right", size="large")])
        )
        vessels = bare.anatomy.vessels
        assert vessels is not None
        gone = (air.image.astype(float) - bare.image < -15) & (bare.anatomy.right > 0.95)
        drawn = fine(vessels.astype(float))[gone]
        assert np.corrcoef(fine(bare.image.astype(float))[gone], drawn)[0, 1] > 0.2
        assert np.corrcoef(fine(air.image.astype(float))[gone], drawn)[0, 1] < 0.15


def heart_ratio(image: NDArray[np.uint8], seed: int) -> float:
    """Measure the cardiothoracic ratio by hand: the dark lungs' inner and outer edges, row by row."""
    chest = sample_phantom(seed, SIZE, []).anatomy
    grey = image.astype(float)
    x0, y0, x1, y1 = chest.heart
    lung = np.median(grey[chest.lungs > 0.9])
    solid = grey[round((y0 + y1) / 2 * SIZE), round(x0 * SIZE) + 3 : round(x1 * SIZE) - 3].mean()
    widest = 0
    thorax = (chest.frames["left"].outer.max() - chest.frames["right"].outer.min()) * SIZE
    for row in range(round((y0 + 0.3 * (y1 - y0)) * SIZE), round((y1 - 0.04) * SIZE)):
        dark = grey[row] < 0.5 * (lung + solid)
        middle = round(chest.midline_at(row / SIZE) * SIZE)
        left = middle - np.argmax(dark[:middle][::-1])
        widest = max(widest, int(middle + np.argmax(dark[middle:]) - left))
    return widest / float(thorax)


@pytest.mark.parametrize("seed", SEEDS)
def test_cardiomegaly_raises_the_measured_cardiothoracic_ratio_by_degree(seed: int) -> None:
    ratios = [heart_ratio(sample_phantom(seed, SIZE, []).image, seed)]
    for size in ("small", "moderate", "large"):
        phantom = sample_phantom(seed, SIZE, [PhantomFinding("cardiomegaly", size=size)])
        ratios.append(heart_ratio(phantom.image, seed))
    assert ratios[0] < 0.5 < ratios[1] < ratios[2] < ratios[3] < 0.75


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("zone", "low", "high"), [("upper", 0, 0.37), ("mid", 0.36, 0.66), ("lower", 0.6, 1)]
)
@pytest.mark.parametrize(
    ("kind", "size"), [("consolidation", None), ("nodule", "small"), ("nodule", "large")]
)
def test_density_lies_in_its_zone_and_side(
    seed: int, side: str, zone: str, low: float, high: float, kind: str, size: str | None
) -> None:
    change = np.clip(difference(seed, PhantomFinding(kind, side, zone, size)), 0, None)  # type: ignore[arg-type]
    parts = halves(change, seed)
    assert parts[side].sum() > 50 * parts[other(side)].sum()
    assert change.max() > 25
    frame = sample_phantom(seed, SIZE, []).anatomy.frames[side]
    _, y = centroid(change)
    assert low <= (y - frame.top) / (frame.bottom - frame.top) <= high


def test_a_mass_is_several_times_larger_than_a_nodule() -> None:
    for seed in SEEDS:
        areas = [
            (difference(seed, PhantomFinding("nodule", "right", "mid", size)) > 15).sum()
            for size in ("small", "large")
        ]
        assert 15 < areas[0] < areas[1] / 3


@pytest.mark.parametrize("seed", SEEDS)
def test_edema_hazes_both_lungs_most_near_the_hila(seed: int) -> None:
    change = difference(seed, PhantomFinding("edema", size="moderate"))
    for frame in sample_phantom(seed, SIZE, []).anatomy.frames.values():
        inside = (frame.mask > 0.9) & (frame.descent > 0.3) & (frame.descent < 0.7)
        near, far = change[inside & (frame.depth > 0.7)].mean(), change[inside & (frame.depth < 0.25)].mean()
        assert near > far + 4
        assert near > 12


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_atelectasis_is_a_band_at_its_base(seed: int, side: str) -> None:
    change = np.clip(difference(seed, PhantomFinding("atelectasis", side)), 0, None)  # type: ignore[arg-type]
    parts = halves(change, seed)
    assert parts[side].sum() > 50 * parts[other(side)].sum()
    assert change.max() > 25
    band = change > 0.5 * change.max()
    assert band.any(axis=0).sum() > 1.4 * band.any(axis=1).sum()
    frame = sample_phantom(seed, SIZE, []).anatomy.frames[side]
    _, y = centroid(change)
    assert (y - frame.top) / (frame.bottom - frame.top) > 0.55


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_central_line_shows_at_128_px_from_its_side_to_right_of_the_spine(seed: int, side: str) -> None:
    change = difference(seed, PhantomFinding("central_line", side))  # type: ignore[arg-type]
    line = change > 12
    assert line.sum() > 40
    rows = np.flatnonzero(line.any(axis=1))
    chest = sample_phantom(seed, SIZE, []).anatomy
    start, end = (float(np.flatnonzero(line[row]).mean()) / SIZE for row in (rows[0], rows[-1]))
    assert (start > chest.midline_at(rows[0] / SIZE)) == (side == "left")
    assert end < chest.midline_at(rows[-1] / SIZE)
    assert chest.carina[1] < rows[-1] / SIZE < chest.heart[3]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_pacemaker_sits_in_the_upper_chest_of_its_side(seed: int, side: str) -> None:
    change = difference(seed, PhantomFinding("pacemaker", side))  # type: ignore[arg-type]
    case = np.clip(change, 0, None) * (change > 0.6 * change.max())
    x, y = centroid(case)
    frame = sample_phantom(seed, SIZE, []).anatomy.frames[side]
    assert (x > 0.5) == (side == "left")
    assert frame.top < y < frame.top + 0.35 * (frame.bottom - frame.top)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_endotracheal_tube_ends_above_the_carina(seed: int) -> None:
    change = difference(seed, PhantomFinding("endotracheal_tube"))
    chest = sample_phantom(seed, SIZE, []).anatomy
    rows = np.flatnonzero((change > 12).any(axis=1)) / SIZE
    assert rows[0] < 0.02
    assert chest.carina[1] - 0.12 < rows[-1] < chest.carina[1]


@pytest.mark.parametrize(("seed", "size_px"), [(-1, 128), (0, 16), (0, 4096)])
def test_impossible_arguments_are_named(seed: int, size_px: int) -> None:
    with pytest.raises(ConfigError, match=f"{seed if seed < 0 else size_px}"):
        sample_phantom(seed, size_px)


def test_a_written_set_reads_back_as_the_phantoms(tmp_path: Path) -> None:
    assert write_phantom_set(tmp_path / "set", range(3, 6), 64) == 3
    records = list(read_manifest(tmp_path / "set" / "manifest.jsonl"))
    for seed, record in zip(range(3, 6), records, strict=True):
        phantom = sample_phantom(seed, 64)
        image = np.asarray(Image.open(tmp_path / "set" / record.image_path))
        assert np.array_equal(image, phantom.image)
        assert (record.findings, record.impression) == (phantom.findings_text, phantom.impression_text)
        assert (record.labels, record.view) == (phantom.labels, phantom.view)
        assert (record.source, record.license) == ("phantom", "Apache-2.0")
    assert len({record.patient_id for record in records}) == 3
