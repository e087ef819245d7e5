"""The search spaces: for each, the anchors tried first and how a sampler's choices become steps.

A space is a function of a source of choices (Optuna's Trial is one) and the base model's checkpoint table, so a
choice that this model can't take is never offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from search_spaces.checkpoint import Checkpoint
from search_spaces.methods import BitsAndBytes, RemoveLayers, RoundToNearest, Step

Choices = Mapping[str, Any]


class ChoiceSource(Protocol):
    """What a space asks for values; `optuna.trial.Trial` conforms."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...
    def suggest_int(self, name: str, low: int, high: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Space:
    """steps: turns choices into steps. anchors: choices to try first, good points to have whatever the budget."""

    about: str
    steps: Callable[[ChoiceSource, Checkpoint], tuple[Step, ...]]
    anchors: Callable[[Checkpoint], list[Choices]]


def every_choice(space: Space, checkpoint: Checkpoint) -> Iterator[tuple[Choices, tuple[Step, ...]]]:
    """All that the space offers for this model: each full set of choices once, with the steps it means."""
    waiting: list[tuple[Any, ...]] = [()]
    while waiting:
        walker = _Walker(waiting.pop())
        steps = space.steps(walker, checkpoint)
        yield walker.choices, steps
        values = tuple(walker.choices.values())
        for position in range(len(walker.taken), len(values)):
            waiting.extend((*values[:position], other) for other in walker.offered[position][1:])


class _Walker:
    """A source that takes the given choices, and then the first of each that is offered."""

    def __init__(self, taken: tuple[Any, ...]) -> None:
        self.taken = taken
        self.choices: dict[str, Any] = {}
        self.offered: list[Sequence[Any]] = []

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        position = len(self.choices)
        self.choices[name] = self.taken[position] if position < len(self.taken) else choices[0]
        self.offered.append(choices)
        return self.choices[name]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return int(self.suggest_categorical(name, range(low, high + 1)))


def group_sizes(checkpoint: Checkpoint) -> list[int]:
    """The group sizes that divide every targeted weight's input width, smallest first, then -1 (per channel)."""
    widths = {tensor.shape[1] for tensor in checkpoint.targets().values()}
    return [size for size in (32, 64, 128) if all(width % size == 0 for width in widths)] + [-1]


def _middle_group(checkpoint: Checkpoint) -> int:
    sizes = group_sizes(checkpoint)
    return 64 if 64 in sizes else sizes[0]


def _rtn_anchor(checkpoint: Checkpoint, bits: int) -> dict[str, Any]:
    return {"quantizer": "rtn", "rtn.bits": bits, "rtn.group_size": _middle_group(checkpoint)}


def _quantizer(source: ChoiceSource, checkpoint: Checkpoint, choices: Sequence[str]) -> tuple[Step, ...]:
    quantizer = source.suggest_categorical("quantizer", choices)
    if quantizer == "rtn":
        bits = source.suggest_categorical("rtn.bits", [8, 4, 3])
        return (
            RoundToNearest(bits=bits, group_size=source.suggest_categorical("rtn.group_size", group_sizes(checkpoint))),
        )
    if quantizer == "bitsandbytes":
        return (BitsAndBytes(format=source.suggest_categorical("bitsandbytes.format", ["int8", "nf4"])),)
    return ()


def _removal(source: ChoiceSource, checkpoint: Checkpoint, least: int) -> tuple[Step, ...]:
    most = max(checkpoint.layers // 2, 1)
    count = source.suggest_int("remove_layers.count", least, most)
    return (RemoveLayers(count=count),) if count else ()


def _bit_width(source: ChoiceSource, checkpoint: Checkpoint) -> tuple[Step, ...]:
    return _quantizer(source, checkpoint, ["rtn", "bitsandbytes"])


def _bit_width_anchors(checkpoint: Checkpoint) -> list[Choices]:
    return [
        _rtn_anchor(checkpoint, 8),
        _rtn_anchor(checkpoint, 4),
        {"quantizer": "bitsandbytes", "bitsandbytes.format": "nf4"},
        _rtn_anchor(checkpoint, 3),
        {"quantizer": "bitsandbytes", "bitsandbytes.format": "int8"},
    ]


def _depth(source: ChoiceSource, checkpoint: Checkpoint) -> tuple[Step, ...]:
    return _removal(source, checkpoint, least=1)


def _depth_anchors(checkpoint: Checkpoint) -> list[Choices]:
    most = max(checkpoint.layers // 2, 1)
    return [{"remove_layers.count": count} for count in sorted({1, max(checkpoint.layers // 4, 1), most})]


def _joint(source: ChoiceSource, checkpoint: Checkpoint) -> tuple[Step, ...]:
    return _removal(source, checkpoint, least=0) + _quantizer(source, checkpoint, ["none", "rtn", "bitsandbytes"])


def _joint_anchors(checkpoint: Checkpoint) -> list[Choices]:
    whole: list[Choices] = [{"remove_layers.count": 0, **choices} for choices in _bit_width_anchors(checkpoint)[:4]]
    pruned: list[Choices] = [
        {"remove_layers.count": 1, "quantizer": "none"},
        {"remove_layers.count": 1, **_rtn_anchor(checkpoint, 4)},
    ]
    return whole + pruned


SPACES: dict[str, Space] = {
    "bit-width": Space("how many bits a weight is stored in", _bit_width, _bit_width_anchors),
    "depth": Space("how many decoder layers stay", _depth, _depth_anchors),
    "joint": Space("layers removed, then a bit-width", _joint, _joint_anchors),
}
