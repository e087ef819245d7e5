"""The bytes a candidate will take on disk, worked out from the base's tensor table before any GPU is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from search_spaces.sizes import pruned, quantized, trained
from search_spaces.sizes.refusals import refuse_uncompressible
from search_spaces.sizes.tensor_table import Checkpoint


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
    RTN: quantized.after_integers,
    HQQ: quantized.after_integers,
    AWQ: quantized.after_integers,
    GPTQ: quantized.after_integers,
    MixedWidths: quantized.after_mixed,
    BitsAndBytes: quantized.after_bitsandbytes,
    FP8: quantized.after_fp8,
    W8A8: quantized.after_w8a8,
    QuantizeEmbeddings: quantized.after_embeddings,
    RemoveLayers: pruned.after_remove_layers,
    RemoveHeads: pruned.after_remove_heads,
    RemoveChannels: pruned.after_remove_channels,
    TrimVocabulary: pruned.after_trim_vocabulary,
    Magnitude: pruned.after_sparsifier,
    Wanda: pruned.after_sparsifier,
    SparseGPT: pruned.after_sparsifier,
    Recover: trained.after_recover,
    Finetune: trained.after_finetune,
    Distill: trained.after_distill,
}
