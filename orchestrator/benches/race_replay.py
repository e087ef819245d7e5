"""Replay races from the recorded segment scores of a search: what they would have saved, and how often they err."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.racing.documents import Evidence, Positions, RaceDocuments
from orchestrator.racing.judging import (
    ALPHA,
    MARGIN,
    Comparator,
    Kind,
    comparators_for,
    decide,
    dominator,
    floor_among,
    floor_under,
)
from orchestrator.statistics.betting import Array
from orchestrator.statistics.frontier import Objectives, below_floor, dominates
from orchestrator.study.spec import DEFAULT_RUNGS
from search_spaces.errors import StudyError
from workers.reading.segments import Segment
from workers.scoring.rungs import race_order, rung_ends

RUNGS = DEFAULT_RUNGS
RECORDED = Path(__file__).with_name("recorded-search.npz")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A search whose every trial translated every segment.

    segments: pair and document alone, without texts. trials: in the order in which they were measured, the baseline
    first. names: what each trial did to the model. about: what the scores were taken under.
    """

    segments: tuple[Segment, ...]
    trials: tuple[Comparator, ...]
    names: tuple[str, ...]
    about: dict[str, str]


@dataclass(frozen=True, slots=True)
class Raced:
    """How a trial's race ended: after so many segments, for what reason, and because of which trial."""

    number: int
    kind: Kind
    segments: int
    by: int | None


@dataclass(frozen=True, slots=True)
class Look:
    """A rung: the positions done by then, and their documents."""

    positions: Positions
    documents: RaceDocuments


def read_recorded(path: Path = RECORDED) -> Recorded:
    """The recorded search; raises StudyError where it is missing, as outside of a checkout.

    The file holds whole steps of a score, fewer than 256: the first trial's, and for each later one how far it is from
    the first, around 256.
    """
    if not path.is_file():
        raise StudyError(
            f"{path} is not there; recorded scores come with the source alone, not with the package: use a checkout"
        )
    with np.load(path, allow_pickle=False) as held:
        kept: dict[str, Any] = {name: held[name] for name in held.files}
    segments = tuple(
        Segment(f"{pair}:{document}", str(pair), "", ("",), doc_id=str(document), domain="")
        for pair, document in zip(kept["pair_names"][kept["pairs"]], kept["documents"], strict=True)
    )
    steps = kept["scores"]
    steps[1:] += steps[0]
    columns = zip(kept["numbers"], kept["bytes"], kept["quality"], steps / int(kept["steps_a_point"]), strict=True)
    trials = tuple(
        Comparator(int(number), int(size), float(quality), scores) for number, size, quality, scores in columns
    )
    about = dict(zip(map(str, kept["about_names"]), map(str, kept["about"]), strict=True))
    return Recorded(segments, trials, tuple(map(str, kept["names"])), about)


def replay(recorded: Recorded, rungs: Sequence[int], seed: int, floor: float = 0.0) -> list[Raced]:
    """Race each trial but the baseline, in the order of the search, against those that were then measured in full.

    floor: the share of the baseline's quality below which a trial is of no use.
    """
    looks = _looks(recorded, rungs, seed)
    baseline, *others = recorded.trials
    measured = [baseline, *floor_under(baseline, floor)]
    raced = [Raced(baseline.number, "go on", len(baseline.scores), None)]
    for trial in others:
        ended = _race(trial, comparators_for(trial.bytes, measured), looks)
        raced.append(ended)
        if ended.kind == "go on":
            measured.append(trial)
    return raced


def dominated(recorded: Recorded, ever: bool = False) -> set[int]:
    """The numbers of the trials that another one measured before dominates, every segment scored; `ever`: any other.

    A race compares a trial with what was measured before it, and the first trial with nothing.
    """
    losses = [Objectives(trial.quality, trial.bytes) for trial in recorded.trials]
    return {
        trial.number
        for at, trial in enumerate(recorded.trials)
        if any(dominates(other, losses[at]) for other in (losses if ever else losses[:at]))
    }


def below(recorded: Recorded, floor: float) -> set[int]:
    """The numbers of the trials below the floor, every segment scored."""
    baseline = recorded.trials[0].quality
    return {trial.number for trial in recorded.trials if below_floor(trial.quality, baseline, floor)}


def wrong_drops(recorded: Recorded, replays: int, rivals: int, seed: int, floor: float = 0.0) -> int:
    """In how many replays a candidate as good as its comparators was dropped, at any rung.

    Each replay draws a candidate and so many comparators from the trials, and has them exchange their scores at random,
    document by document, a text in all pairs alike: with one comparator that is a sign flip of each difference. All are
    then equally good, and differ as much as real ones. With a floor its scores are exchanged too: the candidate is then
    as good as the floor and no better.
    """
    rng = np.random.default_rng(seed)
    looks = _looks(recorded, RUNGS, seed)
    scores = np.stack([trial.scores for trial in recorded.trials])
    least = [point.scores for point in floor_under(recorded.trials[0], floor)]
    many = rivals + 1 + len(least)
    texts = np.unique([segment.doc_id for segment in recorded.segments], return_inverse=True)[1]
    everywhere = np.arange(len(texts))
    wrong = 0
    for _ in range(replays):
        drawn = np.stack([*scores[rng.choice(len(scores), rivals + 1, replace=False)], *least])
        places = rng.permuted(np.tile(np.arange(many), (int(texts.max()) + 1, 1)), axis=1)[texts]
        candidate, *others = drawn[places.T, everywhere]
        others.sort(key=lambda other: -float(other.mean()))
        wrong += any(dominator(_evidence(candidate, others, look), ALPHA) is not None for look in looks)
    return wrong


def _looks(recorded: Recorded, rungs: Sequence[int], seed: int) -> list[Look]:
    order = race_order(recorded.segments, seed)
    return [
        Look(np.asarray(order[:end]), RaceDocuments(recorded.segments, order[:end]))
        for end in rung_ends(recorded.segments, order, rungs)
    ]


def _race(trial: Comparator, comparators: Sequence[Comparator], looks: Sequence[Look]) -> Raced:
    """The last look is no decision: everything is translated by then."""
    for look in looks[:-1]:
        kind, at = _decide(trial.scores, comparators, look)
        if kind != "go on":
            return Raced(trial.number, kind, len(look.positions), comparators[at].number)
    return Raced(trial.number, "go on", len(trial.scores), None)


def _decide(candidate: Array, comparators: Sequence[Comparator], look: Look) -> tuple[Kind, int]:
    if not comparators:
        return "go on", 0
    evidence = _evidence(candidate, [point.scores for point in comparators], look)
    return decide(evidence, ALPHA, MARGIN, floor_among(comparators))


def _evidence(candidate: Array, others: Sequence[Array], look: Look) -> list[list[Evidence]]:
    mine = candidate[look.positions]
    return [look.documents.evidence(mine, other) for other in others]
