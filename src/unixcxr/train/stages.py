"""Stages as data: what each one trains, on what objective, for how long. One TOML file holds them all."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from unixcxr.config import STRICT, ModelConfig, from_mapping
from unixcxr.errors import ConfigError

Objective = Literal["reconstruct", "label", "read", "draw"]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]

UND = ("vision.*", "connector.*", "embed_tokens.*", "blocks.*.und.*", "norm_und.*", "text_head.*")
"""The parameters that read: those of stage 1."""

GEN = ("blocks.*.gen.*", "norm_gen.*", "time_embed.*", "latent_in.*", "latent_out.*")
"""The parameters that draw: those of stages 2 and 3."""


@dataclass(frozen=True, config=STRICT)
class OptimiserConfig:
    """AdamW with a linear warm-up, then constant or a cosine to zero; both counted in samples."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup: Share = 0.04
    schedule: Literal["constant", "cosine"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: Share = 0.999


@dataclass(frozen=True, config=STRICT)
class StageConfig:
    """One stage of training.

    `init_latents` fits the autoencoder's linear skip before the first step and its latents' scale after the last;
    `decoder_noise` adds noise of up to that many latent deviations before the decoder; `crop_share` is the share of
    batches that are crops at full resolution. `init_gen` copies the und stream into the gen stream before the first
    step. `alignment_weight` pulls gen layer `alignment_layer` (counted from 0) to the features of the frozen vision
    encoder. `label_weight` weighs the auxiliary label loss on vision features. A weight of 0 is off.
    `channel_power` weighs velocity errors of a latent channel by that power of its share in the picture.
    """

    objective: Objective
    trains: tuple[str, ...]
    num_samples: Positive
    image_size_px: Positive
    batch_size: Positive = 32
    optimiser: OptimiserConfig = OptimiserConfig()
    init_latents: bool = False
    init_gen: bool = False
    text_dropout: Share = 0.1
    timestep_shift: float = 1.0
    alignment_weight: float = 0.0
    alignment_layer: int = 0
    channel_power: float = 0.0
    label_weight: float = 0.0
    decoder_noise: float = 0.0
    crop_share: Share = 0.0
    source_shares: dict[str, float] = Field(default_factory=dict)

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole stage."""
        return -(-self.num_samples // self.batch_size)


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """A model and the stages that make it, in order."""

    model: ModelConfig
    stages: dict[str, StageConfig]
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    checkpoint_every: Positive = 200
    log_every: Positive = 25

    def stage(self, name: str) -> StageConfig:
        """Return a stage; raise ConfigError for a name that the file does not have."""
        if name not in self.stages:
            raise ConfigError(f"no stage {name!r} in this run; it has {', '.join(self.stages)}")
        return self.stages[name]


def read_run_config(path: Path) -> RunConfig:
    """Read a run from its TOML file; raise ConfigError naming what is wrong in it."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected the TOML file of a run") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None
    return from_mapping(RunConfig, values, source=str(path))


def freeze_except(module: nn.Module, patterns: tuple[str, ...]) -> None:
    """Let exactly the parameters whose names match a pattern learn; a pattern without a match is an error.

    The text head is the one name that may be absent: a tied head has no parameters of its own.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern) and not pattern.startswith("text_head"):
            raise ConfigError(f"no parameter matches {pattern!r}; the stage would train nothing by that name")
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))


def trainable(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters that learn, by name."""
    return ((name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad)
