"""Who may attend to whom.

Letters: B batch, Q queries, K keys.

Text is causal. A read or context picture with its markers is full among itself and sees everything before it.
A noisy picture is full among itself, sees everything before it, and nobody outside sees it. Because all tokens
of a picture share one rank (`Layout.order`), one comparison of ranks says all of this.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from unixcxr.batch import Layout


def visible(queries: Layout, keys: Layout) -> Bool[Tensor, "B Q K"]:
    """Return which keys each query may attend to, both from the same samples."""
    query_order, key_order = queries.order[:, :, None], keys.order[:, None, :]
    before = key_order <= query_order
    own_block = key_order == query_order
    seen = before & (~keys.noisy[:, None, :] | own_block) & (key_order >= 0)
    # A padding query attends to everything: its result is never used, and a softmax over nothing is not finite.
    return seen | (query_order < 0)


def joint_mask(layout: Layout, cached: Bool[Tensor, "B past"] | None) -> Bool[Tensor, "B 1 S K"]:
    """Return the attention mask of new tokens over [cached, new] keys.

    A cached token belongs to what came before, so every new token of its sample sees it.
    """
    mask = visible(layout, layout)
    if cached is not None:
        past = cached[:, None, :].expand(-1, mask.shape[1], -1)
        mask = torch.cat([past, mask], dim=2)
    return mask[:, None]
