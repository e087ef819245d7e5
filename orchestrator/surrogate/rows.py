"""A space's candidates as the search takes them, a row each, and which options of an axis are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from search_spaces.methods.registry import Step
from search_spaces.spaces.axes import CHANNELS, HEADS, LAYERS, VOCABULARY, Axes
from search_spaces.spaces.choices import Choices
from search_spaces.spaces.suggestions import TWO_OF_FOUR

Array = np.ndarray[Any, np.dtype[Any]]
Steps = tuple[Step, ...]
# The axes whose options remove something, each more than the one before it.
REMOVED = (VOCABULARY, LAYERS, HEADS, CHANNELS)


class Rows(Protocol):
    """The candidates of a space that is known whole, the baseline first: a study's own
    (`search_spaces/spaces/enumeration.py`, which says what each of these is), or those of a recorded table."""

    @property
    def axes(self) -> Axes: ...

    @property
    def options(self) -> Array: ...

    @property
    def bytes(self) -> Array: ...

    def choices(self, row: int) -> dict[str, Any]: ...

    def steps(self, row: int) -> Steps: ...

    def alone(self, axis: str, option: int) -> int | None: ...


def options_alone(rows: Rows, axis: str) -> list[tuple[int, int]]:
    """Each option of the axis that the model can take by itself, and its row."""
    able = ((at, rows.alone(axis, at)) for at in range(1, len(rows.axes[axis])))
    return [(at, row) for at, row in able if row is not None]


def kind_of(option: Choices) -> tuple[bool, bool]:
    """What one option's damage is told of another's by: those of one axis that do the same to the same weights."""
    return option.get("sparsity") == TWO_OF_FOUR, bool(option.get("mixed.embeddings"))


def by_kind(able: Sequence[tuple[int, int]], options: Sequence[Choices]) -> list[list[tuple[int, int]]]:
    kinds: dict[Any, list[tuple[int, int]]] = {}
    for at, row in able:
        kinds.setdefault(kind_of(options[at]), []).append((at, row))
    return list(kinds.values())


def in_one_group_size(able: Sequence[tuple[int, int]], options: Sequence[Choices]) -> list[tuple[int, int]]:
    """Of uniform widths that differ in the group size alone the first."""
    found: dict[Any, tuple[int, int]] = {}
    for at, row in able:
        alike = {name: value for name, value in options[at].items() if name != "quantizer.group_size"}
        found.setdefault(frozenset(alike.items()), (at, row))
    return list(found.values())


def is_mixed(option: Choices) -> bool:
    return option.get("quantizer") == "mixed"


def bits_of(option: Mapping[str, Any]) -> Any:
    return option.get("quantizer.bits", option.get("embeddings.bits"))
