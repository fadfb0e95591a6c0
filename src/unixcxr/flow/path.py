"""The straight path between a picture and noise (rectified flow, Liu et al. 2022; UniX eq. 2).

t = 0 is the picture, t = 1 is noise: x_t = (1 - t) x + t e, and the velocity is v = e - x.
Letters: B samples; any further axes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def interpolate(
    picture: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], timesteps: Float[Tensor, "*times"]
) -> Float[Tensor, "*shape"]:
    """Return x_t; `timesteps` broadcasts from the left, one time per leading axis given."""
    t = _expand(timesteps, picture)
    return (1 - t) * picture + t * noise


def velocity_target(
    picture: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Return what the network is to predict: noise - picture."""
    return noise - picture


def picture_from_velocity(
    noisy: Float[Tensor, "*shape"], velocity: Float[Tensor, "*shape"], timesteps: Float[Tensor, "*times"]
) -> Float[Tensor, "*shape"]:
    """Return the picture that x_t and its velocity imply: x_t - t v."""
    return noisy - _expand(timesteps, noisy) * velocity


def shift_time(timesteps: Float[Tensor, "*times"], shift: float) -> Float[Tensor, "*times"]:
    """Move times towards noise: t <- s t / (1 + (s - 1) t) (Esser et al. 2024, eq. 23)."""
    return shift * timesteps / (1 + (shift - 1) * timesteps)


def sample_timesteps(num_samples: int, shift: float, generator: torch.Generator) -> Float[Tensor, " B"]:
    """Draw training times: the sigmoid of a standard normal (logit-normal), then shifted."""
    return shift_time(torch.randn(num_samples, generator=generator).sigmoid(), shift)


def time_grid(num_steps: int, shift: float, start: float = 1.0) -> Float[Tensor, " points"]:
    """Return the num_steps + 1 times of sampling, from `start` down to 0, shifted.

    The released code's `num_timesteps=50` is num_steps = 49.
    """
    return shift_time(torch.linspace(start, 0.0, num_steps + 1), shift)


def _expand(timesteps: Tensor, like: Tensor) -> Tensor:
    return timesteps.reshape(*timesteps.shape, *[1] * (like.ndim - timesteps.ndim))
