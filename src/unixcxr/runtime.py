"""Where work runs: device, dtype, directories, threads. The only reader of the environment."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import torch

from unixcxr.errors import ConfigError, ModelError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """Return a device that exists; "auto" prefers CUDA, then MPS, then the CPU.

    Raises ConfigError naming what there is.
    """
    present = available_devices()
    if name == "auto":
        return torch.device(present[-1])
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}; this machine has: {', '.join(present)}") from None
    if device.type not in present:
        raise ConfigError(f"device {name!r} is not on this machine; it has: {', '.join(present)}")
    return device


def available_devices() -> list[str]:
    """List the kinds of device that torch can use here, the best one last."""
    devices = ["cpu"]
    if torch.backends.mps.is_available():
        devices.append("mps")
    if torch.cuda.is_available():
        devices.append("cuda")
    return devices


def choose_dtype(name: str) -> torch.dtype:
    """Return a dtype by name. Raises ConfigError naming the known ones."""
    if name not in DTYPES:
        raise ConfigError(f"unknown dtype {name!r}; choose one of {', '.join(DTYPES)}")
    return DTYPES[name]


def assets_dir() -> Path:
    """Return the folder inside the package that holds the embedded model."""
    return Path(__file__).parent / "assets"


def models_dir() -> Path:
    """Return where pulled models live; UNIXCXR_MODELS overrides the user's data folder."""
    override = os.environ.get("UNIXCXR_MODELS")
    return Path(override) if override else platformdirs.user_data_path("unixcxr") / "models"


def find_model_dir(name: str | os.PathLike[str]) -> Path:
    """Return the directory of a model: "embedded", a path, or a hub id that was pulled before.

    Raises ModelError that says what to type.
    """
    if name == "embedded":
        return assets_dir() / "embedded"
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    pulled = models_dir() / str(name).replace("/", "--")
    if pulled.is_dir():
        return pulled
    if path.exists():
        raise ModelError(f"{name}: a file, not a model directory; give the folder that holds config.json")
    hint = f"unixcxr pull {name}" if str(name).count("/") == 1 else "unixcxr models"
    raise ModelError(f"{name}: no such model directory, and no pulled model of that name; try: {hint}")
