"""Which candidates a CPU can time as they ship: those whose weights need no kernel that only a GPU has."""

from __future__ import annotations

from search_spaces.methods.quantizers import BitsAndBytes
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Recover

# Why weights are not timed as they are stored.
NEEDS_GPU = "the kernels for packed weights need a GPU"
SPARSE = "its weights are sparse, and no kernel runs them as they are stored"
APART = "its adapter is kept apart, and no kernel of this project's adds one to a packed weight's product"
TWO_LOADERS = "its layers are bitsandbytes' and its embeddings packed, and no loader keeps both"


def why_not_on_cpu(steps: tuple[Step, ...]) -> str | None:
    """Why a CPU can't time what these steps make; None for dense weights, and for those of bitsandbytes alone."""
    if timable_on_cpu(steps):
        return None
    if any(step.kind == "sparsifier" for step in steps):
        return SPARSE
    if any(isinstance(step, Recover) and _needs_more(step) for step in steps):
        return APART
    return TWO_LOADERS if any(isinstance(step, BitsAndBytes) for step in steps) else NEEDS_GPU


def timable_on_cpu(steps: tuple[Step, ...]) -> bool:
    """Whether what these steps make runs on a CPU as it is stored: dense weights, or those of bitsandbytes."""
    return not any(_needs_more(step) for step in steps)


def _needs_more(step: Step) -> bool:
    if isinstance(step, Recover):
        return step.adapter != "scales" and not step.merged
    packed = step.kind in ("quantizer", "embedding quantizer", "sparsifier")
    return packed and not isinstance(step, BitsAndBytes)
