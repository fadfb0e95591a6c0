"""Drawing against a loop of plain uncached passes, guidance combined by hand, and itself in other company."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from model import tiny
from unixcxr.batch import Example, LatentSegment, ReadSegment
from unixcxr.data.collate import collate
from unixcxr.errors import ConfigError
from unixcxr.model.unix import UniX
from unixcxr.sampling.image import Conditions, DrawSettings, GuidedVelocity, draw_latents

MODEL = tiny.build()
GRID = (2, 3)
PLAIN = DrawSettings(num_steps=4, guidance_scale=1.0, timestep_shift=1.0)
GUIDED = DrawSettings(num_steps=4, guidance_scale=3.0, guidance_interval=(0.3, 0.9), timestep_shift=2.0)
TEXTS = [
    Conditions(tiny.example(tiny.text(1, 2, 3))),
    Conditions(tiny.example(tiny.text(4)), image_free=tiny.example(tiny.text(5, 6))),
    Conditions(tiny.example(tiny.text(7, 8, 9, 10, 11)), image_free=tiny.example(tiny.text(12))),
]
FROM_IMAGE = Conditions(
    full=tiny.example(ReadSegment(tiny.picture(1)), tiny.text(13, 14)),
    text_free=tiny.example(ReadSegment(tiny.picture(1))),
    image_free=tiny.example(tiny.text(13, 14)),
)
"""A drawing from an image and a text, each of which one row lacks."""


def noise(*seeds: int, grid: tuple[int, int] = GRID) -> Tensor:
    shape = (grid[0] * grid[1], tiny.AUTOENCODER.latent_channels)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds])


@torch.no_grad()
def uncached(condition: Example, x: Tensor, t: float, grid: tuple[int, int] = GRID) -> Tensor:
    """Return the velocity of one picture (G, C) from one pass over condition and latents."""
    latent = LatentSegment(x.T.reshape(-1, *grid), t)
    return MODEL(collate([Example((*condition.segments, latent))], tiny.CONFIG)).velocity[0]


def norm(v: Tensor, renorm: str) -> Tensor:
    return v.norm(dim=1, keepdim=True) if "channel" in renorm else v.norm()


def by_hand(c: Conditions, x: Tensor, t: float, s: DrawSettings, grid: tuple[int, int] = GRID) -> Tensor:
    """Return the guided velocity of one picture, each row a pass of its own."""
    conditional = uncached(c.full, x, t, grid)
    low, high = s.guidance_interval
    if s.guidance_scale == 1 or not low < t <= high:
        return conditional
    free = uncached(c.text_free, x, t, grid)
    v = free + s.guidance_scale * (conditional - free)
    shrink = lambda v: v * (norm(conditional, s.renorm) / norm(v, s.renorm)).clamp(s.renorm_min, 1)  # noqa: E731
    if s.renorm == "text_channel":
        v = shrink(v)
    if s.image_guidance_scale > 1:
        other = uncached(c.image_free or c.full, x, t, grid)
        v = other + s.image_guidance_scale * (v - other)
    return v if s.renorm == "text_channel" else shrink(v)


def euler_by_hand(c: Conditions, x: Tensor, s: DrawSettings, grid: tuple[int, int] = GRID) -> Tensor:
    """Walk the released schedule for one picture."""
    points = [1 - i / s.num_steps for i in range(s.num_steps + 1)]
    times = [s.timestep_shift * t / (1 + (s.timestep_shift - 1) * t) for t in points]
    for now, then in pairwise(times):
        x = x - (now - then) * by_hand(c, x, now, s, grid)
    return x


def draw(conditions: Sequence[Conditions], s: DrawSettings, *seeds: int, **options: Any) -> Tensor:
    return draw_latents(options.pop("model", MODEL), conditions, noise(*seeds), GRID, s, **options)


@pytest.mark.parametrize("renorm", ["global", "channel", "text_channel"])
@pytest.mark.parametrize("condition", [TEXTS[0], TEXTS[1], FROM_IMAGE], ids=["text", "context", "image"])
@pytest.mark.parametrize("image_scale", [1.0, 1.6])
def test_guided_velocity_is_separate_passes_combined(
    renorm: Any, condition: Conditions, image_scale: float
) -> None:
    s = replace(GUIDED, renorm=renorm, image_guidance_scale=image_scale, renorm_min=0.2)
    field = GuidedVelocity(MODEL, [condition], GRID, s)
    for t in (0.95, 0.7, 0.31, 0.1):
        x = noise(7)
        assert torch.allclose(field(x, t)[0], by_hand(condition, x[0], t, s), atol=1e-5)


@pytest.mark.parametrize(
    "settings", [PLAIN, GUIDED, replace(GUIDED, renorm="channel", image_guidance_scale=2.0)]
)
@pytest.mark.parametrize("condition", [TEXTS[1], FROM_IMAGE], ids=["text", "image"])
def test_drawing_is_the_released_loop(settings: DrawSettings, condition: Conditions) -> None:
    found = draw([condition], settings, 3)[0]
    assert torch.allclose(found, euler_by_hand(condition, noise(3)[0], settings), atol=2e-5)


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (1, 4)])
def test_any_grid(grid: tuple[int, int]) -> None:
    start = noise(3, grid=grid)
    found = draw_latents(MODEL, TEXTS[:1], start, grid, GUIDED)[0]
    assert torch.allclose(found, euler_by_hand(TEXTS[0], start[0], GUIDED, grid), atol=2e-5)


@pytest.mark.parametrize("renorm", ["global", "channel", "text_channel", "global_batch"])
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_a_batch_is_its_pictures_one_at_a_time(renorm: Any, solver: Any, device: str) -> None:
    """Texts of different lengths, with and without an image context; only the compat norm couples pictures."""
    model: UniX = tiny.build().to(device)
    s = replace(GUIDED, renorm=renorm, solver=solver, image_guidance_scale=1.5)
    together = draw(TEXTS, s, 1, 2, 3, model=model)
    alone = torch.cat([draw([c], s, seed, model=model) for c, seed in zip(TEXTS, (1, 2, 3), strict=True)])
    if renorm == "global_batch":
        assert not torch.allclose(together, alone, atol=1e-3)
    else:
        assert torch.allclose(together, alone, atol=2e-5)


def test_global_batch_takes_one_norm_over_all() -> None:
    s = replace(GUIDED, renorm="global_batch")
    x = noise(1, 2)
    found = GuidedVelocity(MODEL, TEXTS[:2], GRID, s)(x, 0.5)
    rows = [(uncached(c.full, x[i], 0.5), uncached(c.text_free, x[i], 0.5)) for i, c in enumerate(TEXTS[:2])]
    conditional, free = (torch.stack(part) for part in zip(*rows, strict=True))
    v = free + 3 * (conditional - free)
    assert torch.allclose(found, v * (conditional.norm() / v.norm()).clamp(max=1), atol=1e-5)


def test_guidance_changes_the_picture_and_only_inside_its_interval() -> None:
    off = draw(TEXTS[:1], PLAIN, 1)
    on = replace(PLAIN, guidance_scale=3.0)
    assert not torch.allclose(draw(TEXTS[:1], replace(on, guidance_interval=(0.0, 1.0)), 1), off, atol=1e-2)
    # steps at t = 1, 0.75, 0.5, 0.25: no step lies in (0.5, 0.74], one in (0.49, 0.5]
    assert torch.equal(draw(TEXTS[:1], replace(on, guidance_interval=(0.5, 0.74)), 1), off)
    assert not torch.allclose(draw(TEXTS[:1], replace(on, guidance_interval=(0.49, 0.5)), 1), off, atol=1e-4)


def test_the_text_and_the_latents_matter() -> None:
    pictures = [draw([c], PLAIN, seed) for c in TEXTS[:2] for seed in (1, 2)]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert not torch.allclose(one, other, atol=1e-3)


def test_image_guidance_without_a_context_is_stronger_text_guidance() -> None:
    """Scale s_t then s_i from the condition itself is 1 + s_i (s_t - 1) when nothing is renormalised."""
    free = replace(GUIDED, renorm_min=1.0)
    both = draw(TEXTS[:1], replace(free, guidance_scale=3.0, image_guidance_scale=1.5), 1)
    one = draw(TEXTS[:1], replace(free, guidance_scale=4.0), 1)
    assert torch.allclose(both, one, atol=2e-5)
    field = GuidedVelocity(MODEL, TEXTS[:1], GRID, replace(free, image_guidance_scale=1.5))
    assert field.num_copies(0.5) == 2, "no pass is spent on what is known"


def test_steps_are_told_with_times_and_pictures_so_far() -> None:
    told: list[tuple[int, float]] = []
    seen: list[Tensor] = []

    def on_step(step: int, x: Tensor, velocity: Tensor, t: float) -> None:
        told.append((step, t))
        seen.append(x)

    found = draw(TEXTS[:2], PLAIN, 1, 2, on_step=on_step)
    assert told == [(1, 0.75), (2, 0.5), (3, 0.25), (4, 0.0)]
    assert torch.equal(seen[-1], found)


def test_half_precision_draws_nearly_the_same_latents_in_float32() -> None:
    """Four steps of a tiny bfloat16 model; the solver itself stays float32."""
    exact = draw(TEXTS[:2], GUIDED, 1, 2)
    rough = draw(TEXTS[:2], GUIDED, 1, 2, model=tiny.build().bfloat16())
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() / exact.norm() < 0.03


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"guidance_scale": 0.5}, "guidance scales must be 1"),
        ({"image_guidance_scale": 0.0}, "guidance scales must be 1"),
        ({"guidance_scale": 1.0, "image_guidance_scale": 2.0}, "has no effect while guidance_scale is 1"),
        ({"guidance_interval": (0.5, 0.4)}, "guidance_interval must be"),
        ({"guidance_interval": (0.0, 1.1)}, "guidance_interval must be"),
        ({"timestep_shift": 0.0}, "timestep_shift must be above 0"),
        ({"renorm": "local"}, "unknown renorm 'local'; choose one of global, channel"),
        ({"renorm_min": 1.5}, "renorm_min must be"),
        ({"renorm_min": -0.1}, "renorm_min must be"),
        ({"solver": "rk4"}, "unknown solver 'rk4'; choose one of euler, heun"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DrawSettings(**settings)
