"""Candidates in a few characters, for a table or a picture."""

from __future__ import annotations

from search_spaces.candidate import Candidate


def short_label(candidate: Candidate) -> str:
    """A candidate in a few characters, such as `rtn 4-bit g64, emb 8-bit g64`."""
    return ", ".join(step.short_label() for step in candidate.steps) or "baseline"
