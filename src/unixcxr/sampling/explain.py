"""Where the text looked: attention from written tokens to the read image. It shows attention, not causes.

Letters: H heads, S queries, T keys, K head size.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unixcxr.batch import Batch
from unixcxr.model.unix import UniX


@torch.no_grad()
def image_attention(model: UniX, batch: Batch, queries: range) -> Float[Tensor, "rows columns"]:
    """Run one uncached pass over one sample; return mean attention of the tokens at `queries` to each patch.

    The mean is over the heads of the last third of the layers and over the tokens; it sums to at most 1.
    """
    assert batch.und.image_slots is not None, "this sample reads no image"
    slots = batch.und.image_slots[0]
    maps: list[Tensor] = []

    def record(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        q, k, _, mask = inputs
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        picked = q[0, :, queries.start : queries.stop].float()  # H S K
        scores = picked @ k[0].float().transpose(-1, -2) * q.shape[-1] ** -0.5
        scores = scores.masked_fill(~mask[0, :, queries.start : queries.stop], -torch.inf)
        maps.append(scores.softmax(-1)[:, :, slots].mean((0, 1)))

    num_layers = len(model.blocks)
    probed = model.blocks[num_layers - max(1, num_layers // 3) :]
    hooks = [block.get_submodule("attention").register_forward_hook(record) for block in probed]
    try:
        model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    grid = model.config.vision.grid_size
    return torch.stack(maps).mean(0).unflatten(0, (grid, grid)).cpu()
