"""The kl-f16 autoencoder of latent diffusion (Rombach et al. 2022, arXiv 2112.10752), in UniX's configuration.

Letters: B batch, H and W pixels, h and w latents (H / downsample), C latent channels.

Modules carry the names of the CompVis checkpoints, so that those load without a key map.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unixcxr.config import KlAutoencoderConfig, PatchAutoencoderConfig
from unixcxr.config.model import KL_NORM_GROUPS
from unixcxr.model.patch_autoencoder import PatchAutoencoder

NORM_EPS = 1e-6


class ResBlock(nn.Module):
    """Two normalised convolutions with swish, and a shortcut."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.norm1 = _norm(in_width)
        self.conv1 = nn.Conv2d(in_width, out_width, 3, padding=1)
        self.norm2 = _norm(out_width)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1)
        if in_width != out_width:
            self.nin_shortcut = nn.Conv2d(in_width, out_width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if self.conv1.in_channels != self.conv1.out_channels else x)


class AttnBlock(nn.Module):
    """Single-head self-attention over all places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.q = nn.Conv2d(width, width, 1)
        self.k = nn.Conv2d(width, width, 1)
        self.v = nn.Conv2d(width, width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (p(h).flatten(2).transpose(1, 2)[:, None] for p in (self.q, self.k, self.v))  # B 1 hw c
        attended = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.proj_out(attended)


class Downsample(nn.Module):
    """Halve the sides; padded on the right and bottom only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the sides by repetition, then convolve."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks of one resolution, with attention behind each where asked for, and a resampling."""

    def __init__(self, in_width: int, out_width: int, num_blocks: int, has_attention: bool) -> None:
        super().__init__()
        widths = [in_width, *[out_width] * num_blocks]
        self.block = nn.ModuleList(ResBlock(a, b) for a, b in pairwise(widths))
        self.attn = nn.ModuleList(AttnBlock(out_width) for _ in range(num_blocks if has_attention else 0))
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[index](x)
        resample = self.downsample or self.upsample
        return x if resample is None else resample(x)


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(width, width)
        self.attn_1 = AttnBlock(width)
        self.block_2 = ResBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Pixels to features of twice the latent channels."""

    def __init__(self, config: KlAutoencoderConfig) -> None:
        super().__init__()
        widths = [config.base_width * m for m in config.width_multipliers]
        self.conv_in = nn.Conv2d(config.in_channels, config.base_width, 3, padding=1)
        self.down = nn.ModuleList()
        for index, (before, after) in enumerate(zip([config.base_width, *widths], widths, strict=False)):
            level = Level(before, after, config.num_res_blocks, index in config.attention_levels)
            if index < len(widths) - 1:
                level.downsample = Downsample(after)
            self.down.append(level)
        self.mid = Middle(widths[-1])
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latents to pixels; level 0 is the highest resolution, as in the encoder."""

    def __init__(self, config: KlAutoencoderConfig) -> None:
        super().__init__()
        widths = [config.base_width * m for m in config.width_multipliers]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList()
        for index, after in enumerate(widths):
            before = widths[min(index + 1, len(widths) - 1)]
            level = Level(before, after, config.num_res_blocks + 1, index in config.attention_levels)
            if index > 0:
                level.upsample = Upsample(after)
            self.up.append(level)
        self.norm_out = _norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.in_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class KlAutoencoder(nn.Module):
    """Pixels in -1..1 to normalised latents and back."""

    def __init__(self, config: KlAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)

    def encode(
        self, images: Float[Tensor, "B channels H W"], noise: Float[Tensor, "B C h w"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Return normalised latents: the posterior's mean, or with `noise` (standard normal) a sample of it."""
        mean, log_variance = self.quant_conv(self.encoder(images)).chunk(2, dim=1)
        if noise is not None:
            mean = mean + torch.exp(0.5 * log_variance.clamp(-30.0, 20.0)) * noise
        return self.config.scale * (mean - self.config.shift)

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B channels H W"]:
        """Return pixels around -1..1, not clamped."""
        return self.decoder(self.post_quant_conv(latents / self.config.scale + self.config.shift))


Autoencoder = KlAutoencoder | PatchAutoencoder


def build_autoencoder(config: KlAutoencoderConfig | PatchAutoencoderConfig) -> Autoencoder:
    """Build the autoencoder that a config describes, with fresh weights."""
    return PatchAutoencoder(config) if isinstance(config, PatchAutoencoderConfig) else KlAutoencoder(config)


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(KL_NORM_GROUPS, width, eps=NORM_EPS)
