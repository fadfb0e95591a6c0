"""Draw latents: one cached prefix, guidance rows as one batch, a solver over the flow.

Letters: B pictures, G latent tokens (h w), C latent channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from unixcxr.batch import Batch, Example, LatentSegment
from unixcxr.config.model import Renorm, Solver
from unixcxr.data.collate import collate
from unixcxr.errors import ConfigError
from unixcxr.flow.guidance import guide, is_active
from unixcxr.flow.path import time_grid
from unixcxr.flow.solver import OnStep, solve
from unixcxr.model.unix import UniX
from unixcxr.sampling.prefix import Prefix, encode_prefix


@dataclass(frozen=True)
class DrawSettings:
    """How a picture is drawn.

    `num_steps` counts steps. Guidance acts at times low < t <= high of `guidance_interval`; a `guidance_scale`
    of 1 turns it off. `image_guidance_scale` pushes away from the image-unconditional row.
    """

    num_steps: int = 49
    guidance_scale: float = 2.0
    guidance_interval: tuple[float, float] = (0.4, 1.0)
    timestep_shift: float = 3.0
    renorm: Renorm = "global"
    renorm_min: float = 0.0
    image_guidance_scale: float = 1.0
    solver: Solver = "euler"

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ConfigError(f"num_steps must be at least 1, found {self.num_steps}")
        if self.guidance_scale < 1 or self.image_guidance_scale < 1:
            raise ConfigError(
                f"guidance scales must be 1 (off) or more, found {self.guidance_scale} and {self.image_guidance_scale}"
            )
        if self.image_guidance_scale > 1 and self.guidance_scale == 1:
            raise ConfigError("image_guidance_scale has no effect while guidance_scale is 1; set it above 1")
        low, high = self.guidance_interval
        if not 0 <= low <= high <= 1:
            raise ConfigError(f"guidance_interval must be 0 <= low <= high <= 1, found {low}, {high}")
        if self.timestep_shift <= 0:
            raise ConfigError(f"timestep_shift must be above 0, found {self.timestep_shift}")
        for name, value, known in (("renorm", self.renorm, Renorm), ("solver", self.solver, Solver)):
            if value not in get_args(known):
                raise ConfigError(f"unknown {name} {value!r}; choose one of {', '.join(get_args(known))}")


EMPTY = Example(())
"""No condition at all."""


@dataclass(frozen=True)
class Conditions:
    """What one picture is drawn from, and what its two unconditional rows see instead.

    `image_free=None` stands for the whole condition itself, as when there is no image in it.
    """

    full: Example
    text_free: Example = EMPTY
    image_free: Example | None = None


@torch.no_grad()
def draw_latents(
    model: UniX,
    conditions: Sequence[Conditions],
    noise: Float[Tensor, "B G C"],
    grid: tuple[int, int],
    settings: DrawSettings,
    on_step: OnStep | None = None,
) -> Float[Tensor, "B G C"]:
    """Walk from noise to latents in float32; the latents are row-major over `grid` (h, w)."""
    field = GuidedVelocity(model, conditions, grid, settings)
    times = time_grid(settings.num_steps, settings.timestep_shift)
    return solve(field, noise.float().to(field.device), times, settings.solver, on_step)


class GuidedVelocity:
    """v(x, t) of the network under guidance, for a batch of pictures with their cached conditions."""

    def __init__(
        self, model: UniX, conditions: Sequence[Conditions], grid: tuple[int, int], settings: DrawSettings
    ) -> None:
        self.model, self.settings = model, settings
        self.device, self.dtype = model.latent_in.weight.device, model.latent_in.weight.dtype
        full = [c.full for c in conditions]
        rows = full + [c.text_free for c in conditions]
        self.has_image_row = settings.image_guidance_scale > 1 and any(c.image_free for c in conditions)
        if self.has_image_row:
            rows += [c.image_free or c.full for c in conditions]
        num_tokens = grid[0] * grid[1] + 2
        prefix = _shared_prefix(model, rows, num_tokens)
        self.guided = self._rows(prefix, grid)
        self.plain = self._rows(prefix.select(range(len(full))), grid)

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "B G C"], timestep: float) -> Float[Tensor, "B G C"]:
        settings = self.settings
        if settings.guidance_scale == 1 or not is_active(timestep, settings.guidance_interval):
            return self._velocity(self.plain, x, timestep)
        copies = 3 if self.has_image_row else 2
        conditional, text_free, *rest = self._velocity(self.guided, x.repeat(copies, 1, 1), timestep).chunk(
            copies
        )
        return guide(
            conditional,
            text_free,
            rest[0] if rest else conditional,
            text_scale=settings.guidance_scale,
            image_scale=settings.image_guidance_scale,
            renorm=settings.renorm,
            renorm_min=settings.renorm_min,
        )

    def _rows(self, prefix: Prefix, grid: tuple[int, int]) -> tuple[Batch, Prefix]:
        """Lay out the noisy block of every row behind its prefix; its latents change at each step."""
        blank = torch.zeros(self.model.config.autoencoder.latent_channels, *grid)
        block = Example((LatentSegment(blank, 1.0),))
        batch = collate([block] * len(prefix.positions), self.model.config, prefix.positions)
        prefix.cache.freeze()
        return batch.to(self.device, self.dtype), prefix

    def _velocity(
        self, rows: tuple[Batch, Prefix], x: Float[Tensor, "B G C"], timestep: float
    ) -> Float[Tensor, "B G C"]:
        batch, prefix = rows
        times = torch.full(x.shape[:2], timestep, device=self.device)
        return self.model(batch.with_latents(x.to(self.dtype), times), prefix.cache).velocity.float()


def _shared_prefix(model: UniX, examples: Sequence[Example], num_more: int) -> Prefix:
    """Encode each different example once, then hand out its row; an empty example has no prefix."""
    different: list[Example] = []
    rows: list[int | None] = []
    for example in examples:
        if not example.segments:
            rows.append(None)
            continue
        index = next((i for i, other in enumerate(different) if other is example), None)
        if index is None:
            index = len(different)
            different.append(example)
        rows.append(index)
    if not different:
        return Prefix(model.new_cache(len(examples), num_more), (0,) * len(examples))
    return encode_prefix(model, different, num_more).select(rows)
