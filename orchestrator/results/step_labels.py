"""Candidates in a few characters, for a picture: each method, and every parameter that tells two steps apart.

A parameter at its method's default is left out, save bits, group sizes and amounts, which a reader looks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from orchestrator.number_format import MINUS, counted
from search_spaces.candidate import Candidate
from search_spaces.methods.pruners import (
    Magnitude,
    RemoveChannels,
    RemoveHeads,
    RemoveLayers,
    SparseGPT,
    TrimVocabulary,
    Wanda,
)
from search_spaces.methods.quantizers import (
    AWQ,
    FP8,
    GPTQ,
    HQQ,
    RTN,
    W8A8,
    BitsAndBytes,
    MixedWidths,
    QuantizeEmbeddings,
)
from search_spaces.methods.registry import IntegerQuantizer, Sparsifier, Step, Trainer
from search_spaces.methods.trainers import Distill, Finetune, Recover


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
    # No group need have the width that the budget of bytes is spelt as.
    return " ".join([f"mixed {_group(step.group_size)} budget {step.bits:g} bits", *score, *embeddings])


def _layers(step: RemoveLayers) -> str:
    by = "" if step.by == _default(step, "by") else f" {step.by}"
    return f"{MINUS}{counted(step.count, 'layer')}{by}"


def _sparse(step: Sparsifier) -> str:
    return f"{step.name} {'2:4' if step.pattern == '2:4' else _percent(step.sparsity)}"


def _recover(step: Recover) -> str:
    words: list[str] = [step.adapter]
    if step.adapter != "scales":
        words += [f"r{step.rank}", *(["merged"] if step.merged else [])]
    return _trained(step, words, {"adapter", "rank", "merged"})


def _student(step: Distill) -> str:
    words = ["student"]
    words += [counted(step.layers, "layer")] if step.layers else []
    words += [f"{_percent(step.width)} width"] if step.width != 1.0 else []
    words += [f"{_percent(step.channels)} mlp"] if step.channels != 1.0 else []
    words += [Path(step.config).name] if step.config else []
    return _trained(step, words, {"layers", "width", "channels", "config"})


def _trained(step: Trainer, words: list[str], told: set[str]) -> str:
    """The words, the budget, and by name every parameter that is not told by them and not at its default."""
    others = [
        f"{field.name.replace('_', ' ')} {getattr(step, field.name)}"
        for field in fields(step)
        if field.name not in told | {"tokens"} and getattr(step, field.name) != field.default
    ]
    return " ".join([*words, _budget(step.tokens), *others])


def _budget(tokens: int) -> str:
    """`250k`, `1M`; 0 is once through the data."""
    if not tokens:
        return "once"
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if tokens % (size // 100) == 0 and tokens >= size:
            return f"{tokens / size:g}{unit}"
    return f"{tokens:,}"


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _group(size: int) -> str:
    return "per channel" if size == -1 else f"g{size}"


def _default(step: Step, name: str) -> Any:
    return next(field.default for field in fields(step) if field.name == name)


_SHORT: dict[type[Step], Callable[[Any], str]] = {
    RTN: _integers,
    HQQ: _integers,
    AWQ: _integers,
    GPTQ: _gptq,
    MixedWidths: _mixed,
    BitsAndBytes: lambda step: f"bnb {step.format}{' dq' if step.double_quantization else ''}",
    FP8: lambda step: f"fp8{' w+a' if step.activations else ''}",
    W8A8: lambda step: step.name,
    QuantizeEmbeddings: lambda step: f"emb {step.bits}-bit {_group(step.group_size)}",
    RemoveLayers: _layers,
    RemoveHeads: lambda step: f"{MINUS}{counted(step.groups, 'kv head')}",
    RemoveChannels: lambda step: f"{MINUS}{_percent(step.share)} mlp",
    TrimVocabulary: lambda step: f"{step.tokens:,} tokens",
    Magnitude: _sparse,
    Wanda: _sparse,
    SparseGPT: _sparse,
    Recover: _recover,
    Finetune: lambda step: _trained(step, ["finetune"], set()),
    Distill: _student,
}
