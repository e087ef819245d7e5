"""The table that joins each method to the module that carries it out."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from search_spaces.methods import Step
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
from search_spaces.trainers import Distill, Finetune, Recover
from workers.compression.context import CompressionContext, Report

Compress = Callable[[Path, Path, Any, CompressionContext], Report]

# The module of workers/compression whose `compress(parent, out, step, context)` carries the method out.
MODULES: dict[type[Step], str] = {
    RoundToNearest: "rtn",
    HalfQuadratic: "hqq",
    ActivationAware: "awq",
    GPTQ: "gptq",
    MixedWidths: "mixed",
    BitsAndBytes: "bitsandbytes",
    EightBitFloat: "fp8",
    EightBitIntegers: "w8a8",
    QuantizeEmbeddings: "embeddings",
    RemoveLayers: "remove_layers",
    RemoveHeads: "remove_heads",
    RemoveChannels: "remove_channels",
    TrimVocabulary: "trim_vocabulary",
    Magnitude: "magnitude",
    Wanda: "wanda",
    SparseGPT: "sparsegpt",
    Recover: "recover",
    Finetune: "finetune",
    Distill: "distill",
}

WITHOUT_CALIBRATION: frozenset[type[Step]] = frozenset(
    {
        RoundToNearest, HalfQuadratic, BitsAndBytes, EightBitFloat, EightBitIntegers, QuantizeEmbeddings, Magnitude,
        Recover, Finetune, Distill,
    }
)  # fmt: skip


def compress(parent: Path, out: Path, step: Step, context: CompressionContext) -> Report:
    """Carry the step out: write the compressed checkpoint of `parent` to the empty folder `out`."""
    carry_out: Compress = importlib.import_module(_module_of(step)).compress
    return carry_out(parent, out, step, context)


def modules_of(steps: Iterable[Step]) -> frozenset[str]:
    """The dotted names of the modules that carry these steps out."""
    return frozenset(_module_of(step) for step in steps)


def _module_of(step: Step) -> str:
    return f"workers.compression.{MODULES[type(step)]}"
