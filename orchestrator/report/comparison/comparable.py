"""Whether two studies can be compared, and what of their conditions differs: from their ledgers' headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.ledger.lines import StudyHeader
from orchestrator.number_format import NONE, metric_name
from orchestrator.report.sections.conditions import flatten
from orchestrator.results.points import Results, quality_of

# Where a study is written and when it began says nothing of what it found.
NO_CONDITION = frozenset(
    {
        "spec.out",
        "spec.tracking_uri",
        "spec.experiment",
        "spec.store",
        "spec.store_limit",
        "spec.keep",
        "spec.published",
        "conditions.started",
    }
)
# By which a translation is made; a study that differs in one was measured otherwise.
DECODING = ("max_new_tokens", "beams", "prompt")
SPLITS = {"test": "the held-out test", "dev": "the data that both searches select on"}


@dataclass(frozen=True, slots=True)
class Study:
    """A finished or running study, as it is compared."""

    name: str
    """What it is called on the page."""
    folder: Path
    """The run's folder."""
    header: StudyHeader
    """The header of its ledger."""
    results: Mapping[str, Results]
    """Split -> what it found there, each judged on that split alone."""

    @property
    def quality(self) -> str:
        return quality_of(self.header)


@dataclass(frozen=True, slots=True)
class Comparability:
    """What can be said of two studies together."""

    split: str | None
    """The split whose segments they share, by which they are compared; None where there is none."""
    against: tuple[str, ...]
    """Why qualities can't be compared; empty where they can."""
    cautions: tuple[str, ...]
    """What else differs that a reader must know, a sentence each."""

    @property
    def comparable(self) -> bool:
        return not self.against


def comparability(one: Study, other: Study) -> Comparability:
    """By which split they can be compared, or why not."""
    against, cautions = [], []
    if one.quality != other.quality:
        names = f"{metric_name(one.quality)} in {one.name}, {metric_name(other.quality)} in {other.name}"
        against.append(f"the frontiers are of other metrics ({names})")
    split = next((split for split in SPLITS if _share(one, other, split)), None)
    if split is None:
        against.append("they were measured on other test data")
    elif split == "dev":
        cautions.append(
            "They share no held-out test, so they are compared on the data that chose their candidates, which flatters "
            "both."
        )
    if one.header["base"]["revision"] != other.header["base"]["revision"]:
        cautions.append(
            f"Their baselines are other models ({_base(one)} in {one.name}, {_base(other)} in {other.name}): sizes and "
            "qualities can be compared, ratios and shares kept can't."
        )
    differing = [key for key in DECODING if one.header["spec"].get(key) != other.header["spec"].get(key)]
    if differing:
        cautions.append(f"They translate under other conditions: {', '.join(differing)}.")
    return Comparability(None if against else split, tuple(against), tuple(cautions))


def differing_conditions(one: Study, other: Study) -> list[tuple[str, str, str]]:
    """(key, the first study's value, the second's) of all that was asked or measured otherwise."""
    mine, theirs = _conditions(one), _conditions(other)
    return [
        (key, mine.get(key, NONE), theirs.get(key, NONE))
        for key in dict.fromkeys((*mine, *theirs))
        if mine.get(key, NONE) != theirs.get(key, NONE)
    ]


def _share(one: Study, other: Study, split: str) -> bool:
    digests = [study.header["data"].get(split) for study in (one, other)]
    return digests[0] is not None and digests[0] == digests[1] and all(split in s.results for s in (one, other))


def _base(study: Study) -> str:
    return Path(study.header["base"]["name"]).name


def _conditions(study: Study) -> dict[str, str]:
    header: dict[str, Any] = dict(study.header)
    # A key that an earlier version did not have says as much as one that nothing was said of.
    asked = {key: value for key, value in flatten(header) if key not in NO_CONDITION and value != "null"}
    measured: dict[str, set[str]] = {}
    for results in study.results.values():
        for point in results.points:
            for name, value in point.measurement.conditions.items():
                measured.setdefault(name, set()).add(value)
    return asked | {f"measured.{name}": "; ".join(sorted(values)) for name, values in measured.items()}
