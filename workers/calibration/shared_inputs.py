"""Work that is the same for all weights that read one input, such as factoring their Hessian, done once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from search_spaces.sizes.tensor_table import layer_of
from workers.calibration.statistics import Statistics

Made = TypeVar("Made")


def once_an_input(statistics: Statistics, make: Callable[[str], Made]) -> Callable[[str], Made]:
    """`make(weight name)`, called once for all weights that read the same input; holds one layer's results."""
    made: dict[str, Made] = {}
    current: int | None = None

    def get(weight: str) -> Made:
        nonlocal current
        if layer_of(weight) != current:
            made.clear()
            current = layer_of(weight)
        sharing = statistics.shares_input(weight)
        key = sharing[0] if sharing else weight
        if key not in made:
            made[key] = make(weight)
        return made[key]

    return get
