"""A space as a function of a source of choices, and the walk over all that it offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from search_spaces.methods.registry import Step
from search_spaces.spaces.offers import Offer

Choices = Mapping[str, Any]
# The values that one choice is offered, in the order to try them in.
Order = Callable[[Sequence[Any]], Sequence[Any]]


class ChoiceSource(Protocol):
    """What a space asks for values; `optuna.trial.Trial` conforms."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...
    def suggest_int(self, name: str, low: int, high: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Space:
    """A search space: what may be chosen, and what the choices mean."""

    about: str
    """What the space varies, in a few words."""
    steps: Callable[[ChoiceSource, Offer], tuple[Step, ...]]
    """Turns choices into steps."""
    anchors: Callable[[Offer], list[Choices]]
    """Choices to try first: good points to have whatever the budget."""
    needs_training: bool = False
    """Whether the space has nothing to offer without training data."""
    trims_vocabulary: bool = False
    """Whether the space varies how many tokens stay."""
    needs_vocabulary: bool = False
    """Whether the space has nothing to offer where the vocabulary can't be trimmed."""
    axes: Callable[[Offer], Mapping[str, tuple[Choices, ...]]] | None = None
    """The options of each axis, for a space whose candidates are known before anything is tried."""


def chosen_steps(space: Space, choices: Choices, offer: Offer) -> tuple[Step, ...]:
    """The steps that these choices mean; KeyError where the space asks for one that they lack."""
    return space.steps(_Given(choices), offer)


def every_choice(
    space: Space, offer: Offer, order: Order = lambda values: values
) -> Iterator[tuple[Choices, tuple[Step, ...]]]:
    """All that the space offers for this model: each full set of choices once, with the steps it means.

    Walked depth first and as asked for, so that the start of a large space costs no more than that of a small one.
    order: of the values of each choice.
    """
    waiting: list[tuple[Any, ...]] = [()]
    while waiting:
        walker = _Walker(waiting.pop(), order)
        steps = space.steps(walker, offer)
        yield walker.choices, steps
        values = tuple(walker.choices.values())
        for position in range(len(walker.taken), len(values)):
            waiting.extend((*values[:position], other) for other in walker.offered[position][1:])


class _Given:
    """A source that has every choice already."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.choices[name]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return int(self.choices[name])


class _Walker:
    """A source that takes the given choices, and then the first of each that is offered."""

    def __init__(self, taken: tuple[Any, ...], order: Order) -> None:
        self.taken = taken
        self.order = order
        self.choices: dict[str, Any] = {}
        self.offered: list[Sequence[Any]] = []

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        position = len(self.choices)
        given = position < len(self.taken)
        offered = choices if given else self.order(choices)
        self.choices[name] = self.taken[position] if given else offered[0]
        self.offered.append(offered)
        return self.choices[name]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return int(self.suggest_categorical(name, range(low, high + 1)))
