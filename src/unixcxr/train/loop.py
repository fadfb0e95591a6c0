"""The loop: steps of one stage, with averages, checkpoints, a log, and exact resume."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from unixcxr.errors import ModelError
from unixcxr.train.checkpoint import Checkpoint
from unixcxr.train.ema import Ema
from unixcxr.train.optim import build_optimiser, learning_rate_at
from unixcxr.train.stages import RunConfig, StageConfig, trainable

logger = logging.getLogger(__name__)


class Task(Protocol):
    """What a stage asks of its objective: the module that learns, and the loss of one drawn batch."""

    module: nn.Module

    def losses(self, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Draw a batch with `generator` and return its losses by name; their sum is minimised."""


def run_stage(
    task: Task, name: str, run: RunConfig, directory: Path, stop_at: int | None = None
) -> nn.Module:
    """Train one stage to its end (or to step `stop_at`), resuming from `directory` where it was stopped.

    The returned module carries the averaged weights when the stage is finished, the running ones otherwise.
    Raises ModelError when a loss is not finite.
    """
    stage = run.stage(name)
    stage_dir = directory / name
    parameters = dict(trainable(task.module))
    optimiser = build_optimiser(parameters.values(), stage.optimiser)
    ema = Ema(parameters, stage.optimiser.ema_decay)
    step = _resume(stage_dir / "checkpoint.pt", task.module, optimiser, ema)
    end = stage.num_steps if stop_at is None else min(stop_at, stage.num_steps)
    log = _Log(stage_dir, stage, run.log_every)
    while step < end:
        losses = _step(task, parameters, optimiser, stage, step, run, name)
        ema.update(parameters)
        step += 1
        log.add(step, losses)
        if step % run.checkpoint_every == 0 or step == end:
            _save(stage_dir / "checkpoint.pt", step, task.module, optimiser, ema)
    if step == stage.num_steps:
        ema.copy_to(parameters)
    return task.module


def step_generator(seed: int, stage: str, step: int) -> torch.Generator:
    """Return the random numbers of one step: they depend on seed, stage and step alone."""
    mixed = int.from_bytes(f"{seed}/{stage}/{step}".encode(), "big") % (2**61 - 1)
    return torch.Generator().manual_seed(mixed)


def _step(
    task: Task,
    parameters: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    stage: StageConfig,
    step: int,
    run: RunConfig,
    name: str,
) -> dict[str, float]:
    for group in optimiser.param_groups:
        group["lr"] = learning_rate_at(step, stage.num_steps, stage.optimiser)
    with torch.autocast("cpu", torch.bfloat16, enabled=run.precision == "bfloat16"):
        losses = task.losses(step_generator(run.seed, name, step))
    total = torch.stack(list(losses.values())).sum()
    if not torch.isfinite(total):
        parts = ", ".join(f"{part} {value.item():.3g}" for part, value in losses.items())
        raise ModelError(
            f"stage {name}, step {step}: the loss is not finite ({parts}); lower the learning rate"
        )
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_(parameters.values(), stage.optimiser.clip_norm)
    optimiser.step()
    return {**{part: value.item() for part, value in losses.items()}, "grad_norm": norm.item()}


def _save(path: Path, step: int, module: nn.Module, optimiser: torch.optim.Optimizer, ema: Ema) -> None:
    Checkpoint(step, module.state_dict(), optimiser.state_dict(), ema.state_dict()).save(path)


def _resume(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, ema: Ema) -> int:
    if not path.exists():
        return 0
    checkpoint = Checkpoint.load(path)
    module.load_state_dict(checkpoint.module)
    optimiser.load_state_dict(checkpoint.optimiser)
    ema.load_state_dict(checkpoint.ema)
    logger.info("%s: resumed at step %d", path, checkpoint.step)
    return checkpoint.step


class _Log:
    """Mean losses since the last line, to the logger and to `metrics.jsonl`."""

    def __init__(self, directory: Path, stage: StageConfig, every: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "metrics.jsonl"
        self.stage = stage
        self.every = every
        self.pending: list[dict[str, float]] = []
        self.since = time.monotonic()

    def add(self, step: int, losses: dict[str, float]) -> None:
        self.pending.append(losses)
        if step % self.every and step != self.stage.num_steps:
            return
        now = time.monotonic()
        means = {key: sum(row[key] for row in self.pending) / len(self.pending) for key in self.pending[0]}
        rate = len(self.pending) * self.stage.batch_size / (now - self.since)
        row = {"step": step, "samples": step * self.stage.batch_size, "samples_per_s": rate, **means}
        row = {
            key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        logger.info("%d/%d %s", step, self.stage.num_steps, row)
        self.pending, self.since = [], now
