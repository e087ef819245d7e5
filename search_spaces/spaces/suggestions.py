"""How single choices become steps: the parts that spaces are put together from. Names of choices are unique in a space.

Optuna wants the same values whenever a name is asked for, so what is offered depends on the model alone, never on
earlier choices.
"""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.methods.pruners import (
    RemoveChannels,
    RemoveHeads,
    RemoveLayers,
    Sparsifier,
    TrimVocabulary,
)
from search_spaces.methods.quantizers import (
    FP8,
    W8A8,
    BitsAndBytes,
    IntegerQuantizer,
    MixedWidths,
    QuantizeEmbeddings,
)
from search_spaces.methods.registry import METHODS, Step
from search_spaces.spaces.choices import ChoiceSource
from search_spaces.spaces.offers import Offer

NONE = "none"
WHOLE = "whole"
INTEGER_QUANTIZERS: dict[str, type[IntegerQuantizer]] = {
    name: method for name, method in METHODS.items() if issubclass(method, IntegerQuantizer)
}
SPARSIFIERS: dict[str, type[Sparsifier]] = {
    name: method for name, method in METHODS.items() if issubclass(method, Sparsifier)
}
MIXED_BITS = (2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 4.0, 4.5, 5.0, 6.0)
SPARSITIES = (0.3, 0.4, 0.5, 0.6, 0.7)
TWO_OF_FOUR = "2:4"
SIXTEEN = 16


def suggest_quantization(
    source: ChoiceSource, offer: Offer, names: Sequence[str], bits: Sequence[int]
) -> tuple[Step, ...]:
    """A quantizer of these names, if any, and a width for the embeddings."""
    quantizer = quantizer_alone(source, offer, names, bits)
    if any(isinstance(step, MixedWidths) and step.embeddings for step in quantizer):
        return quantizer
    return quantizer + embeddings(source, offer)


def quantizer_alone(source: ChoiceSource, offer: Offer, names: Sequence[str], bits: Sequence[int]) -> tuple[Step, ...]:
    """A quantizer of these names; `none` is no step."""
    name = source.suggest_categorical("quantizer", names)
    return () if name == NONE else (_quantizer(source, offer, name, bits),)


def _quantizer(source: ChoiceSource, offer: Offer, name: str, bits: Sequence[int]) -> Step:
    if name in INTEGER_QUANTIZERS:
        return INTEGER_QUANTIZERS[name](
            bits=source.suggest_categorical("quantizer.bits", bits),
            group_size=source.suggest_categorical("quantizer.group_size", offer.group_sizes),
            symmetric=source.suggest_categorical("quantizer.symmetric", (True, False)),
        )
    if name == MixedWidths.name:
        return suggest_mixed(source, offer)
    if name == BitsAndBytes.name:
        stored = source.suggest_categorical("bitsandbytes.format", ("int8", "nf4", "fp4"))
        twice = stored != "int8" and source.suggest_categorical("bitsandbytes.double_quantization", (False, True))
        return BitsAndBytes(format=stored, double_quantization=twice)
    if name == FP8.name:
        return FP8()
    if name == W8A8.name:
        return W8A8()
    raise ValueError(f"no quantizer is called {name!r}; the methods are {', '.join(METHODS)}")


def suggest_mixed(source: ChoiceSource, offer: Offer) -> MixedWidths:
    """Widths by measured divergence, for a budget on a grid."""
    return MixedWidths(
        bits=source.suggest_categorical("mixed.bits", MIXED_BITS),
        group_size=source.suggest_categorical("quantizer.group_size", offer.group_sizes),
        embeddings=source.suggest_categorical("mixed.embeddings", (False, True)),
        zero_points=True,
    )


def embeddings(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    """The embeddings at 16 bits, which is no step, at 8 or, by GPTQ, at 4.

    Of a tied table of half a billion parameters, at 4 bits, GPTQ with zero points leaves 0.016 nats of divergence,
    round-to-nearest 0.047; at 8 bits the latter leaves 0.001.
    """
    bits = source.suggest_categorical("embeddings.bits", (SIXTEEN, 8, 4))
    if bits == SIXTEEN:
        return ()
    return (QuantizeEmbeddings(bits=bits, group_size=offer.embedding_group, by="gptq" if bits < 8 else "rtn"),)


def sparsity(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    """A sparsifier, if any, at a share of zeros, or at 2 of 4 where that fits."""
    name = source.suggest_categorical("sparsifier", (NONE, *SPARSIFIERS))
    if name == NONE:
        return ()
    method = SPARSIFIERS[name]
    offered = (*SPARSITIES, TWO_OF_FOUR) if offer.two_of_four else SPARSITIES
    share = source.suggest_categorical("sparsity", offered)
    return (method(pattern="2:4"),) if share == TWO_OF_FOUR else (method(sparsity=share),)


def layers(source: ChoiceSource, offer: Offer, least: int = 0) -> tuple[Step, ...]:
    """So many layers removed, at least `least`, and the way they are chosen; no step where none can go."""
    if not offer.layers:
        return ()
    count = source.suggest_int("remove_layers.count", least, offer.layers)
    if not count:
        return ()
    by = source.suggest_categorical("remove_layers.by", ("similarity", "greedy", "pairwise"))
    return (RemoveLayers(count=count, by=by),)


def width(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    """Key-value groups and MLP channels removed, where the model can take it."""
    steps: tuple[Step, ...] = ()
    if offer.head_groups:
        groups = source.suggest_categorical("remove_heads.groups", (0, *offer.head_groups))
        steps += (RemoveHeads(groups=groups),) if groups else ()
    if offer.channel_shares:
        share = source.suggest_categorical("remove_channels.share", (0.0, *offer.channel_shares))
        steps += (RemoveChannels(share=share),) if share else ()
    return steps


def vocabulary(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    """A smaller vocabulary, where the model can take it."""
    if not offer.vocabularies:
        return ()
    tokens = source.suggest_categorical("trim_vocabulary.tokens", (WHOLE, *offer.vocabularies))
    return () if tokens == WHOLE else (TrimVocabulary(tokens=tokens),)
