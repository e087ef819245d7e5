"""The bytes a candidate will take on disk, worked out from the base's tensor table before any GPU is spent."""

from __future__ import annotations

from dataclasses import replace

from search_spaces.methods.registry import Step
from search_spaces.sizes.refusals import refuse_uncompressible
from search_spaces.sizes.tensor_table import Checkpoint


def predicted_bytes(base: Checkpoint, steps: tuple[Step, ...]) -> int:
    """Bytes of all files needed to run the candidate; raises CandidateError when a step can't apply to this model."""
    return predicted_checkpoint(base, steps).bytes


def predicted_checkpoint(base: Checkpoint, steps: tuple[Step, ...]) -> Checkpoint:
    """The candidate's table and the bytes of its files; raises CandidateError when a step can't apply to this model."""
    if steps:
        refuse_uncompressible(base)
    checkpoint = base
    for step in steps:
        if step.kind in ("quantizer", "sparsifier"):
            checkpoint = replace(checkpoint, linears=checkpoint.linear_shapes())
        checkpoint = step.after(checkpoint)
    return checkpoint
