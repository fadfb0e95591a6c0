"""What every test shares: shapes checked against their annotations, and the devices of this machine.

The import hook comes first: from here on each call into model, flow and sampling checks the jaxtyping shapes
of its arguments and results.
"""

from __future__ import annotations

import os

import jaxtyping

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # as in `unixcxr.cli.main`: busy cores, before torch loads
jaxtyping.install_import_hook(["unixcxr.model", "unixcxr.flow", "unixcxr.sampling"], "beartype.beartype")

import pytest  # noqa: E402


def _devices() -> list[str]:
    import torch

    present = ["cpu"]
    if torch.cuda.is_available():
        present.append("cuda")
    if torch.backends.mps.is_available():
        present.append("mps")
    return present


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the browser tests write the pictures of the documents."""
    parser.addoption("--screenshots", metavar="DIR", help="write screenshots of the page into this folder")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `device` once on each device of this machine; the CPU is always one."""
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", _devices())
