"""The optimiser and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from unixcxr.train.stages import OptimiserConfig


def build_optimiser(parameters: Iterable[nn.Parameter], config: OptimiserConfig) -> torch.optim.AdamW:
    """Return AdamW over the parameters that learn."""
    return torch.optim.AdamW(
        list(parameters),
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate_at(step: int, num_steps: int, config: OptimiserConfig) -> float:
    """Return the learning rate of a step (counted from 0): linear warm-up, then constant or cosine to 0."""
    warmup = config.warmup * num_steps
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
