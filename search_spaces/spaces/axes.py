"""The axes of a space whose candidates are known before anything is tried: the options of each, as choices.

A candidate takes one option of every axis. An axis's first option changes nothing. Axes are in the order of the steps
that their options become. What they leave out (group sizes, ways to choose layers, other ways to train) is the
sampler's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.spaces.choices import Choices
from search_spaces.spaces.offers import Offer
from search_spaces.spaces.suggestions import INTEGER_QUANTIZERS, NONE, SIXTEEN, WHOLE
from search_spaces.spaces.training_suggestions import TRAINED, TRAINED_WHOLE, WholeTraining

Axes = Mapping[str, tuple[Choices, ...]]

VOCABULARY, LAYERS, HEADS, CHANNELS = "vocabulary", "layers", "heads", "channels"
QUANTIZER, TRAINING, EMBEDDINGS = "quantizer", "training", "embeddings"
# Between 8 and 2 bits, by uniform widths and by budgets of mixed ones.
UNIFORM = (("rtn", 8), ("gptq", 4), ("gptq", 3), ("gptq", 2))
BUDGETS = (3.5, 2.75, 2.5, 2.25)


def joint_axes(offer: Offer) -> Axes:
    """The axes of `joint` by name: vocabulary, layers, heads and channels, as far as the model offers them, then a
    width for the weights, a training of all of them where there are data for it, and a width for the embeddings. Each
    option is a set of choices that a sampler might make; one that trains is spelt out by `spell_training`."""
    return {
        **_pruning(VOCABULARY, "trim_vocabulary.tokens", WHOLE, offer.vocabularies),
        **_layers(offer),
        **_pruning(HEADS, "remove_heads.groups", 0, offer.head_groups),
        **_pruning(CHANNELS, "remove_channels.share", 0.0, offer.channel_shares),
        QUANTIZER: _quantizers(offer),
        **({TRAINING: tuple({TRAINED: name} for name in (NONE, *TRAINED_WHOLE))} if offer.training else {}),
        EMBEDDINGS: tuple({"embeddings.bits": bits} for bits in (SIXTEEN, 8, 4)),
    }


def vocabulary_axes(offer: Offer) -> Axes:
    """The axes of `vocabulary` by name: how many tokens stay, then widths as in `joint`, without mixed ones and without
    2 bits, which the space does not have."""
    allowed = ("rtn", "gptq")
    return {
        **_pruning(VOCABULARY, "trim_vocabulary.tokens", WHOLE, offer.vocabularies),
        QUANTIZER: tuple(
            option
            for option in _quantizers(offer)
            if option["quantizer"] in (NONE, *allowed) and option.get("quantizer.bits") != 2
        ),
        EMBEDDINGS: tuple({"embeddings.bits": bits} for bits in (SIXTEEN, 8, 4)),
    }


def trainings(axes: Axes) -> list[WholeTraining | None]:
    """For each option of the axis that trains how it does; empty where there is none."""
    return [TRAINED_WHOLE.get(option[TRAINED]) for option in axes.get(TRAINING, ())]


def _pruning(axis: str, name: str, kept: Any, offered: tuple[Any, ...]) -> dict[str, tuple[Choices, ...]]:
    return {axis: tuple({name: value} for value in (kept, *offered))} if offered else {}


def _layers(offer: Offer) -> dict[str, tuple[Choices, ...]]:
    if not offer.layers:
        return {}
    counts = range(1, offer.layers + 1)
    gone = ({"remove_layers.count": count, "remove_layers.by": "greedy"} for count in counts)
    return {LAYERS: ({"remove_layers.count": 0}, *gone)}


def _quantizers(offer: Offer) -> tuple[Choices, ...]:
    found: list[Choices] = [{"quantizer": NONE}]
    for name, bits in UNIFORM:
        symmetric = INTEGER_QUANTIZERS[name](bits=bits).symmetric
        found.append(
            {
                "quantizer": name,
                "quantizer.bits": bits,
                "quantizer.group_size": offer.group_size,
                "quantizer.symmetric": symmetric,
            }
        )
    for budget in BUDGETS:
        found.append(
            {
                "quantizer": "mixed",
                "mixed.bits": budget,
                "quantizer.group_size": offer.group_size,
                "mixed.embeddings": False,
            }
        )
    return tuple(found)
