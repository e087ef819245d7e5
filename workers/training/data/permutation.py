"""Permutations of long ranges that are computed an index at a time, so that none of them has to be kept."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

ROUNDS = 6


def key_of(*parts: Any) -> int:
    """A 64-bit key out of whole numbers and names."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest())


def permute(indices: Indices, size: int, key: int) -> Indices:
    """Where a permutation of range(size), one for each 64-bit key, sends these indices.

    A Feistel network over the next power of four, applied again to what falls outside the range (cycle walking; Black
    and Rogaway 2002, https://doi.org/10.1007/3-540-45760-7_9). On average it is applied fewer than four times.
    """
    half = np.uint64((max(size - 1, 2).bit_length() + 1) // 2)
    keys = [np.uint64(key_of(key, turn)) for turn in range(ROUNDS)]
    found = _network(indices.astype(np.uint64), half, keys)
    while (outside := found >= np.uint64(size)).any():
        found[outside] = _network(found[outside], half, keys)
    return found.astype(np.int64)


def _network(values: NDArray[np.uint64], half: np.uint64, keys: list[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_scrambled(right ^ key) & mask)
    return (left << half) | right


def _scrambled(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finisher (Steele, Lea and Flood 2014, https://doi.org/10.1145/2660193.2660195)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
