"""Classifier-free guidance with renormalisation, per sample.

Letters: B samples, G tokens, C channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

NORM_AXES: dict[str, tuple[int, ...]] = {
    "global": (1, 2),
    "channel": (2,),
    "text_channel": (2,),
    "global_batch": (0, 1, 2),
}
"""Over which axes of (B, G, C) a renormalisation takes its norm.

"global_batch" is what the released code computes for a batch: one norm over all its pictures.
"""


def guide(
    conditional: Float[Tensor, "B G C"],
    text_free: Float[Tensor, "B G C"],
    image_free: Float[Tensor, "B G C"] | None,
    *,
    text_scale: float,
    image_scale: float = 1.0,
    renorm: str = "global",
    renorm_min: float = 0.0,
) -> Float[Tensor, "B G C"]:
    """Combine velocities: v = u + s (c - u), then towards text and image from the image-free one, then shrink.

    The result is scaled by clamp(|c| / |v|, renorm_min, 1), so guidance never lengthens the velocity.
    "text_channel" shrinks the text step alone, before the image step.
    """
    guided = text_free + text_scale * (conditional - text_free)
    if renorm == "text_channel":
        guided = _shrink(guided, conditional, renorm, renorm_min)
    if image_free is not None and image_scale > 1:
        guided = image_free + image_scale * (guided - image_free)
    return guided if renorm == "text_channel" else _shrink(guided, conditional, renorm, renorm_min)


def is_active(timestep: float, interval: tuple[float, float]) -> bool:
    """Say whether guidance acts at this time: low < t <= high (Kynkäänniemi et al. 2024).

    Compared in float32, as times are: 0.4 on a grid is 0.4000000060, which must not lie above a low end of 0.4.
    """
    low, now, high = torch.tensor([interval[0], timestep, interval[1]], dtype=torch.float32).tolist()
    return bool(low < now <= high)


def _shrink(
    guided: Float[Tensor, "B G C"], conditional: Float[Tensor, "B G C"], renorm: str, renorm_min: float
) -> Float[Tensor, "B G C"]:
    axes = NORM_AXES[renorm]
    length = guided.square().sum(axes, keepdim=True).sqrt()
    wanted = conditional.square().sum(axes, keepdim=True).sqrt()
    return guided * (wanted / (length + 1e-8)).clamp(renorm_min, 1.0)
