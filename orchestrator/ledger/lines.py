"""The lines of `ledger.jsonl` as JSON objects; `kind` says what a line is."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from workers.evaluation.trial_lines import TrialLine


class BaseJson(TypedDict):
    """The model that a study compresses."""

    name: str
    """Its hub id or folder."""
    revision: str
    """The hub's commit, or `sha256:…` or `sampled:…` of a folder."""
    bytes: int
    """Its size on disk."""


class StudyHeader(TypedDict):
    """What was asked, and what everything is measured under."""

    spec: dict[str, Any]
    """The study as it was given."""
    base: BaseJson
    """The model, what its files are known by, and its bytes."""
    data: dict[str, str]
    """Split -> digest of its data set."""
    calibration: NotRequired[dict[str, str]]
    """Digests of the calibration data; not in older ledgers."""
    unseen: NotRequired[list[str]]
    """Languages that the calibration data lack; not in older ledgers."""
    training: NotRequired[dict[str, Any] | None]
    """What the training data is known by, or None without any; not in older ledgers."""
    metrics: NotRequired[list[str]]
    """The quality first; not in older ledgers."""
    conditions: dict[str, str]
    """When the study began, and the versions that it began under."""


class StudyLine(StudyHeader):
    """The first line, written once."""

    kind: Literal["study"]
    schema: int


class BeginLine(TypedDict):
    """A driver goes to work."""

    kind: Literal["begin"]
    trials: int
    """How many trials it was asked for in all."""


class EndLine(TypedDict):
    """A driver stops in order."""

    kind: Literal["end"]
    complete: bool
    """Whether the search is over."""


Line = StudyLine | BeginLine | TrialLine | EndLine
