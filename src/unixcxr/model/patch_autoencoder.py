"""A small autoencoder for CPUs: whitened patch PCA as a linear skip, convolutions for what it leaves.

Letters: B batch, C latent channels, H W pixels, h w latents, P = `downsample` pixels along one side of a
latent.

The skip alone is the best linear autoencoder of P x P patches. The convolutional paths start as exact zeros,
so training starts there. No layer normalises over the picture: a latent does not depend on its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unixcxr.config import PatchAutoencoderConfig

_SMALLEST_VARIANCE = 1e-8


class PatchAutoencoder(nn.Module):
    """Picture in -1..1 <-> latents of zero mean and unit deviation per channel."""

    patch_mean: Tensor
    whiten: Tensor
    unwhiten: Tensor
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: PatchAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        pixels, channels = config.downsample**2, config.latent_channels
        self.register_buffer("patch_mean", torch.zeros(pixels))
        self.register_buffer("whiten", torch.zeros(channels, pixels))
        self.register_buffer("unwhiten", torch.zeros(pixels, channels))
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_std", torch.ones(channels))
        self.encoder = _build_encoder(config)
        self.decoder = _build_decoder(config)
        self.refine = nn.Sequential(
            nn.Conv2d(1, config.refine_width, 3, padding=1),
            nn.SiLU(),
            _zeroed(nn.Conv2d(config.refine_width, 1, 3, padding=1)),
        )

    def encode(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B C h w"]:
        """Turn pictures (float -1..1, sides multiples of P) into normalised latents."""
        patches = F.pixel_unshuffle(images, self.config.downsample)  # (B, P*P, h, w)
        skip = F.conv2d(patches - _spread(self.patch_mean), self.whiten[:, :, None, None])
        latents = skip + self.encoder(F.pixel_unshuffle(images, self.config.unshuffle))
        return (latents - _spread(self.latent_mean)) / _spread(self.latent_std)

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 1 H W"]:
        """Turn normalised latents into pictures, about -1..1 and not clamped."""
        latents = latents * _spread(self.latent_std) + _spread(self.latent_mean)
        patches = F.conv2d(latents, self.unwhiten[:, :, None, None]) + _spread(self.patch_mean)
        detail = F.pixel_shuffle(self.decoder(latents), self.config.unshuffle)
        image = F.pixel_shuffle(patches, self.config.downsample) + detail
        return image + self.refine(image)

    def channel_scales(self) -> Float[Tensor, " C"]:
        """Return how far one normalised unit of each latent channel moves a patch, through the linear skip."""
        return self.unwhiten.norm(dim=0) * self.latent_std

    @torch.no_grad()
    def fit_patches(self, images: Sequence[Tensor]) -> None:
        """Set the linear skip to the whitened principal components of all patches of `images` (B, 1, H, W).

        Components without variance are left out (their latents stay 0).
        """
        patches = torch.cat(
            [_patches(batch, self.config.downsample) for batch in images]
        ).double()  # (N, P*P)
        mean = patches.mean(dim=0)
        centred = patches - mean
        variance, basis = torch.linalg.eigh(centred.T @ centred / len(centred))  # ascending
        variance = variance.flip(0)[: self.config.latent_channels]
        basis = basis.flip(1)[:, : self.config.latent_channels]  # (P*P, C)
        std = variance.clamp_min(0).sqrt()
        alive = variance > _SMALLEST_VARIANCE
        self.patch_mean.copy_(mean)
        self.whiten.copy_(torch.where(alive[:, None], basis.T / std.clamp_min(1e-12)[:, None], 0.0))
        self.unwhiten.copy_(basis * torch.where(alive, std, 0.0))

    @torch.no_grad()
    def fit_latents(self, images: Sequence[Tensor]) -> None:
        """Set the per-channel mean and deviation so that latents of `images` are normalised."""
        latents = torch.cat([self.encode(batch).movedim(1, -1).flatten(0, -2) for batch in images])  # (N, C)
        raw = latents * self.latent_std + self.latent_mean
        self.latent_mean.copy_(raw.mean(dim=0))
        self.latent_std.copy_(raw.std(dim=0).clamp_min(1e-4))


class _ResBlock(nn.Module):
    """Two 3 x 3 convolutions beside an identity; the second starts as zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            _zeroed(nn.Conv2d(width, width, 3, padding=1)),
        )

    def forward(self, x: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        return x + self.layers(x)


def _build_encoder(config: PatchAutoencoderConfig) -> nn.Sequential:
    widths = config.widths
    layers: list[nn.Module] = [nn.Conv2d(config.unshuffle**2, widths[0], 3, padding=1), _ResBlock(widths[0])]
    for width, wider in pairwise(widths):
        layers += [nn.SiLU(), nn.Conv2d(width, wider, 3, stride=2, padding=1), _ResBlock(wider)]
    layers += [_ResBlock(widths[-1]), nn.SiLU()]
    layers.append(_zeroed(nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1)))
    return nn.Sequential(*layers)


def _build_decoder(config: PatchAutoencoderConfig) -> nn.Sequential:
    widths = config.widths[::-1]
    layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)]
    layers += [_ResBlock(widths[0]), _ResBlock(widths[0])]
    for width, narrower in pairwise(widths):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, narrower, 3, padding=1), _ResBlock(narrower)]
    layers += [nn.SiLU(), _zeroed(nn.Conv2d(widths[-1], config.unshuffle**2, 3, padding=1))]
    return nn.Sequential(*layers)


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _spread(values: Float[Tensor, " C"]) -> Float[Tensor, "C 1 1"]:
    return values[:, None, None]


def _patches(images: Float[Tensor, "B 1 H W"], size: int) -> Float[Tensor, "N pixels"]:
    return F.pixel_unshuffle(images, size).movedim(1, -1).flatten(0, -2)
