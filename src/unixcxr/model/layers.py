"""The small parts: norm, rotary positions, MLP, time embedding, 2-D position table.

Letters: B batch, S sequence, D width, H heads, K head size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

TIME_FREQUENCIES = 256


class RMSNorm(nn.Module):
    """Scale by the root mean square, computed in float32, cast back, then weighted (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape width"]:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class SwiGLU(nn.Module):
    """Gated MLP: down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden_width, bias=False)
        self.up = nn.Linear(width, hidden_width, bias=False)
        self.down = nn.Linear(hidden_width, width, bias=False)

    def forward(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class TimeEmbedding(nn.Module):
    """Embed a time in [0, 1], not scaled: [cos | sin] of 128 frequencies, then two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(TIME_FREQUENCIES, width)
        self.out = nn.Linear(width, width)

    def forward(self, timesteps: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape D"]:
        features = time_features(timesteps).to(self.hidden.weight.dtype)
        return self.out(F.silu(self.hidden(features)))


def time_features(timesteps: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape F"]:
    """Return [cos(t w) | sin(t w)] for w_k = 10000^(-k / 128), in float32."""
    half = TIME_FREQUENCIES // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[..., None] * torch.exp(-math.log(10000.0) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def rope_table(
    positions: Int[Tensor, "B S"], head_size: int, theta: float, rounded: bool
) -> tuple[Float[Tensor, "B 1 S K"], Float[Tensor, "B 1 S K"]]:
    """Return cosines and sines of rotary positions in float32, both halves of K alike (Su et al. 2021).

    `rounded` rounds the frequencies to bfloat16, as a released model cast whole to bfloat16 has them.
    """
    exponents = torch.arange(0, head_size, 2, dtype=torch.float32, device=positions.device) / head_size
    inverse = 1.0 / theta**exponents
    if rounded:
        inverse = inverse.bfloat16().float()
    angles = positions[:, None, :, None].float() * inverse
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(
    x: Float[Tensor, "B H S K"], cos: Float[Tensor, "B 1 S K"], sin: Float[Tensor, "B 1 S K"]
) -> Float[Tensor, "B H S K"]:
    """Apply rotary positions, in float32: x cos + rotate_half(x) sin."""
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def sincos_table(width: int, grid_size: int) -> Float[Tensor, "places D"]:
    """Build the fixed 2-D position table, row-major, computed in float64.

    The first half of the width encodes the column, the second the row; each half is [sin | cos].
    """
    rows, columns = torch.meshgrid(*[torch.arange(grid_size, dtype=torch.float64)] * 2, indexing="ij")
    quarter = width // 4
    frequencies = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)

    def encode(places: Tensor) -> Tensor:
        angles = places.reshape(-1, 1) * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    return torch.cat([encode(columns), encode(rows)], dim=1).float()
