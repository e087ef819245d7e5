"""The axes of a space whose candidates are known before anything is tried: the options of each, as choices.

A candidate takes one option of every axis. An axis's first option changes nothing. Axes are in the order of the steps
that their options become. What they leave out (group sizes, ways to choose layers, other ways to train) is the
sampler's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.parameters import ZERO_POINTS_BELOW
from search_spaces.spaces.choices import Choices
from search_spaces.spaces.offers import Offer
from search_spaces.spaces.suggestions import (
    INTEGER_QUANTIZERS,
    MIXED_BITS,
    NONE,
    SIXTEEN,
    SPARSITIES,
    TWO_OF_FOUR,
    WHOLE,
)
from search_spaces.spaces.training_suggestions import TRAINED, TRAINED_WHOLE, WholeTraining

Axes = Mapping[str, tuple[Choices, ...]]

VOCABULARY, LAYERS, HEADS, CHANNELS = "vocabulary", "layers", "heads", "channels"
SPARSITY, QUANTIZER, TRAINING, EMBEDDINGS = "sparsity", "quantizer", "training", "embeddings"
# Between 8 and 2 bits, by uniform widths and by budgets of mixed ones.
UNIFORM = (("rtn", 8), ("gptq", 4), ("gptq", 3), ("gptq", 2))
BUDGETS = (3.5, 2.75, 2.5, 2.25)
EMBEDDING_WIDTHS: tuple[Choices, ...] = tuple({"embeddings.bits": bits} for bits in (SIXTEEN, 8, 4))


def joint_axes(offer: Offer) -> Axes:
    """The axes of `joint` by name: vocabulary, layers, heads and channels, as far as the model offers them, then a
    width for the weights, a training of all of them where there are data for it, and a width for the embeddings. Each
    option is a set of choices that a sampler might make; one that trains is spelt out by `spell_training`."""
    return {
        **_pruning(VOCABULARY, "trim_vocabulary.tokens", WHOLE, offer.vocabularies),
        **depth_axes(offer),
        **width_axes(offer),
        QUANTIZER: _quantizers(offer),
        **({TRAINING: tuple({TRAINED: name} for name in (NONE, *TRAINED_WHOLE))} if offer.training else {}),
        EMBEDDINGS: EMBEDDING_WIDTHS,
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
        EMBEDDINGS: EMBEDDING_WIDTHS,
    }


def bit_width_axes(offer: Offer) -> Axes:
    """The axes of `bit-width` by name: RTN with 8 bits, GPTQ with 4, 3 and 2, with other group sizes and with zero
    points, AWQ with 4; then a width for the embeddings. Others are the sampler's: HQQ, bitsandbytes, FP8 and W8A8,
    which are seldom better at their size, and one scale a channel."""
    uniform = [_uniform(offer, name, bits) for name, bits in UNIFORM]
    by_gptq = [option for option in uniform if option["quantizer"] == "gptq"]
    most, *_, fewest = (option["quantizer.bits"] for option in by_gptq)
    # What lies between those that are probed: beyond them nothing tells what a group size does.
    grouped = [
        {**option, "quantizer.group_size": size}
        for option in by_gptq
        for size in offer.group_sizes
        if (size > offer.group_size and option["quantizer.bits"] > fewest)
        or (0 < size < offer.group_size and option["quantizer.bits"] < most)
    ]
    lopsided = [{**option, "quantizer.symmetric": False} for option in by_gptq if option["quantizer.bits"] < most]
    quantizers = ({"quantizer": NONE}, *uniform, *grouped, *lopsided, _uniform(offer, "awq", 4))
    return {QUANTIZER: quantizers, EMBEDDINGS: EMBEDDING_WIDTHS}


def mixed_axes(offer: Offer) -> Axes:
    """The one axis of `mixed`: every budget, without and with the embeddings in it."""
    budgets = [
        {"quantizer": "mixed", **_budget(offer, bits, embeddings)}
        for embeddings in (False, True)
        for bits in sorted(MIXED_BITS, reverse=True)
    ]
    return {QUANTIZER: ({"quantizer": NONE}, *budgets)}


def sparsity_axes(offer: Offer) -> Axes:
    """The axes of `sparsity` by name: SparseGPT's shares and, where it fits, 2 of 4; then RTN with 8 bits or GPTQ with
    4. Magnitude and Wanda are as large and harm as much or more: the sampler's."""
    shares = (*SPARSITIES, TWO_OF_FOUR) if offer.two_of_four else SPARSITIES
    sparse = [{"sparsifier": "sparsegpt", "sparsity": share} for share in shares]
    widths = [_uniform(offer, name, bits) for name, bits in UNIFORM if bits >= 4]
    return {SPARSITY: ({"sparsifier": NONE}, *sparse), QUANTIZER: ({"quantizer": NONE}, *widths)}


def depth_axes(offer: Offer) -> Axes:
    """The one axis of `depth`: how many layers go, chosen greedily; none where the model has a single one."""
    if not offer.layers:
        return {}
    counts = range(1, offer.layers + 1)
    gone = ({"remove_layers.count": count, "remove_layers.by": "greedy"} for count in counts)
    return {LAYERS: ({"remove_layers.count": 0}, *gone)}


def width_axes(offer: Offer) -> Axes:
    """The axes of `width` by name: groups of heads and shares of channels, as far as the model offers them."""
    return {
        **_pruning(HEADS, "remove_heads.groups", 0, offer.head_groups),
        **_pruning(CHANNELS, "remove_channels.share", 0.0, offer.channel_shares),
    }


def trainings(axes: Axes) -> list[WholeTraining | None]:
    """For each option of the axis that trains how it does; empty where there is none."""
    return [TRAINED_WHOLE.get(option[TRAINED]) for option in axes.get(TRAINING, ())]


def _pruning(axis: str, name: str, kept: Any, offered: tuple[Any, ...]) -> dict[str, tuple[Choices, ...]]:
    return {axis: tuple({name: value} for value in (kept, *offered))} if offered else {}


def _quantizers(offer: Offer) -> tuple[Choices, ...]:
    uniform = [
        {**_uniform(offer, name, bits), **({"quantizer.symmetric": False} if bits < ZERO_POINTS_BELOW else {})}
        for name, bits in UNIFORM
    ]
    mixed = [{"quantizer": "mixed", **_budget(offer, bits, embeddings=False)} for bits in BUDGETS]
    return ({"quantizer": NONE}, *uniform, *mixed)


def _uniform(offer: Offer, name: str, bits: int) -> dict[str, Any]:
    return {
        "quantizer": name,
        "quantizer.bits": bits,
        "quantizer.group_size": offer.group_size,
        "quantizer.symmetric": INTEGER_QUANTIZERS[name](bits=bits).symmetric,
    }


def _budget(offer: Offer, bits: float, embeddings: bool) -> dict[str, Any]:
    return {"mixed.bits": bits, "quantizer.group_size": offer.group_size, "mixed.embeddings": embeddings}
