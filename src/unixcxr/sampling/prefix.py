"""Encode what is given once: its keys and values serve every later token, step and guidance row.

Letters: B samples.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unixcxr.batch import Example, TextSegment
from unixcxr.data.collate import collate, next_position
from unixcxr.model.cache import Cache
from unixcxr.model.unix import UniX

Key = tuple[tuple[int, ...] | str, ...]


@dataclass(frozen=True)
class Prefix:
    """Cached examples and, for each, the rotary position that follows it."""

    cache: Cache
    positions: tuple[int, ...]

    def select(self, rows: Sequence[int | None]) -> Prefix:
        """Return the prefix of other rows; None stands for no prefix at all."""
        positions = tuple(0 if row is None else self.positions[row] for row in rows)
        return Prefix(self.cache.select(rows), positions)

    @classmethod
    def concat(cls, prefixes: Sequence[Prefix], num_more: int = 0) -> Prefix:
        """Return the rows of all, with room for `num_more` tokens."""
        positions = tuple(position for prefix in prefixes for position in prefix.positions)
        return cls(Cache.concat([prefix.cache for prefix in prefixes], num_more), positions)


@torch.no_grad()
def encode_prefix(model: UniX, examples: Sequence[Example], num_more: int) -> Prefix:
    """Run examples through the model into a new cache with room for `num_more` tokens."""
    batch = collate(examples, model.config).to(model.device, model.dtype)
    cache = model.new_cache(len(examples), batch.layout.order.shape[1] + num_more)
    model(batch, cache)
    return Prefix(cache, tuple(next_position(example) for example in examples))


class PrefixStore:
    """Encodes each different example once, and remembers the last ones up to `budget_bytes`."""

    def __init__(self, model: UniX, budget_bytes: int = 0) -> None:
        self.model = model
        self.budget_bytes = budget_bytes
        self._kept: OrderedDict[Key, Prefix] = OrderedDict()

    def encode(self, examples: Sequence[Example]) -> Prefix:
        """Return a row for each example; one without segments has no prefix at all."""
        keys = [_key(example) for example in examples]
        missing = {
            key: example
            for key, example in zip(keys, examples, strict=True)
            if example.segments and key not in self._kept
        }
        rows = {key: self._kept[key] for key in keys if key in self._kept}
        rows[()] = Prefix(self.model.new_cache(1, 0), (0,))
        if missing:
            encoded = encode_prefix(self.model, list(missing.values()), 0)
            for row, key in enumerate(missing):
                rows[key] = encoded.select([row])
                rows[key].cache.compact()
        self._keep({key: rows[key] for key in keys if key})
        return Prefix.concat([rows[key] for key in keys])

    def _keep(self, rows: dict[Key, Prefix]) -> None:
        for key, prefix in rows.items():
            self._kept[key] = prefix
            self._kept.move_to_end(key)
        while sum(prefix.cache.num_bytes for prefix in self._kept.values()) > self.budget_bytes:
            self._kept.popitem(last=False)


def _key(example: Example) -> Key:
    """Name what an example holds: its token ids, and a digest of its pixels or latents."""
    parts: list[tuple[int, ...] | str] = []
    for segment in example.segments:
        if isinstance(segment, TextSegment):
            parts.append(segment.token_ids)
            continue
        tensor = getattr(segment, "pixels", None)
        tensor = segment.latent if tensor is None else tensor  # type: ignore[union-attr]
        digest = hashlib.sha256(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        parts.append(f"{type(segment).__name__} {tuple(tensor.shape)} {digest.hexdigest()}")
    return tuple(parts)
