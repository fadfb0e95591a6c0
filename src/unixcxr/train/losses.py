"""What each objective minimises.

Letters: B batch, U und tokens, N logits or images, V vocabulary, G latent tokens, C channels, L labels.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unixcxr.batch import IGNORE, Batch


def text_loss(logits: Float[Tensor, "N V"], batch: Batch) -> Float[Tensor, ""]:
    """Return the cross-entropy of the wanted tokens, averaged with their weights."""
    assert batch.label_ids is not None, "this batch predicts no text"
    assert batch.label_weights is not None, "this batch predicts no text"
    wanted = batch.label_ids != IGNORE
    weights = batch.label_weights[wanted]
    losses = F.cross_entropy(logits.float(), batch.label_ids[wanted], reduction="none")
    return (weights * losses).sum() / weights.sum()


def velocity_loss(
    velocity: Float[Tensor, "B G C"], target: Float[Tensor, "B G C"], channel_weights: Float[Tensor, " C"]
) -> Float[Tensor, ""]:
    """Return the mean squared velocity error (UniX, eq. 2), its channels weighed by weights of mean 1."""
    return ((velocity.float() - target).square() * channel_weights).mean()


def label_loss(logits: Float[Tensor, "N L"], targets: Float[Tensor, "N L"]) -> Float[Tensor, ""]:
    """Return the binary cross-entropy over the known targets (0 or 1); NaN marks an unknown one."""
    known = ~targets.isnan()
    return F.binary_cross_entropy_with_logits(logits.float()[known], targets[known])


def reconstruction_loss(
    images: Float[Tensor, "B 1 H W"], truth: Float[Tensor, "B 1 H W"]
) -> Float[Tensor, ""]:
    """Return the absolute error of grey levels plus half that of their differences along both axes.

    The differences keep thin lines: a catheter is few pixels of a picture and most of its edges.
    """
    error = images.float() - truth
    return error.abs().mean() + 0.5 * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
