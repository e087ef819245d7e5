"""Every candidate of a space's axes as rows of a table: the options, and the bytes on disk.

Bytes are worked out for few candidates and added up for the rest. Embeddings and vocabulary take what they take
whatever the layers hold, and layers are alike, so that three sums over tensor tables say what a hundred thousand
candidates weigh: to within the digits of the safetensors header's offsets, some hundred bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from search_spaces.errors import CandidateError
from search_spaces.methods.registry import Step
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.tensor_table import Checkpoint
from search_spaces.spaces.axes import EMBEDDINGS, LAYERS, QUANTIZER, TRAINING, VOCABULARY, Axes, trainings
from search_spaces.spaces.choices import Space, chosen_steps
from search_spaces.spaces.offers import Offer
from search_spaces.spaces.suggestions import NONE
from search_spaces.spaces.training_suggestions import TRAINING_CHOICES, spell_training

Array = np.ndarray[Any, np.dtype[Any]]

# What lies outside the layers, and so adds up with what is done to them.
OUTSIDE = (VOCABULARY, EMBEDDINGS)


@dataclass(frozen=True, slots=True)
class Rows:
    """A space's candidates, the baseline first, in the order of their options.

    axes: name -> its options, the first of which changes nothing. options: for each row the index of its option of each
    axis, int16 (rows, axes). bytes: each row's predicted bytes on disk, int64 (rows,). space, offer: what turns a row's
    choices into steps.
    """

    axes: Axes
    options: Array
    bytes: Array
    space: Space
    offer: Offer

    def choices(self, row: int) -> dict[str, Any]:
        """The row's choices by name, as a sampler would have made them; that nothing is trained is left out."""
        return spell_training(_merged(self.axes, dict(zip(self.axes, self.options[row].tolist(), strict=True))))

    def steps(self, row: int) -> tuple[Step, ...]:
        """The steps of the row's candidate: one for each option that changes something, in the order of the axes."""
        return _steps(self.space, self.offer, self.axes, dict(zip(self.axes, self.options[row].tolist(), strict=True)))

    def alone(self, axis: str, option: int) -> int | None:
        """The row that takes this option of the axis and changes nothing else; None where the model can't take it.
        Raises ValueError for an axis that the space does not have."""
        at = list(self.axes).index(axis)
        wanted = np.zeros(len(self.axes), dtype=self.options.dtype)
        wanted[at] = option
        found = np.flatnonzero((self.options == wanted).all(axis=1))
        return int(found[0]) if len(found) else None


def enumerate_rows(space: Space, offer: Offer, checkpoint: Checkpoint) -> Rows | None:
    """All rows that the model can take, the baseline among them; None for a space without axes. checkpoint: the tensor
    table that bytes are worked out from. A row that a method refuses is left out, and raises nothing."""
    if space.axes is None:
        return None
    axes = space.axes(offer)
    inside = [name for name in axes if name not in (*OUTSIDE, TRAINING)]
    whole = predicted_bytes(checkpoint, ())
    outside = dict(_weighed(space, offer, checkpoint, axes, [name for name in axes if name in OUTSIDE]))
    within = _inside(space, offer, checkpoint, axes, inside)
    found: list[tuple[tuple[int, ...], int]] = []
    for (one, size), (other, more) in product(within.items(), outside.items()):
        at = {**dict(zip(inside, one, strict=True)), **dict(zip((n for n in axes if n in OUTSIDE), other, strict=True))}
        for training in _trainings(axes, at):
            found.append((tuple(training if name == TRAINING else at[name] for name in axes), size + more - whole))
    found.sort()
    return Rows(
        axes,
        np.array([at for at, _ in found], dtype=np.int16),
        np.array([size for _, size in found], dtype=np.int64),
        space,
        offer,
    )


def _inside(
    space: Space, offer: Offer, checkpoint: Checkpoint, axes: Axes, names: list[str]
) -> dict[tuple[int, ...], int]:
    """Bytes by the options of these axes; what layers take is told from none and one removed."""
    if LAYERS not in names:
        return dict(_weighed(space, offer, checkpoint, axes, names))
    fewer = {name: axes[name][:2] if name == LAYERS else axes[name] for name in axes}
    measured = dict(_weighed(space, offer, checkpoint, fewer, names))
    at = names.index(LAYERS)
    found: dict[tuple[int, ...], int] = {}
    for options, size in measured.items():
        if options[at]:
            continue
        one_less = measured.get((*options[:at], 1, *options[at + 1 :]))
        found[options] = size
        if one_less is not None:
            for count in range(1, len(axes[LAYERS])):
                found[(*options[:at], count, *options[at + 1 :])] = size - count * (size - one_less)
    return found


def _weighed(
    space: Space, offer: Offer, checkpoint: Checkpoint, axes: Axes, names: list[str]
) -> Iterator[tuple[tuple[int, ...], int]]:
    for options in product(*(range(len(axes[name])) for name in names)):
        chosen = dict.fromkeys(axes, 0) | dict(zip(names, options, strict=True))
        try:
            yield options, predicted_bytes(checkpoint, _steps(space, offer, axes, chosen))
        except CandidateError:
            continue


def _trainings(axes: Axes, at: Mapping[str, int]) -> Iterator[int]:
    """The options of training that go with these of the other axes; it leaves the bytes as they are. What nothing but
    the embeddings' width changes has nothing to recover; the targets by beams are for packed weights."""
    yield 0
    if not any(option for name, option in at.items() if name != EMBEDDINGS):
        return
    for number, training in enumerate(trainings(axes)):
        if training is not None and (at[QUANTIZER] or not training.by_beams):
            yield number


def _steps(space: Space, offer: Offer, axes: Axes, options: Mapping[str, int]) -> tuple[Step, ...]:
    """What these options come to. That nothing is changed need not be a choice of the space."""
    if not any(options.values()):
        return ()
    return chosen_steps(space, _Untrained(spell_training(_merged(axes, options))), offer)


def _merged(axes: Axes, options: Mapping[str, int]) -> dict[str, Any]:
    return {name: value for axis, option in options.items() for name, value in axes[axis][option].items()}


class _Untrained(dict[str, Any]):
    """Choices of which those that are not made are for nothing to be trained."""

    def __missing__(self, name: str) -> Any:
        if name in TRAINING_CHOICES:
            return NONE
        raise KeyError(name)
