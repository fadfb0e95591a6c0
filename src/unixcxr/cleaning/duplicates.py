"""Find pictures that are the same but for size, contrast or compression, among any number of them.

The hash is a difference hash (dHash, N. Krawetz 2013) of 16 x 16 bits: a picture shrunk to 17 x 16, each pixel
compared with its right neighbour. Near pairs are found by the pigeonhole principle: two hashes that differ in at most
d bits agree in at least one of d + 1 bands, so only pictures that share a band are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from PIL import Image

HASH_PX = 16
HASH_BITS = HASH_PX * HASH_PX
_COMPARE_AT_ONCE = 2048


def picture_hash(image: np.ndarray) -> bytes:
    """Return the 256-bit difference hash of a picture, uint8 (H, W), as 32 bytes."""
    small = Image.fromarray(image).resize((HASH_PX + 1, HASH_PX), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1]).tobytes()


def near_pairs(hashes: np.ndarray, max_distance: int) -> Iterator[tuple[int, int, int]]:
    """Yield (i, j, distance) with i < j, each once, for hashes uint8 (N, 32) that differ in few bits."""
    bits = np.unpackbits(hashes, axis=1)
    seen: set[tuple[int, int]] = set()
    for columns in np.array_split(np.arange(HASH_BITS), max_distance + 1):
        bands = np.ascontiguousarray(np.packbits(bits[:, columns], axis=1))
        keys = bands.view(np.dtype((np.void, bands.shape[1]))).ravel()
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1], True])
        for start, end in pairwise(starts):
            if end - start > 1:
                for pair in _close_within(hashes, np.sort(order[start:end]), max_distance):
                    if pair[:2] not in seen:
                        seen.add(pair[:2])
                        yield pair


def _close_within(hashes: np.ndarray, group: np.ndarray, max_distance: int) -> Iterator[tuple[int, int, int]]:
    for position, one in enumerate(group[:-1]):
        for first in range(position + 1, len(group), _COMPARE_AT_ONCE):
            others = group[first : first + _COMPARE_AT_ONCE]
            distances = np.bitwise_count(hashes[others] ^ hashes[one]).sum(axis=1)
            for place in np.flatnonzero(distances <= max_distance):
                yield int(one), int(others[place]), int(distances[place])
