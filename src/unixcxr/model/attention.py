"""Attention over the tokens of both streams at once (UniX, arXiv 2601.11522, eqs. 3-5).

Letters: B batch, H heads, S queries, T keys, K head size.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class JointAttention(nn.Module):
    """Softmax attention with grouped key-value heads; it has no weights, and hooks on it see q, k and the mask."""

    def forward(
        self,
        q: Float[Tensor, "B H S K"],
        k: Float[Tensor, "B kv T K"],
        v: Float[Tensor, "B kv T K"],
        mask: Bool[Tensor, "B 1 S T"],
    ) -> Float[Tensor, "B S width"]:
        groups = q.shape[1] // k.shape[1]
        if groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        joined = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return joined.transpose(1, 2).flatten(2)
