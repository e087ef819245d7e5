"""The bytes a candidate will take on disk, worked out from the base's tensor table before any GPU is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from search_spaces import pruned_size, quantized_size, trained_size
from search_spaces.checkpoint import Checkpoint
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
from search_spaces.refusals import refuse_uncompressible
from search_spaces.trainers import Distill, Finetune, Recover


def predicted_bytes(base: Checkpoint, steps: tuple[Step, ...]) -> int:
    """Bytes of all files needed to run the candidate; raises CandidateError when a step can't apply to this model."""
    if steps:
        refuse_uncompressible(base)
    checkpoint = base
    for step in steps:
        if step.kind in ("quantizer", "sparsifier"):
            checkpoint = replace(checkpoint, linears=checkpoint.linear_shapes())
        checkpoint = _EFFECTS[type(step)](checkpoint, step)
    return checkpoint.bytes


_EFFECTS: dict[type[Step], Callable[[Checkpoint, Any], Checkpoint]] = {
    RoundToNearest: quantized_size.after_integers,
    HalfQuadratic: quantized_size.after_integers,
    ActivationAware: quantized_size.after_integers,
    GPTQ: quantized_size.after_integers,
    MixedWidths: quantized_size.after_mixed,
    BitsAndBytes: quantized_size.after_bitsandbytes,
    EightBitFloat: quantized_size.after_fp8,
    EightBitIntegers: quantized_size.after_w8a8,
    QuantizeEmbeddings: quantized_size.after_embeddings,
    RemoveLayers: pruned_size.after_remove_layers,
    RemoveHeads: pruned_size.after_remove_heads,
    RemoveChannels: pruned_size.after_remove_channels,
    TrimVocabulary: pruned_size.after_trim_vocabulary,
    Magnitude: pruned_size.after_sparsifier,
    Wanda: pruned_size.after_sparsifier,
    SparseGPT: pruned_size.after_sparsifier,
    Recover: trained_size.after_recover,
    Finetune: trained_size.after_finetune,
    Distill: trained_size.after_distill,
}
