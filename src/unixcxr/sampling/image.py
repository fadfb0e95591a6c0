"""Draw latents: cached prefixes, the rows of all drawings as one batch, a solver over the flow.

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
from unixcxr.config.model import ModelConfig, Renorm, Solver
from unixcxr.data.collate import collate
from unixcxr.errors import ConfigError
from unixcxr.flow.guidance import guide, is_active
from unixcxr.flow.path import time_grid
from unixcxr.flow.solver import OnStep, walk
from unixcxr.model.cache import Cache
from unixcxr.model.unix import UniX
from unixcxr.sampling.prefix import Prefix, PrefixStore


@dataclass(frozen=True)
class DrawSettings:
    """How a picture is drawn.

    `num_steps` counts steps. Guidance acts at times low < t <= high of `guidance_interval`; a `guidance_scale`
    of 1 turns it off. `image_guidance_scale` pushes away from the image-unconditional row. `renorm` and `solver`
    are names of `config.model`.
    """

    num_steps: int = 49
    guidance_scale: float = 2.0
    guidance_interval: tuple[float, float] = (0.4, 1.0)
    timestep_shift: float = 3.0
    renorm: str = "global"
    renorm_min: float = 0.0
    image_guidance_scale: float = 1.0
    solver: str = "euler"

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
        if not 0 <= self.renorm_min <= 1:
            raise ConfigError(f"renorm_min must be in [0, 1], found {self.renorm_min}")
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
    drawing = Drawing(GuidedVelocity(model, conditions, grid, settings), noise, on_step)
    denoiser = Denoiser(model)
    while drawing.latents is None:
        denoiser.step([drawing])
    return drawing.latents


class GuidedVelocity:
    """v(x, t) of the network under guidance, for pictures drawn together with their cached conditions.

    Calling it runs the network for these pictures alone; a `Denoiser` runs it for several fields at once.
    """

    def __init__(
        self,
        model: UniX,
        conditions: Sequence[Conditions],
        grid: tuple[int, int],
        settings: DrawSettings,
        store: PrefixStore | None = None,
    ) -> None:
        self.model, self.settings, self.grid = model, settings, grid
        self.num_pictures = len(conditions)
        rows = [c.full for c in conditions] + [c.text_free for c in conditions]
        self.has_image_row = settings.image_guidance_scale > 1 and any(c.image_free for c in conditions)
        if self.has_image_row:
            rows += [c.image_free or c.full for c in conditions]
        self.prefix = (store or PrefixStore(model)).encode(rows)

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "B G C"], timestep: float) -> Float[Tensor, "B G C"]:
        return Denoiser(self.model).velocities([(self, x, timestep)])[0]

    def num_copies(self, timestep: float) -> int:
        """Return how many rows of the network each picture takes at this time."""
        settings = self.settings
        if settings.guidance_scale == 1 or not is_active(timestep, settings.guidance_interval):
            return 1
        return 3 if self.has_image_row else 2

    def combine(self, velocity: Float[Tensor, "rows G C"]) -> Float[Tensor, "B G C"]:
        """Turn the velocities of all copies into the guided one."""
        settings = self.settings
        conditional, *others = velocity.split(self.num_pictures)
        if not others:
            return conditional
        return guide(
            conditional,
            others[0],
            others[1] if len(others) > 1 else conditional,
            text_scale=settings.guidance_scale,
            image_scale=settings.image_guidance_scale,
            renorm=settings.renorm,
            renorm_min=settings.renorm_min,
        )


class Drawing:
    """Pictures being drawn together, one velocity after another; `latents` is there when they are finished."""

    def __init__(
        self, field: GuidedVelocity, noise: Float[Tensor, "B G C"], on_step: OnStep | None = None
    ) -> None:
        settings = field.settings
        times = time_grid(settings.num_steps, settings.timestep_shift)
        self.field = field
        self.latents: Tensor | None = None
        self._walk = walk(noise.float().to(field.model.device), times, settings.solver, on_step)
        self.x, self.timestep = next(self._walk)

    @property
    def num_rows(self) -> int:
        """Return how many rows of the network the next velocity takes."""
        return self.field.num_pictures * self.field.num_copies(self.timestep)

    def advance(self, velocity: Float[Tensor, "B G C"]) -> None:
        """Take the velocity at `x` and `timestep`, and go on to where the next one is wanted."""
        try:
            self.x, self.timestep = self._walk.send(velocity)
        except StopIteration as end:
            self.latents = end.value


class Denoiser:
    """Runs the network for several drawings at once, each at its own time, from its own condition.

    One pass serves all drawings of one latent grid. The joined prefixes of the last pass of each grid are kept.
    """

    def __init__(self, model: UniX) -> None:
        self.model = model
        self._joined: dict[tuple[int, int], tuple[list[tuple[GuidedVelocity, int]], Batch, Cache]] = {}

    def step(self, drawings: Sequence[Drawing]) -> None:
        """Evaluate one velocity for each drawing, and let each go on."""
        wanted = [(drawing.field, drawing.x, drawing.timestep) for drawing in drawings]
        for drawing, velocity in zip(drawings, self.velocities(wanted), strict=True):
            drawing.advance(velocity)

    @torch.no_grad()
    def velocities(self, wanted: Sequence[tuple[GuidedVelocity, Tensor, float]]) -> list[Tensor]:
        """Return the guided velocity of each (field, x, timestep)."""
        answers: dict[int, Tensor] = {}
        for grid in {field.grid for field, _, _ in wanted}:
            places = [place for place, (field, _, _) in enumerate(wanted) if field.grid == grid]
            answers.update(zip(places, self._on_one_grid([wanted[place] for place in places]), strict=True))
        return [answers[place] for place in range(len(wanted))]

    def _on_one_grid(self, wanted: Sequence[tuple[GuidedVelocity, Tensor, float]]) -> list[Tensor]:
        copies = [(field, field.num_copies(timestep)) for field, _, timestep in wanted]
        batch, cache = self._rows(wanted[0][0].grid, copies)
        device, dtype = self.model.device, self.model.dtype
        x = torch.cat([x.repeat(n, 1, 1) for (_, x, _), (_, n) in zip(wanted, copies, strict=True)])
        times = torch.cat(
            [
                torch.full((len(x) * n, x.shape[1]), timestep, device=device)
                for (_, x, timestep), (_, n) in zip(wanted, copies, strict=True)
            ]
        )
        output = self.model(batch.with_latents(x.to(dtype), times), cache)
        parts = output.velocity.float().split([field.num_pictures * n for field, n in copies])
        return [field.combine(part) for (field, _), part in zip(copies, parts, strict=True)]

    def _rows(self, grid: tuple[int, int], copies: list[tuple[GuidedVelocity, int]]) -> tuple[Batch, Cache]:
        """Lay out the noisy block of every row behind its prefix; only its latents change at each step."""
        if grid in self._joined and self._joined[grid][0] == copies:
            return self._joined[grid][1:]
        rows = [field.prefix.select(range(field.num_pictures * n)) for field, n in copies]
        prefix = Prefix.concat(rows, grid[0] * grid[1] + 2)
        batch = noisy_block(self.model.config, prefix.positions, grid).to(self.model.device, self.model.dtype)
        self._joined[grid] = copies, batch, prefix.cache.freeze()
        return batch, prefix.cache


def noisy_block(config: ModelConfig, starts: Sequence[int], grid: tuple[int, int]) -> Batch:
    """Return a picture to be drawn in every row, at the rotary positions that follow the rows' prefixes."""
    blank = torch.zeros(config.autoencoder.latent_channels, *grid)
    return collate([Example((LatentSegment(blank, 1.0),))] * len(starts), config, starts)
