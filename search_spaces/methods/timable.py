"""Which candidates a CPU can time as they ship: those whose weights need no kernel that only a GPU has."""

from __future__ import annotations

from search_spaces.methods.quantizers import BitsAndBytes
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Recover


def timable_on_cpu(steps: tuple[Step, ...]) -> bool:
    """Whether what these steps make runs on a CPU as it is stored: dense weights, or those of bitsandbytes."""
    return not any(_needs_more(step) for step in steps)


def _needs_more(step: Step) -> bool:
    if isinstance(step, Recover):
        return step.adapter != "scales" and not step.merged
    packed = step.kind in ("quantizer", "embedding quantizer", "sparsifier")
    return packed and not isinstance(step, BitsAndBytes)
