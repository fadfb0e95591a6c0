"""Encode what is given once: its keys and values serve every later token, step and guidance row.

Letters: B samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unixcxr.batch import Example
from unixcxr.data.collate import collate, next_position
from unixcxr.model.cache import Cache
from unixcxr.model.unix import UniX


@dataclass(frozen=True)
class Prefix:
    """Cached examples and, for each, the rotary position that follows it."""

    cache: Cache
    positions: tuple[int, ...]

    def select(self, rows: Sequence[int | None]) -> Prefix:
        """Return the prefix of other rows; None stands for no prefix at all."""
        positions = tuple(0 if row is None else self.positions[row] for row in rows)
        return Prefix(self.cache.select(rows), positions)


@torch.no_grad()
def encode_prefix(model: UniX, examples: Sequence[Example], num_more: int) -> Prefix:
    """Run examples through the model into a new cache with room for `num_more` tokens."""
    weight = model.latent_in.weight
    batch = collate(examples, model.config).to(weight.device, weight.dtype)
    cache = model.new_cache(len(examples), batch.layout.order.shape[1] + num_more)
    model(batch, cache)
    return Prefix(cache, tuple(next_position(example) for example in examples))
