"""Candidates in a few characters, for a picture: each method, and every parameter that tells two steps apart.

A parameter at its method's default is left out, save bits, group sizes and amounts, which a reader looks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from orchestrator.report_labels import MINUS, counted
from search_spaces.candidate import Candidate
from search_spaces.methods import IntegerQuantizer, Sparsifier, Step
from search_spaces.pruners import (
    Magnitude,
    RemoveChannels,
    RemoveHeads,
    RemoveLayers,
    SparseGPT,
    TrimVocabulary,
    Wanda,
)
from search_spaces.quantizers import (
    GPTQ,
    ActivationAware,
    BitsAndBytes,
    EightBitFloat,
    EightBitIntegers,
    HalfQuadratic,
    MixedWidths,
    QuantizeEmbeddings,
    RoundToNearest,
)


def short_label(candidate: Candidate) -> str:
    """A candidate in a few characters, such as `rtn 4-bit g64, emb 8-bit g64`."""
    return ", ".join(_SHORT[type(step)](step) for step in candidate.steps) or "baseline"


def _integers(step: IntegerQuantizer) -> str:
    words = [f"{step.name} {step.bits}-bit {_group(step.group_size)}"]
    if step.symmetric != _default(step, "symmetric"):
        words.append("sym" if step.symmetric else "asym")
    return " ".join(words)


def _gptq(step: GPTQ) -> str:
    damping = [] if step.damping == _default(step, "damping") else [f"damping {step.damping:g}"]
    order = [] if step.activation_order else ["in order"]
    return " ".join([_integers(step), *damping, *order])


def _mixed(step: MixedWidths) -> str:
    score = [] if step.score == _default(step, "score") else [f"by {step.score}"]
    embeddings = ["+ emb"] if step.embeddings else []
    return " ".join([f"mixed {step.bits:g}-bit {_group(step.group_size)}", *score, *embeddings])


def _layers(step: RemoveLayers) -> str:
    by = "" if step.by == _default(step, "by") else f" {step.by}"
    return f"{MINUS}{counted(step.count, 'layer')}{by}"


def _sparse(step: Sparsifier) -> str:
    return f"{step.name} {'2:4' if step.pattern == '2:4' else _percent(step.sparsity)}"


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _group(size: int) -> str:
    return "per channel" if size == -1 else f"g{size}"


def _default(step: Step, name: str) -> Any:
    return next(field.default for field in fields(step) if field.name == name)


_SHORT: dict[type[Step], Callable[[Any], str]] = {
    RoundToNearest: _integers,
    HalfQuadratic: _integers,
    ActivationAware: _integers,
    GPTQ: _gptq,
    MixedWidths: _mixed,
    BitsAndBytes: lambda step: f"bnb {step.format}{' dq' if step.double_quantization else ''}",
    EightBitFloat: lambda step: f"fp8{' w+a' if step.activations else ''}",
    EightBitIntegers: lambda step: step.name,
    QuantizeEmbeddings: lambda step: f"emb {step.bits}-bit {_group(step.group_size)}",
    RemoveLayers: _layers,
    RemoveHeads: lambda step: f"{MINUS}{counted(step.groups, 'kv head')}",
    RemoveChannels: lambda step: f"{MINUS}{_percent(step.share)} mlp",
    TrimVocabulary: lambda step: f"{step.tokens:,} tokens",
    Magnitude: _sparse,
    Wanda: _sparse,
    SparseGPT: _sparse,
}
