"""Keys and values of a prefix, preallocated; they serve every decoding or denoising step.

Letters: B batch, H key-value heads, T slots, S new tokens, K head size.

Slots fill in the order tokens arrive, the same slot for all rows; a row that has nothing there marks it invalid.
Rotary positions are already in the keys, so slots need no order of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unixcxr.batch import Layout
from unixcxr.config import TransformerConfig


class Cache:
    """One pair of key and value buffers a layer, and which slots of each row hold a visible token.

    A frozen cache lends its free slots to new tokens for one forward pass and keeps nothing of them.
    """

    def __init__(
        self,
        config: TransformerConfig,
        batch_size: int,
        capacity: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (batch_size, config.num_kv_heads, capacity, config.head_size)
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self._valid = torch.zeros((batch_size, capacity), device=device, dtype=torch.bool)
        self.length = 0
        self.is_frozen = False

    @property
    def batch_size(self) -> int:
        """Rows."""
        return self._valid.shape[0]

    @property
    def valid(self) -> Bool[Tensor, "B past"]:
        """Return which filled slots hold a visible token."""
        return self._valid[:, : self.length]

    def reserve(self, num_tokens: int) -> None:
        """Make sure that `num_tokens` more tokens fit, at least doubling the buffers when they do not."""
        capacity = self._valid.shape[1]
        if self.length + num_tokens <= capacity:
            return
        extra = max(capacity, self.length + num_tokens - capacity)
        pad = torch.nn.functional.pad
        self.keys = [pad(k, (0, 0, 0, extra)) for k in self.keys]
        self.values = [pad(v, (0, 0, 0, extra)) for v in self.values]
        self._valid = pad(self._valid, (0, extra))

    def extend(
        self, layer: int, keys: Float[Tensor, "B H S K"], values: Float[Tensor, "B H S K"]
    ) -> tuple[Float[Tensor, "B H T K"], Float[Tensor, "B H T K"]]:
        """Write a layer's new keys and values behind the filled slots; return old and new together."""
        end = self.length + keys.shape[2]
        self.keys[layer][:, :, self.length : end] = keys
        self.values[layer][:, :, self.length : end] = values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def commit(self, layout: Layout) -> None:
        """Keep the tokens of the pass that has just run; noisy and padding tokens stay invisible."""
        if self.is_frozen:
            return
        end = self.length + layout.order.shape[1]
        self._valid[:, self.length : end] = layout.valid & ~layout.noisy
        self.length = end

    def freeze(self) -> Cache:
        """Stop keeping tokens, and return the cache itself."""
        self.is_frozen = True
        return self

    def select(self, rows: Sequence[int | None]) -> Cache:
        """Return a new cache whose row i copies row `rows[i]`, or is empty where that is None."""
        picked = torch.tensor([0 if row is None else row for row in rows], device=self._valid.device)
        kept = torch.tensor([row is not None for row in rows], device=self._valid.device)
        chosen = Cache.__new__(Cache)
        chosen.keys = [k[picked] for k in self.keys]
        chosen.values = [v[picked] for v in self.values]
        chosen._valid = self._valid[picked] & kept[:, None]
        chosen.length, chosen.is_frozen = self.length, self.is_frozen
        return chosen
