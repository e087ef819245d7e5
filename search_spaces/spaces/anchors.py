"""The choices that each space tries first: known good points, so that even a short search ends with a useful frontier.

An anchor names every choice that its space asks for on the way; what a model can't take is left out of the list.
"""

from __future__ import annotations

from typing import Any

from search_spaces.spaces.choices import Choices
from search_spaces.spaces.offers import Offer
from search_spaces.spaces.suggestions import INTEGER_QUANTIZERS, NONE, SIXTEEN, TWO_OF_FOUR, WHOLE
from search_spaces.spaces.training_suggestions import BUDGETS

# The choices of the space `joint` that prune, each with its value for nothing.
UNPRUNED: dict[str, Any] = {
    "trim_vocabulary.tokens": WHOLE,
    "remove_layers.count": 0,
    "remove_heads.groups": 0,
    "remove_channels.share": 0.0,
}


def bit_width(offer: Offer) -> list[Choices]:
    """The widths from 8 bits to 2, each with the method that suits it."""
    return [
        _integers(offer, "gptq", 4) | _embeddings(),
        _integers(offer, "gptq", 4) | _embeddings(8),
        _integers(offer, "rtn", 8) | _embeddings(),
        _integers(offer, "gptq", 3) | _embeddings(8),
        _bitsandbytes("nf4") | _embeddings(),
        _integers(offer, "rtn", 8) | _embeddings(8),
        _integers(offer, "gptq", 2) | _embeddings(8),
        _integers(offer, "hqq", 4) | _embeddings(),
        _integers(offer, "awq", 4) | _embeddings(),
    ]


def mixed(offer: Offer) -> list[Choices]:
    """Budgets that span the grid, without and with the embeddings in them."""
    return [_mixed(offer, bits, embeddings) for bits, embeddings in ((4.0, False), (3.0, True), (3.0, False))]


def sparsity(offer: Offer) -> list[Choices]:
    """Half of the weights, alone and quantized."""
    anchors = [
        {"sparsifier": "sparsegpt", "sparsity": 0.5, "quantizer": NONE},
        {"sparsifier": "sparsegpt", "sparsity": 0.5, **_integers(offer, "gptq", 4)},
        {"sparsifier": "wanda", "sparsity": 0.5, "quantizer": NONE},
        {"sparsifier": "wanda", "sparsity": 0.3, **_integers(offer, "gptq", 4)},
        {"sparsifier": "magnitude", "sparsity": 0.5, "quantizer": NONE},
    ]
    if offer.two_of_four:
        anchors.insert(2, {"sparsifier": "sparsegpt", "sparsity": TWO_OF_FOUR, **_integers(offer, "gptq", 4)})
    return [*anchors]


