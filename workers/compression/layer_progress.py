"""How far the writing of a compressed folder is, told by the decoder layers that it has reached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from search_spaces.sizes.tensor_table import layer_of
from workers.checkpoints.model_files import read_checkpoint
from workers.runtime.working import working


def tell_layers(what: str, parent: Path) -> Callable[[str], None]:
    """What takes the name of each weight as it is reached, and tells who follows how many of the parent's layers have
    been. what: in words that a number follows, such as "quantizing, layer"."""
    every = read_checkpoint(parent).layers
    reached: set[int | None] = set()

    def tell(name: str) -> None:
        reached.add(layer_of(name))
        working(what, len(reached), every)

    return tell
