"""Representation alignment of the gen stream to a frozen image encoder (REPA, Yu et al. 2024).

Letters: B pictures, G latent tokens, T encoder tokens, D transformer width, E encoder width.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

PROJECTOR_WIDTH = 2048
ALIGNED_LAYER = 7
"""The eighth gen layer, counted from 0; the released code takes index 8, the ninth."""


class AlignmentProjector(nn.Module):
    """Three linear layers with SiLU, from the gen stream's width to the encoder's."""

    def __init__(self, width: int, encoder_width: int, hidden_width: int = PROJECTOR_WIDTH) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden_width),
            nn.SiLU(),
            nn.Linear(hidden_width, hidden_width),
            nn.SiLU(),
            nn.Linear(hidden_width, encoder_width),
        )

    def forward(self, x: Float[Tensor, "B G D"]) -> Float[Tensor, "B G E"]:
        return self.layers(x)


def alignment_loss(
    projected: Float[Tensor, "B G E"],
    grid: tuple[int, int],
    features: Float[Tensor, "B T E"],
    feature_grid: tuple[int, int],
) -> Float[Tensor, ""]:
    """Return the mean negative cosine similarity, the encoder's grid interpolated in 2-D to the latents' grid."""
    if feature_grid != grid:
        maps = features.transpose(1, 2).unflatten(2, feature_grid)
        maps = F.interpolate(maps, size=grid, mode="bilinear", align_corners=False)
        features = maps.flatten(2).transpose(1, 2)
    return -F.cosine_similarity(projected, features, dim=-1).mean()


def released_alignment_loss(
    projected: Float[Tensor, "B G E"], features: Float[Tensor, "B T E"]
) -> Float[Tensor, ""]:
    """Return the alignment loss as the released code computes it (compat).

    Normalised projections are interpolated in 1-D to the encoder's token count without being normalised again,
    and the mean is divided by the batch size once more.
    """
    projected, features = F.normalize(projected, dim=-1), F.normalize(features, dim=-1)
    if projected.shape[1] != features.shape[1]:
        projected = F.interpolate(
            projected.transpose(1, 2), size=features.shape[1], mode="linear", align_corners=False
        ).transpose(1, 2)
    similarity = (projected * features).sum(-1)
    return -similarity.mean() / projected.shape[0]