def depth(offer: Offer) -> list[Choices]:
    """One layer, a quarter and a half of them."""
    counts = sorted({1, max(offer.layers // 2, 1), offer.layers}) if offer.layers else []
    return [_layers(count) for count in counts]


def width(offer: Offer) -> list[Choices]:
    """Each removal alone, by its smallest amount; then both."""
    channels: list[dict[str, Any]] = [{"remove_channels.share": share} for share in offer.channel_shares[:2]]
    heads: list[dict[str, Any]] = [{"remove_heads.groups": groups} for groups in offer.head_groups[:1]]
    both = [one | other for one in channels[:1] for other in heads]
    return [_unpruned_width(offer) | choices for choices in (*channels, *heads, *both)]


def vocabulary(offer: Offer) -> list[Choices]:
    """The vocabulary at half and at a quarter, alone and quantized."""
    if not offer.vocabularies:
        return [_integers(offer, "gptq", 4) | _embeddings(8)]
    half, quarter = _vocabulary(offer, 0.5), _vocabulary(offer, 0.25)
    return [
        half | {"quantizer": NONE} | _embeddings(),
        half | _integers(offer, "gptq", 4) | _embeddings(8),
        _vocabulary(offer) | _integers(offer, "gptq", 4) | _embeddings(8),
        quarter | _integers(offer, "gptq", 4) | _embeddings(8),
        half | {"quantizer": NONE} | _embeddings(8),
    ]


def joint(offer: Offer) -> list[Choices]:
    """From nearly the baseline's quality to a third of its bytes, one method after another, then combinations."""
    whole = _vocabulary(offer) | _layers_choice(offer, 0) | _unpruned_width(offer)
    compact = _integers(offer, "gptq", 4) | _embeddings(8)
    two_bits = whole | _integers(offer, "gptq", 2)
    anchors = [
        whole | _integers(offer, "rtn", 8) | _embeddings(),
        whole | _integers(offer, "gptq", 4) | _embeddings(),
        whole | compact,
    ]
    if offer.layers:
        anchors.append(whole | _layers_choice(offer, 1) | compact)
        if offer.training:
            anchors.append(anchors[-1] | _trained("heal", "finetune"))
    if offer.vocabularies:
        anchors.append(whole | _vocabulary(offer, 0.75) | compact)
    anchors.append(whole | {"quantizer": "mixed"} | _mixed(offer, 3.0, embeddings=True))
    anchors.append(whole | _integers(offer, "gptq", 3) | _embeddings(8))
    if offer.training:
        anchors.append(anchors[-1] | _trained("recovery", "scales"))
        anchors += [two_bits | _embeddings(), two_bits | _trained("recovery", "lora") | {"recovery.rank": 16}]
    if offer.channel_shares:
        anchors.append(whole | {"remove_channels.share": offer.channel_shares[0]} | compact)
    anchors.append(whole | _integers(offer, "rtn", 8) | _embeddings(8))
    return [_untrained(offer, choices) | choices for choices in anchors]


def student(offer: Offer) -> list[Choices]:
    """Half the layers, half the hidden size, and the first of them quantized as its teacher is."""
    whole = {
        f"distill.{name}": kept
        for name, kept, offered in (
            ("layers", 0, offer.student_layers),
            ("width", 1.0, offer.student_widths),
            ("channels", 1.0, offer.student_channels),
        )
        if offered
    }
    compact = _integers(offer, "gptq", 4) | _embeddings(8)
    plain = {"quantizer": NONE} | _embeddings()
    smaller = [
        {f"distill.{name}": offered[len(offered) // 2], "distill.budget": BUDGETS[1]}
        for name, offered in (("layers", offer.student_layers), ("width", offer.student_widths))
        if offered
    ]
    anchors = [whole | choices | plain for choices in smaller] + [whole | compact]
    return [*anchors, *(whole | choices | compact for choices in smaller[:1])]


def _trained(what: str, how: str) -> dict[str, Any]:
    """A training of the middle budget: what it makes of the choices before it, the anchor without it shows."""
    return {what: how, f"{what}.budget": BUDGETS[1]}


def _untrained(offer: Offer, choices: Choices) -> dict[str, Any]:
    """That nothing is trained, for each choice of it that these choices lead to."""
    if not offer.training:
        return {}
    found = {"heal": NONE} if any(choices.get(name, kept) != kept for name, kept in UNPRUNED.items()) else {}
    if choices["quantizer"] in INTEGER_QUANTIZERS or choices.get("mixed.embeddings") is False:
        return found | {"recovery": NONE}
    return found | ({"bitsandbytes.recovery": NONE} if choices["quantizer"] == "bitsandbytes" else {})


def _integers(offer: Offer, name: str, bits: int) -> dict[str, Any]:
    symmetric = INTEGER_QUANTIZERS[name](bits=bits).symmetric
    return {
        "quantizer": name,
        "quantizer.bits": bits,
        "quantizer.group_size": offer.group_size,
        "quantizer.symmetric": symmetric,
    }


def _bitsandbytes(stored: str) -> dict[str, Any]:
    """4 bits. Its int8 is no anchor: RTN with 8 bits is as small and as good, and translates faster."""
    return {
        "quantizer": "bitsandbytes",
        "bitsandbytes.format": stored,
        "bitsandbytes.double_quantization": False,
    }


def _mixed(offer: Offer, bits: float, embeddings: bool) -> dict[str, Any]:
    return {"mixed.bits": bits, "quantizer.group_size": offer.group_size, "mixed.embeddings": embeddings}


def _embeddings(bits: int = SIXTEEN) -> dict[str, Any]:
    return {"embeddings.bits": bits}


def _layers(count: int) -> dict[str, Any]:
    return {"remove_layers.count": count, "remove_layers.by": "greedy"}


def _layers_choice(offer: Offer, count: int) -> dict[str, Any]:
    if not offer.layers:
        return {}
    return _layers(count) if count else {"remove_layers.count": 0}


def _unpruned_width(offer: Offer) -> dict[str, Any]:
    heads = {"remove_heads.groups": 0} if offer.head_groups else {}
    return heads | ({"remove_channels.share": 0.0} if offer.channel_shares else {})


def _vocabulary(offer: Offer, share: float = 1.0) -> dict[str, Any]:
    """The offered vocabulary that is nearest to this share of the whole; the whole for 1."""
    if not offer.vocabularies:
        return {}
    nearest = min(offer.vocabularies, key=lambda tokens: abs(tokens - share * offer.tokens))
    return {"trim_vocabulary.tokens": WHOLE if share == 1.0 else nearest}
