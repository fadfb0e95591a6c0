"""The encoder of read images: SigLIP's vision transformer and the connector into the transformer's width.

Letters: N images, P pixels a side, T patches, E vision width, D transformer width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unixcxr.config import VisionConfig
from unixcxr.config.model import STEM_NORM_GROUPS, STEM_UNSHUFFLE


class VisionBlock(nn.Module):
    """Pre-norm transformer layer with exact GELU (Zhai et al. 2023)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.attn_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.mlp_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp_up = nn.Linear(config.width, config.mlp_width)
        self.mlp_down = nn.Linear(config.mlp_width, config.width)

    def forward(self, x: Float[Tensor, "N T E"]) -> Float[Tensor, "N T E"]:
        qkv = self.qkv(self.attn_norm(x)).unflatten(-1, (3, self.num_heads, -1))  # N T 3 H K
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp_down(F.gelu(self.mlp_up(self.mlp_norm(x))))


class ConvStem(nn.Module):
    """Pixel unshuffle by 4, then stride-2 convolutions down to the patch grid."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        widths, groups = config.stem_widths, STEM_NORM_GROUPS
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(STEM_UNSHUFFLE),
            nn.Conv2d(config.in_channels * STEM_UNSHUFFLE**2, widths[0], 3, padding=1),
        ]
        for before, after in pairwise(widths):
            layers += [nn.GroupNorm(groups, before), nn.GELU()]
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1)]
        layers += [nn.GroupNorm(groups, widths[-1]), nn.GELU(), nn.Conv2d(widths[-1], config.width, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Float[Tensor, "N channels P P"]) -> Float[Tensor, "N E side side"]:
        return self.layers(images)


class VisionTower(nn.Module):
    """Patches with learned positions, transformer layers, final norm; no class token, no pooling."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.stem: nn.Module
        if config.stem == "conv":
            self.stem = ConvStem(config)
        else:
            self.stem = nn.Conv2d(
                config.in_channels, config.width, config.patch_size, stride=config.patch_size
            )
        self.positions = nn.Parameter(0.02 * torch.randn(config.num_tokens, config.width))
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, images: Float[Tensor, "N channels P P"]) -> Float[Tensor, "N T E"]:
        x = self.stem(images).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Connector(nn.Module):
    """Two linear layers from vision width to transformer width.

    The released weights were trained with exact GELU and are run with tanh GELU by the released inference;
    `connector_gelu` says which.
    """

    def __init__(self, config: VisionConfig, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.width, width)
        self.out = nn.Linear(width, width)
        self.approximate = "tanh" if config.connector_gelu == "tanh" else "none"

    def forward(self, x: Float[Tensor, "N T E"]) -> Float[Tensor, "N T D"]:
        return self.out(F.gelu(self.hidden(x), approximate=self.approximate))
