"""The `quantization_config` of a packed checkpoint: which weights have which grid, in compressed-tensors' words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.sizes.tensor_table import layer_of

LINEAR = "Linear"
EMBEDDING = "Embedding"
HEAD = "lm_head"


@dataclass(frozen=True, slots=True, order=True)
class WeightScheme:
    """How a weight is stored."""

    bits: int
    """Bits of a weight."""
    group_size: int = -1
    """Columns that share a scale; -1 is one scale for each output channel."""
    symmetric: bool = True
    """Whether the grid has no zero point."""
    type: str = "int"
    """The number type, "int" or "float"."""
    activations: bool = False
    """Whether a linear layer's inputs are quantized too, with one scale for each token, in the same type and 8 bits."""


def quantization_config(schemes: Mapping[str, WeightScheme], ignored: Iterable[str]) -> dict[str, Any]:
    """The config for these stems of weights, embeddings and head among them where they are quantized.

    ignored: stems of linear weights that stay as they are.
    """
    from compressed_tensors.quantization import QuantizationConfig

    by_scheme: dict[WeightScheme, list[str]] = {}
    for stem, scheme in schemes.items():
        by_scheme.setdefault(scheme, []).append(stem)
    uniform = len({scheme for stem, scheme in schemes.items() if _in_layer(stem)}) == 1
    groups = {
        f"group_{number}": _group(scheme, _targets(by_scheme[scheme], uniform))
        for number, scheme in enumerate(sorted(by_scheme))
    }
    config = QuantizationConfig(
        config_groups=groups,
        quant_method="compressed-tensors",
        format=_format(next(iter(by_scheme))),
        quantization_status="compressed",
        ignore=sorted(set(ignored) - set(schemes)),
    )
    record: dict[str, Any] = json.loads(config.model_dump_json(exclude_none=True))
    return record


def with_embeddings(config: Mapping[str, Any] | None, schemes: Mapping[str, WeightScheme]) -> dict[str, Any]:
    """A parent's `quantization_config` (None for a dense or sparse parent) with groups for its embeddings and head.

    A config of bitsandbytes gets `config_groups` too; our loader takes them off before the library sees it.
    """
    if config is None:
        return quantization_config(schemes, [])
    added = quantization_config(schemes, [])["config_groups"].values()
    groups = config.get("config_groups", {})
    numbered = {f"group_{number}": group for number, group in enumerate([*groups.values(), *added])}
    merged = {**config, "config_groups": numbered}
    if "ignore" in config:
        merged["ignore"] = [name for name in config["ignore"] if name not in schemes]
    return merged


def without_embeddings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parent's `quantization_config` again, from what `with_embeddings` made of it: the part that is for the layers
    alone. The head, which comes as a dense weight, is ignored."""
    layers = {
        name: {**group, "targets": kept}
        for name, group in config.get("config_groups", {}).items()
        if (kept := [target for target in group["targets"] if _for_layers(target)])
    }
    rest = {key: value for key, value in config.items() if key != "config_groups"}
    if not layers:
        return rest
    return {**rest, "config_groups": layers, "ignore": sorted({*config.get("ignore", ()), HEAD})}


def patterns(stems: Iterable[str]) -> list[str]:
    """Regular expressions that match these stems of layer weights alone, one a module name with its layers as
    alternatives."""
    layers: dict[str, list[int]] = {}
    for stem in stems:
        layer = layer_of(f"{stem}.weight")
        if layer is None:
            raise ValueError(f"{stem} belongs to no decoder layer")
        layers.setdefault(stem.split(f"layers.{layer}.", 1)[1], []).append(layer)
    return [
        rf"re:.*layers\.({'|'.join(map(str, sorted(numbers)))})\.{re.escape(name)}$"
        for name, numbers in sorted(layers.items())
    ]


def bits_of(stem: str, config: Mapping[str, Any]) -> int | None:
    """The width of a stem's packed integers as config.json says; None when it names no group for it.

    A target that names the weight goes before one that names its class.
    """
    groups = config.get("quantization_config", {}).get("config_groups", {}).values()
    for matches in (_named, _of_class):
        for group in groups:
            if any(matches(target, stem) for target in group["targets"]):
                return int(group["weights"]["num_bits"])
    return None


def _named(target: str, stem: str) -> bool:
    if target.startswith("re:"):
        return re.match(target[3:], stem) is not None
    return target == stem


def _of_class(target: str, stem: str) -> bool:
    return (target == LINEAR and _in_layer(stem)) or (target == EMBEDDING and stem.endswith("embed_tokens"))


def _targets(stems: list[str], uniform: bool) -> list[str]:
    """uniform: whether the weights of all layers have one scheme, so that their class names them."""
    layers = [stem for stem in stems if _in_layer(stem)]
    embeddings = [EMBEDDING] if any(stem.endswith("embed_tokens") for stem in stems) else []
    heads = [stem for stem in stems if stem.endswith(HEAD)]
    named = [LINEAR] if layers and uniform else patterns(layers)
    return [*named, *embeddings, *heads]


def _for_layers(target: str) -> bool:
    return target == LINEAR or target.startswith("re:")


def _in_layer(stem: str) -> bool:
    return layer_of(f"{stem}.weight") is not None


def _group(scheme: WeightScheme, targets: list[str]) -> Any:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    per_channel = scheme.group_size == -1
    weights = QuantizationArgs(
        num_bits=scheme.bits,
        type=scheme.type,
        symmetric=scheme.symmetric,
        strategy="channel" if per_channel else "group",
        group_size=None if per_channel else scheme.group_size,
    )
    inputs = (
        QuantizationArgs(num_bits=8, type=scheme.type, symmetric=True, strategy="token", dynamic=True)
        if scheme.activations
        else None
    )
    return QuantizationScheme(targets=targets, weights=weights, input_activations=inputs, format=_format(scheme))


def _format(scheme: WeightScheme) -> str:
    if scheme.type == "float":
        return "float-quantized"
    return "int-quantized" if scheme.activations else "pack-quantized"
