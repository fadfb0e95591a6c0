"""A tiny engine with random weights, a kl autoencoder and a tokenizer trained on the spot."""

from __future__ import annotations

import numpy as np
import pytest

from model import tiny
from unixcxr.sampling.engine import Engine, load_engine


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load_engine(tiny.save(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="session")
def films() -> list[np.ndarray]:
    """Return four radiographs of different shapes, uint8 (H, W)."""
    generator = np.random.default_rng(0)
    shapes = [(20, 16), (16, 16), (9, 30), (40, 33)]
    return [generator.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
