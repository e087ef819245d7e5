"""The allocations that differ from one in a given group and in few others, of which the least harmful is found exactly.

A model has few kinds of groups, and groups of a kind change their bytes by the same when they change their width alike.
So of the changes of as many bytes only the few least harmful matter: whichever else an allocation changed, one of them
is in a group that is free. What is left is tried whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.compression.mixed_widths.allocation import Allocation, ByteRange, Options

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """All that few changes come to. A change is a group's other option."""

    current: Allocation
    """What is changed."""
    groups: Array
    """int64 (changes,)."""
    options: Array
    """int64 (changes,): the option that the group has then."""
    sets: list[Array]
    """For each number of changes, from one on, which go together: int64 (sets, number)."""
    bytes: Array
    """int64 (all sets and none,): by how many bytes an allocation grows, rising."""
    harm: Array
    """float64, beside them: by how much its summed harm does."""
    order: Array
    """int64, beside them: 0 for no change, then the sets, one list behind the other."""


def neighbours_of(options: Options, current: Allocation, most: int) -> Neighbours:
    """What up to `most` changes of groups come to, where a further group may have an option of its own."""
    at = np.arange(len(current))
    size = options.bytes - options.bytes[at, list(current)][:, None]
    harm = options.harm - options.harm[at, list(current)][:, None]
    found: dict[int, list[tuple[float, int, int]]] = {}
    for group, option in np.argwhere(np.isfinite(options.harm)).tolist():
        if option != current[group]:
            found.setdefault(int(size[group, option]), []).append((float(harm[group, option]), group, option))
    # As many as the other changes and the given group may keep from being taken, and one.
    kept = [(grows, *change) for grows, changes in found.items() for change in sorted(changes)[: most + 1]]
    grows, harms, groups, chosen = (np.array(column) for column in zip(*kept, strict=True)) if kept else _NOTHING
    sets = [np.arange(len(kept))[:, None]] if most else []
    while sets and len(sets) < most:
        sets.append(_extended(sets[-1], groups))
    summed = [np.zeros(1, dtype=np.int64), *(grows[one].sum(axis=1) for one in sets)]
    harmed = [np.zeros(1), *(harms[one].sum(axis=1) for one in sets)]
    total, cost = np.concatenate(summed), np.concatenate(harmed)
    order = np.argsort(total, kind="stable")
    return Neighbours(current, groups, chosen, sets, total[order], cost[order], order)


def nearest(options: Options, window: ByteRange, around: Neighbours, group: int, option: int) -> Allocation | None:
    """The least harmful allocation within the window whose group has this option; None when there is none."""
    changed = list(around.current)
    changed[group] = option
    total = options.total(changed)
    start, end = (
        int(np.searchsorted(around.bytes, window.low - total, side="left")),
        int(np.searchsorted(around.bytes, window.high - total, side="right")),
    )
    for place in start + np.argsort(around.harm[start:end], kind="stable"):
        changes = _changes(around, int(around.order[place]))
        if group not in around.groups[changes]:
            for change in changes.tolist():
                changed[int(around.groups[change])] = int(around.options[change])
            return tuple(changed)
    return None


_NOTHING = (np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def _extended(sets: Array, groups: Array) -> Array:
    """Each set with each later change of a group that it does not have."""
    last = sets[:, -1]
    more = len(groups) - 1 - last
    begin = np.cumsum(more) - more
    following = np.arange(int(more.sum())) - np.repeat(begin, more) + np.repeat(last + 1, more)
    made = np.column_stack([np.repeat(sets, more, axis=0), following])
    clash = (groups[made[:, :-1]] == groups[made[:, -1]][:, None]).any(axis=1)
    kept: Array = made[~clash]
    return kept


def _changes(around: Neighbours, number: int) -> Array:
    """Which changes the set of this number in `order` has."""
    number -= 1
    for sets in around.sets if number >= 0 else ():
        if number < len(sets):
            found: Array = sets[number]
            return found
        number -= len(sets)
    return np.zeros(0, dtype=np.int64)
