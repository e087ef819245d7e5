"""The table that joins each method to the module that carries it out."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

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
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Distill, Finetune, Recover
from workers.plan.compression_context import CompressionContext, Report

Compress = Callable[[Path, Path, Any, CompressionContext], Report]

# The module whose `compress(parent, out, step, context)` carries the method out.
MODULES: dict[type[Step], str] = {
    RTN: "workers.compression.quantization.rtn",
    HQQ: "workers.compression.quantization.hqq",
    AWQ: "workers.compression.quantization.awq",
    GPTQ: "workers.compression.quantization.gptq",
    MixedWidths: "workers.compression.mixed_widths.mixed",
    BitsAndBytes: "workers.compression.quantization.bitsandbytes",
    FP8: "workers.compression.quantization.fp8",
    W8A8: "workers.compression.quantization.w8a8",
    QuantizeEmbeddings: "workers.compression.quantization.embeddings",
    RemoveLayers: "workers.compression.pruning.remove_layers",
    RemoveHeads: "workers.compression.pruning.remove_heads",
    RemoveChannels: "workers.compression.pruning.remove_channels",
    TrimVocabulary: "workers.compression.vocabulary.trim_vocabulary",
    Magnitude: "workers.compression.pruning.magnitude",
    Wanda: "workers.compression.pruning.wanda",
    SparseGPT: "workers.compression.pruning.sparsegpt",
    Recover: "workers.training.recover",
    Finetune: "workers.training.finetune",
    Distill: "workers.training.distill",
}

WITHOUT_CALIBRATION: frozenset[type[Step]] = frozenset(
    {
        RTN, HQQ, BitsAndBytes, FP8, W8A8, QuantizeEmbeddings, Magnitude,
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
    return MODULES[type(step)]
