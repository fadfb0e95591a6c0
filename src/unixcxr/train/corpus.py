"""Pictures and texts to train on: arrays on disk, drawn at random by shares of their sources.

A corpus is a directory with `images.npy` (uint8, N x P x P) and `rows.jsonl` (one `Row` per picture).
Letters: N pictures, P pixels, B batch, L label targets.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from unixcxr.errors import ConfigError, RecordError

_MOST_OVERSAMPLING = 3.0


@dataclass(frozen=True)
class Row:
    """One picture: reports to read from it, prompts that draw it, and what is known of it.

    `targets` says for each known label target whether it is present; a target that is not named is unknown.
    A row without reports is never read, one without prompts never drawn.
    """

    id: str
    source: str
    reports: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    targets: Mapping[str, bool] = field(default_factory=dict)


class Corpus:
    """Rows and their pictures, in memory-mapped parts."""

    def __init__(self, rows: Sequence[Row], images: Sequence[NDArray[np.uint8]]) -> None:
        assert len(rows) == sum(len(part) for part in images), "rows and pictures differ in number"
        self.rows = list(rows)
        self._parts = list(images)
        self._starts = np.cumsum([0, *[len(part) for part in images]])

    @classmethod
    def read(cls, directories: Iterable[Path]) -> Corpus:
        """Open corpus directories as one; raise RecordError when rows and pictures do not fit each other."""
        rows: list[Row] = []
        parts: list[NDArray[np.uint8]] = []
        for directory in directories:
            images = np.load(directory / "images.npy", mmap_mode="r")
            here = [_parse(line) for line in (directory / "rows.jsonl").read_text("utf-8").splitlines()]
            if len(here) != len(images):
                raise RecordError(
                    f"{directory}: {len(here)} rows but {len(images)} pictures; prepare it again"
                )
            rows.extend(here)
            parts.append(images)
        return cls(rows, parts)

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, indices: Sequence[int]) -> UInt8[Tensor, "B 1 P P"]:
        """Return the pictures of these rows."""
        part = np.searchsorted(self._starts, indices, side="right") - 1
        chosen = [self._parts[p][i - self._starts[p]] for p, i in zip(part, indices, strict=True)]
        return torch.from_numpy(np.stack(chosen))[:, None]

    @property
    def target_names(self) -> list[str]:
        """Return every label target that some row knows, sorted."""
        return sorted({name for row in self.rows for name in row.targets})

    def targets(self) -> Float[Tensor, "N L"]:
        """Return the label targets: 1 present, 0 absent, NaN unknown."""
        column = {name: index for index, name in enumerate(self.target_names)}
        table = torch.full((len(self), len(column)), float("nan"))
        for number, row in enumerate(self.rows):
            for name, present in row.targets.items():
                table[number, column[name]] = float(present)
        return table

    def weights(self, shares: Mapping[str, float], usable: Sequence[bool]) -> Float[Tensor, " N"]:
        """Return how often to draw each row: sources by `shares`, rarer labels of a source more often.

        Raises ConfigError for a share of a source that has no usable row.
        """
        targets = self.targets()
        present = targets.nan_to_num()
        counts = present.sum(dim=0).clamp_min(1)
        rarity = (counts.max() / counts).sqrt().clamp_max(_MOST_OVERSAMPLING)  # (L,)
        weights = (present * rarity).amax(dim=1).clamp_min(1.0) * torch.tensor(usable, dtype=torch.float)
        sources = [row.source for row in self.rows]
        result = torch.zeros(len(self))
        for source, share in shares.items():
            here = torch.tensor([s == source for s in sources])
            total = weights[here].sum()
            if total == 0:
                raise ConfigError(f"a share of {share} for source {source!r}, which has no usable row here")
            result[here] = share * weights[here] / total
        return result


def write_corpus(directory: Path, rows: Sequence[Row], images: NDArray[np.uint8]) -> None:
    """Write a corpus directory."""
    directory.mkdir(parents=True, exist_ok=True)
    np.save(directory / "images.npy", images)
    lines = [json.dumps(dataclasses.asdict(row), ensure_ascii=False) for row in rows]
    (directory / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw_indices(weights: Float[Tensor, " N"], count: int, generator: torch.Generator) -> list[int]:
    """Draw rows with replacement, in proportion to their weights."""
    drawn: Int[Tensor, " B"] = torch.multinomial(weights, count, replacement=True, generator=generator)
    return [int(index) for index in drawn]


def as_grey(images: UInt8[Tensor, "B 1 P P"], size_px: int) -> Float[Tensor, "B 1 size size"]:
    """Return pictures as floats 0..1 at another size, each pixel the mean of those it covers."""
    grey = images.float() / 255.0
    return grey if grey.shape[-1] == size_px else F.interpolate(grey, size=(size_px, size_px), mode="area")


def augment(images: Float[Tensor, "B 1 P P"], generator: torch.Generator) -> Float[Tensor, "B 1 P P"]:
    """Vary exposure, place and noise of pictures (0..1). Never mirrored: sides carry meaning."""
    count, _, height, width = images.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    images = images.clamp_min(1e-4) ** torch.exp(uniform(-0.25, 0.25))
    images = images * uniform(0.88, 1.12) + uniform(-0.06, 0.06)
    margin = height // 25
    padded = F.pad(images, (margin,) * 4, mode="replicate")
    offsets = torch.randint(0, 2 * margin + 1, (count, 2), generator=generator).tolist()
    images = torch.stack(
        [p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, offsets, strict=True)]
    )
    images = images + uniform(0.0, 0.03) * torch.randn(images.shape, generator=generator)
    return images.clamp(0.0, 1.0)


def _parse(line: str) -> Row:
    values = json.loads(line)
    return Row(**{**values, "reports": tuple(values["reports"]), "prompts": tuple(values["prompts"])})
