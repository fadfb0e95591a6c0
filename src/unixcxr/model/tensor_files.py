"""Weights files opened without reading them: names and shapes at once, each tensor when asked for.

Tensors come from a memory map. Nothing is unpickled beyond plain tensors (`torch.load(weights_only=True)`).
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unixcxr.errors import ModelError, WeightsError

SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
INCOMPLETE = "is the download complete? (unixcxr pull resumes one)"


@dataclass(frozen=True)
class TensorFile:
    """The tensors of one or several weights files: their shapes, and how to read one."""

    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Tensor]

    def without(self, prefix: str) -> TensorFile:
        """Leave out the tensors whose names begin so."""
        return TensorFile({n: s for n, s in self.shapes.items() if not n.startswith(prefix)}, self.read)

    def below(self, prefix: str) -> TensorFile:
        """Keep what lies below a prefix, named without it; everything when nothing does."""
        shapes = {n.removeprefix(prefix): s for n, s in self.shapes.items() if n.startswith(prefix)}
        return TensorFile(shapes, lambda name: self.read(prefix + name)) if shapes else self


def open_tensors(path: Path) -> TensorFile:
    """Open a .safetensors file, or a torch checkpoint of plain tensors.

    Raises ModelError when it is missing and WeightsError when it is damaged or holds anything but tensors.
    """
    if not path.exists():
        raise ModelError(f"{path}: missing; {INCOMPLETE}")
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)


def open_model_tensors(directory: Path) -> TensorFile:
    """Open the weights of a foreign model directory: one file or shards, safetensors before torch's own."""
    for single in SINGLE_FILES:
        if (directory / single).exists():
            return open_tensors(directory / single)
        index = directory / f"{single}.index.json"
        if index.exists():
            shards = read_json(index).get("weight_map", {})
            return _join([open_tensors(directory / name) for name in sorted(set(shards.values()))])
    raise ModelError(f"{directory}: no {SINGLE_FILES[0]} in it; {INCOMPLETE}")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ModelError when it is missing or is none."""
    if not path.exists():
        raise ModelError(f"{path}: missing; a model directory holds a {path.name}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not JSON ({error}); fetch the model again") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: a JSON {type(values).__name__}, expected an object; fetch the model again")
    return values


def _open_safetensors(path: Path) -> TensorFile:
    try:
        file = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise WeightsError(
            f"{path}: damaged or cut short ({error}); fetch it again with unixcxr pull"
        ) from None
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return TensorFile(shapes, file.get_tensor)


def _open_pickle(path: Path) -> TensorFile:
    try:
        # only the zip format of torch >= 1.6 can be mapped
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(
            f"{path}: damaged, or holds more than plain tensors, which is not opened ({reason}); fetch it again, "
            "or save its tensors as safetensors"
        ) from None
    tensors = content.get("state_dict", content) if isinstance(content, dict) else {}
    tensors = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path}: holds no named tensors; expected a state dict")
    return TensorFile({name: tuple(t.shape) for name, t in tensors.items()}, tensors.__getitem__)


def _join(files: Sequence[TensorFile]) -> TensorFile:
    home = {name: file for file in files for name in file.shapes}
    shapes = {name: file.shapes[name] for name, file in home.items()}
    return TensorFile(shapes, lambda name: home[name].read(name))
