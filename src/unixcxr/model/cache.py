"""Keys and values of a prefix, preallocated; they serve every decoding or denoising step.

Letters: B batch, H key-value heads, T slots, S new tokens, K head size.

Slots fill in the order tokens arrive, the same slot for all rows; a row that has nothing there marks it invalid.
A row that joins later starts in the first slots again; the slots between are holes in it.
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

    Rows come and go: the buffers may be larger than `batch_size` rows, and a slot may be a hole in some rows.
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
        self.batch_size = batch_size
        self.length = 0
        self.is_frozen = False

    @classmethod
    def concat(cls, caches: Sequence[Cache], num_more: int = 0) -> Cache:
        """Return a new cache with the rows of all, and room for `num_more` tokens."""
        first = caches[0]
        rows, length = sum(cache.batch_size for cache in caches), max(cache.length for cache in caches)
        joined = first._sized(rows, length + num_more)
        joined.batch_size = 0
        for cache in caches:
            joined.append(cache)
        return joined

    @property
    def valid(self) -> Bool[Tensor, "B past"]:
        """Return which filled slots hold a visible token."""
        return self._valid[: self.batch_size, : self.length]

    @property
    def num_bytes(self) -> int:
        """Bytes of the buffers."""
        return sum(buffer.nbytes for buffer in (*self.keys, *self.values))

    def reserve(self, num_tokens: int) -> None:
        """Make sure that `num_tokens` more tokens fit, at least doubling the buffers when they do not."""
        capacity = self._valid.shape[1]
        if self.length + num_tokens > capacity:
            self._grow(0, max(capacity, self.length + num_tokens - capacity))

    def extend(
        self, layer: int, keys: Float[Tensor, "B H S K"], values: Float[Tensor, "B H S K"]
    ) -> tuple[Float[Tensor, "B H T K"], Float[Tensor, "B H T K"]]:
        """Write a layer's new keys and values behind the filled slots; return old and new together."""
        rows, end = self.batch_size, self.length + keys.shape[2]
        self.keys[layer][:rows, :, self.length : end] = keys
        self.values[layer][:rows, :, self.length : end] = values
        return self.keys[layer][:rows, :, :end], self.values[layer][:rows, :, :end]

    def commit(self, layout: Layout) -> None:
        """Keep the tokens of the pass that has just run; noisy and padding tokens stay invisible."""
        if self.is_frozen:
            return
        end = self.length + layout.order.shape[1]
        self._valid[: self.batch_size, self.length : end] = layout.valid & ~layout.noisy
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
        chosen.batch_size, chosen.length, chosen.is_frozen = len(rows), self.length, self.is_frozen
        return chosen

    def append(self, other: Cache) -> None:
        """Add the rows of another cache behind ours, in our first slots; ours stay where they are."""
        first, last = self.batch_size, self.batch_size + other.batch_size
        more_rows, more_slots = last - self._valid.shape[0], other.length - self._valid.shape[1]
        if more_rows > 0 or more_slots > 0:
            self._grow(max(more_rows, first) if more_rows > 0 else 0, max(more_slots, 0))
        for ours, theirs in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            ours[first:last, :, : other.length] = theirs[: other.batch_size, :, : other.length]
        self._valid[first:last] = False
        self._valid[first:last, : other.length] = other.valid
        self.batch_size, self.length = last, max(self.length, other.length)

    def remove(self, row: int) -> None:
        """Take a row out; the last row moves to its place."""
        last = self.batch_size - 1
        if row != last:
            for buffer in (*self.keys, *self.values, self._valid):
                buffer[row] = buffer[last]
        self._valid[last] = False
        self.batch_size = last

    def compact(self) -> None:
        """Drop the slots that no row uses."""
        used = self.valid.any(0).nonzero()[:, 0]
        if len(used) == self.length:
            return
        rows = self.batch_size
        for buffer in (*self.keys, *self.values):
            buffer[:rows, :, : len(used)] = buffer[:rows, :, used]
        valid = self._valid[:rows, used]
        self._valid[:] = False
        self._valid[:rows, : len(used)] = valid
        self.length = len(used)

    def _sized(self, num_rows: int, capacity: int) -> Cache:
        """Return an empty cache like this one, of another size."""
        made = Cache.__new__(Cache)
        _, heads, _, size = self.keys[0].shape
        made.keys = [k.new_zeros(num_rows, heads, capacity, size) for k in self.keys]
        made.values = [v.new_zeros(num_rows, heads, capacity, size) for v in self.values]
        made._valid = self._valid.new_zeros(num_rows, capacity)
        made.batch_size, made.length, made.is_frozen = num_rows, 0, False
        return made

    def _grow(self, num_rows: int, num_slots: int) -> None:
        pad = torch.nn.functional.pad
        self.keys = [pad(k, (0, 0, 0, num_slots, 0, 0, 0, num_rows)) for k in self.keys]
        self.values = [pad(v, (0, 0, 0, num_slots, 0, 0, 0, num_rows)) for v in self.values]
        self._valid = pad(self._valid, (0, num_slots, 0, num_rows))
