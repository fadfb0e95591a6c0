"""Training checkpoints: one file, written whole or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unixcxr.errors import WeightsError


@dataclass
class Checkpoint:
    """Everything that a stopped stage needs to go on as if it had never stopped.

    Random numbers need no state here: those of step n come from (seed, stage, n) alone.
    """

    step: int
    module: dict[str, Any]
    optimiser: dict[str, Any]
    ema: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the checkpoint under a temporary name, then rename it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            torch.save(vars(self), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint; raise WeightsError when the file is not one."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            raise WeightsError(
                f"{path}: not a training checkpoint ({error}); remove it to start the stage anew"
            ) from None
        if not isinstance(state, dict) or state.keys() != cls.__dataclass_fields__.keys():
            raise WeightsError(f"{path}: not a training checkpoint; remove it to start the stage anew")
        return cls(**state)

    def averaged(self) -> dict[str, Any]:
        """Return the module's weights, the averaged ones where there are averages."""
        return {name: self.ema.get(name, value) for name, value in self.module.items()}
