"""One tiny model for all tests of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model import tiny
from serve.serving import Running, local
from unixcxr.sampling.engine import Engine, load_engine


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a tiny model."""
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def engine(model_dir: Path) -> Engine:
    """Return its engine."""
    return load_engine(model_dir)


@pytest.fixture(scope="module")
def running(engine: Engine) -> Iterator[Running]:
    """Run one server for a module."""
    with local(engine) as running:
        yield running
