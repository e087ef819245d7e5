"""Which pairs an optimizer step reads: a pure function of the step and the seed, so that training resumes exactly.

Directions are balanced as XLM-R balances languages (Conneau et al. 2020, https://arxiv.org/abs/1911.02116): drawn with
probability proportional to weight x count**0.3. Within a direction every pair comes once an epoch, in an order that is
drawn anew for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from workers.training.data.permutation import Indices, key_of, permute

if TYPE_CHECKING:
    from workers.training.data.tokenized_pairs import TokenizedPairs

BALANCE = 0.3
# So many draws in a row hold each stratum as often as its share says, in a drawn order; how often a stratum came before
# any draw is then known without looking at the earlier ones.
BLOCK = 4096


def choose_rows(pairs: TokenizedPairs, step: int, batch: int, seed: int) -> list[int]:
    """The rows that optimizer step `step` (from 0) reads, `batch` of them; the files' weights are in the pairs.

    Pairs that are kept in the order they were drawn in (teacher translations) are read in it, and from the second time
    on in an order drawn for each. Costs the same at any step and for any number of pairs.
    """
    first = step * batch
    if pairs.in_order:
        return [int(row) for row in pairs.order[_in_turn(len(pairs.order), first, batch, seed)]]
    strata, ordinals = draws(pairs.shares, first, batch, seed)
    return [int(row) for row in rows_of(pairs, strata, ordinals, seed)]


def draws(shares: Sequence[float], first: int, count: int, seed: int) -> tuple[Indices, Indices]:
    """For draws `first` to `first + count`: which stratum each is of, and how often that one was drawn before.

    shares: of the strata, adding up to 1; met to 1/4096, a stratum at least once in as many draws.
    """
    quotas = _quotas(tuple(shares))
    numbers = np.arange(first, first + count)
    strata, ordinals = np.empty(count, np.int64), np.empty(count, np.int64)
    for block in np.unique(numbers // BLOCK):
        here = numbers // BLOCK == block
        of, before = _block(quotas, int(block), seed)
        strata[here] = of[numbers[here] % BLOCK]
        ordinals[here] = int(block) * np.asarray(quotas)[strata[here]] + before[numbers[here] % BLOCK]
    return strata, ordinals


def rows_of(pairs: TokenizedPairs, strata: Indices, ordinals: Indices, seed: int) -> Indices:
    """The rows of these draws: the n-th of a stratum is its (n mod count)-th in the order of epoch n // count."""
    rows = np.empty(len(strata), np.int64)
    for stratum in np.unique(strata):
        here = strata == stratum
        start, size = pairs.starts[stratum], pairs.counts[stratum]
        for epoch in np.unique(ordinals[here] // size):
            now = here & (ordinals // size == epoch)
            key = key_of("rows", seed, int(stratum), int(epoch))
            rows[now] = pairs.order[start + permute(ordinals[now] % size, size, key)]
    return rows


def balanced_shares(strata: Sequence[tuple[str, float, int]]) -> list[float]:
    """The share of draws of each (direction, weight, count), adding up to 1.

    A direction's share goes by its count**0.3 and the mean weight of its pairs; within it, pairs by their weights.
    """
    totals: dict[str, int] = {}
    for langs, _, count in strata:
        totals[langs] = totals.get(langs, 0) + count
    raw = [totals[langs] ** (BALANCE - 1) * weight * count if count else 0.0 for langs, weight, count in strata]
    return [share / sum(raw) for share in raw]


def _in_turn(size: int, first: int, count: int, seed: int) -> Indices:
    numbers = np.arange(first, first + count)
    places = numbers % size
    for epoch in np.unique(numbers // size):
        if epoch:
            now = numbers // size == epoch
            places[now] = permute(places[now], size, key_of("turns", seed, int(epoch)))
    return places


@lru_cache(maxsize=16)
def _quotas(shares: tuple[float, ...]) -> tuple[int, ...]:
    """How many of a block's draws each stratum gets: by largest remainder, at least one."""
    exact = [share * BLOCK for share in shares]
    quotas = [max(int(value), 1 if value else 0) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda one: int(exact[one]) - exact[one])
    for one in by_remainder[: max(BLOCK - sum(quotas), 0)]:
        quotas[one] += 1
    quotas[int(np.argmax(quotas))] += BLOCK - sum(quotas)
    return tuple(quotas)


@lru_cache(maxsize=8)
def _block(quotas: tuple[int, ...], block: int, seed: int) -> tuple[Indices, Indices]:
    """The stratum of each draw of a block, and how many draws of that stratum the block holds before it."""
    places = permute(np.arange(BLOCK), BLOCK, key_of("block", seed, block))
    strata = np.searchsorted(np.cumsum(quotas), places, side="right")
    before = np.empty(BLOCK, np.int64)
    for stratum, quota in enumerate(quotas):
        before[strata == stratum] = np.arange(quota)
    return strata, before
