"""Candidates in a few characters, for a table or a picture."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.candidate import Candidate
from search_spaces.methods.registry import Step


def short_label(candidate: Candidate) -> str:
    """A candidate in a few characters, such as `rtn 4-bit g64, emb 8-bit g64`."""
    return short_steps(candidate.steps)


def short_steps(steps: Sequence[Step]) -> str:
    """As `short_label`, by the candidate's steps."""
    return ", ".join(step.short_label() for step in steps) or "baseline"
