"""A trial's line of the ledger as it grows, from what the driver asks for to what is on disk; its hypotheses' lines.

The driver and the worker each add their part; the ledger's writer adds the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

from search_spaces.candidate import CandidateJson


class AskedTrial(TypedDict):
    """What the driver asks for."""

    number: int
    """The trial's number; the baseline's is 0."""
    candidate: CandidateJson
    """What to try."""
    split: str
    """"dev", "test", "speed" or "profile"; with the candidate's digest the key of the line."""
    choices: dict[str, Any]
    """What the profile or the sampler chose; empty for the baseline and for given candidates."""
    predicted_bytes: int
    """Worked out before the trial."""
    why: NotRequired[dict[str, float]]
    """What was expected of a candidate that the search chose by its profile; not of others."""
    reference: NotRequired[bool]
    """True where the study names the candidate as a mark to judge others by; not of others."""


def asked_of(told: Mapping[str, Any]) -> AskedTrial:
    """What the driver asks for, out of all that it tells a trial."""
    return cast(AskedTrial, {key: told[key] for key in AskedTrial.__annotations__ if key in told})


class BegunTrial(AskedTrial):
    """A trial that a worker has begun."""

    attempt: int
    """From 1."""
    started: str
    """ISO 8601, UTC."""


class EndedTrial(BegunTrial):
    """A trial with its outcome, not on disk yet."""

    outcome: dict[str, Any]
    """What `outcome_from_json` reads; told apart by its key `kind`."""
    ended: str
    """ISO 8601, UTC."""
    worker: str
    """Host, process id and, where there are any, GPUs; empty where the worker was lost."""


class TrialLine(EndedTrial):
    """The ledger's line of a trial that has ended."""

    kind: Literal["trial"]
    digest: str
    """The candidate's, 16 hex digits."""
    hypotheses: str | None
    """The file of translations, relative to the run's folder; None without any."""


class HypothesisLine(TypedDict):
    """A line of a trial's hypotheses file; a segment has one."""

    id: str
    """The segment's."""
    text: str
    """The translation."""
    tokens: int
    """Generated, without the stop token."""
    truncated: bool
    """Whether the source was cut to the context, or the translation reached the length limit."""
    thought: NotRequired[bool]
    """Whether the model thought first; not in older files."""
    scores: NotRequired[dict[str, float]]
    """The segment's score by metric; not in older files."""
    failed: NotRequired[list[str]]
    """The sanity checks that it failed; not in older files."""
