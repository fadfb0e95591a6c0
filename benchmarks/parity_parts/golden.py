"""A golden directory, and one compared quantity."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from unixcxr.batch import Example, TextSegment
from unixcxr.data.tokenizer import Tokenizer, load_tokenizer
from unixcxr.model.autoencoder import Autoencoder
from unixcxr.model.unix import UniX
from unixcxr.model.weights import load_autoencoder, load_model

FLOAT_BOUND = 1e-4
UNUSED = {
    "tables:patchify_in": "patches of a picture are a strided convolution here",
    "tables:patchify_out": "see patchify_in",
}


@dataclass(frozen=True)
class Row:
    """One quantity: the largest difference found and the bound it must hold."""

    name: str
    difference: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the difference is within the bound; NaN never is."""
        return self.difference <= self.bound

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return {**asdict(self), "holds": self.holds}


class Golden:
    """The tensors, facts and loaded checkpoint of a golden directory; remembers which tensors were read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.meta = json.loads((directory / "meta.json").read_text())
        self.tensors = {
            f"{path.stem}:{name}": tensor
            for path in sorted(directory.glob("*.safetensors"))
            for name, tensor in load_file(path).items()
        }
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self._read.add(name)
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def unread(self) -> list[str]:
        """List tensors that no comparison has used, apart from those with a stated reason."""
        return sorted(self.tensors.keys() - self._read - UNUSED.keys())

    def row(self, name: str, ours: Tensor | np.ndarray, bound: float = FLOAT_BOUND) -> Row:
        """Compare with the golden tensor of this name."""
        return difference(name, ours, self[name], bound)

    @cached_property
    def model(self) -> UniX:
        """The checkpoint, in float32 with float32 rotary frequencies."""
        return load_model(self.directory / "ckpt", rope_frequencies="float32")

    @cached_property
    def rounded_model(self) -> UniX:
        """The checkpoint with rotary frequencies rounded to bfloat16."""
        return load_model(self.directory / "ckpt", rope_frequencies="bfloat16")

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """Its autoencoder."""
        return load_autoencoder(self.directory / "ckpt")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return load_tokenizer(self.directory / "ckpt")

    @property
    def grid(self) -> tuple[int, int]:
        """The latent grid of the drawn picture."""
        height, width = self.meta["image_shape_HW"]
        return height // 16, width // 16

    def prompt(self, text: str) -> Example:
        """Return a drawing prompt as inference feeds it, with its start token twice."""
        return Example((self.text(text),))

    def text(self, text: str) -> TextSegment:
        """Return a prompt segment as inference feeds it."""
        return TextSegment((self.model.config.tokens.bos, *self.tokenizer.encode(text)))


def difference(name: str, ours: Tensor | np.ndarray, theirs: Tensor, bound: float = FLOAT_BOUND) -> Row:
    """Return the largest absolute difference; infinite when shapes differ."""
    ours = torch.as_tensor(ours)
    if tuple(ours.shape) != tuple(theirs.shape):
        return Row(f"{name} (shape {list(ours.shape)}, expected {list(theirs.shape)})", float("inf"), bound)
    if ours.numel() == 0:
        return Row(name, 0.0, bound)
    return Row(name, float((ours.double() - theirs.double()).abs().max()), bound)


def layer_outputs(model: UniX) -> tuple[list[tuple[Tensor, Tensor | None]], list[Any]]:
    """Record what each block returns, until the hooks are removed."""
    outputs: list[tuple[Tensor, Tensor | None]] = []
    hooks = [b.register_forward_hook(lambda _m, _i, output: outputs.append(output)) for b in model.blocks]
    return outputs, hooks
