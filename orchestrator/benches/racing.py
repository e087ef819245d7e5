"""`mtpareto bench racing`: what races save on a recorded search, and how often they drop what is as good."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.benches.race_replay import (
    RUNGS,
    Raced,
    Recorded,
    below,
    dominated,
    read_recorded,
    replay,
    wrong_drops,
)
from orchestrator.benches.results_file import write_results
from orchestrator.racing.judging import ALPHA, DROP_SHARE, DROPS, MARGIN
from orchestrator.study.spec import DEFAULT_FLOOR
from workers.plan.conditions import installed_versions
from workers.scoring.rungs import documents_by_pair

REPLAYS = 2000
SEVERAL = 4
ORDERS = 20
FLOOR = DEFAULT_FLOOR
SEED = 0
# A trial this many points of quality below a smaller one is hopeless: it should be gone at the first rung.
HOPELESS = 10.0


def bench_racing(output: Path, command: str) -> dict[str, Any]:
    """Replay the recorded search and write `output` in the form of every results file; returns what was written.

    Takes a minute or so of one CPU core. Raises StudyError where the recorded scores are missing.
    """
    recorded = read_recorded()
    record = {
        "figures": {name: round(value, 4) for name, value in figures(recorded).items()},
        "conditions": {
            **recorded.about,
            "rungs": f"{', '.join(map(str, RUNGS))}, all",
            "error": f"{ALPHA:.0%} a candidate, {DROP_SHARE:.0%} of it for drops, ties within {MARGIN} points",
            "floor": f"{FLOOR:.0%} of the baseline",
            "wrong drops": f"{REPLAYS} replays with 1 comparator, with {SEVERAL}, and with 1 and the floor, scores "
            "exchanged by document",
            "orders": f"figures of order {SEED}; the least of orders 0 to {ORDERS - 1}",
            "seed": str(SEED),
            "date": datetime.now(UTC).date().isoformat(),
            "python": platform.python_version(),
            **installed_versions(["numpy"]),
        },
        "command": command,
    }
    write_results(output, record)
    return record


def figures(recorded: Recorded) -> dict[str, float]:
    """Every figure of the bench, by name.

    The saving over all trials is bounded by `segments_saved_ratio_at_most`: a trial that nothing measured before
    dominates, and that is not below the floor, has to be translated whole, however quick the races.
    """
    races = [replay(recorded, RUNGS, seed, FLOOR) for seed in range(SEED, SEED + ORDERS)]
    beaten, ever_beaten = dominated(recorded), dominated(recorded, ever=True)
    useless = below(recorded, FLOOR)
    every = {trial.number for trial in recorded.trials}
    saved = [saved_ratio(recorded, raced, every) for raced in races]
    saved_beaten = [saved_ratio(recorded, raced, beaten) for raced in races]
    dropped = [{ended.number for ended in raced if ended.kind in DROPS} for raced in races]
    lost_hope = hopeless(recorded)
    first = [ended for ended in races[0] if ended.number in lost_hope]
    between_pairs = correlations(recorded)
    return {
        "wrong_drop_share": wrong_drops(recorded, REPLAYS, 1, SEED) / REPLAYS,
        "wrong_drop_share_several": wrong_drops(recorded, REPLAYS, SEVERAL, SEED) / REPLAYS,
        "wrong_drop_share_floor": wrong_drops(recorded, REPLAYS, 1, SEED, FLOOR) / REPLAYS,
        "segments_saved_ratio": saved[0],
        "segments_saved_ratio_least": min(saved),
        "segments_saved_ratio_at_most": len(every) / len(every - beaten - useless),
        "segments_saved_ratio_no_floor": saved_ratio(recorded, replay(recorded, RUNGS, SEED), every),
        "segments_saved_ratio_dominated": saved_beaten[0],
        "segments_saved_ratio_dominated_least": min(saved_beaten),
        "segments_saved_ratio_dominated_ever": saved_ratio(recorded, races[0], ever_beaten),
        "trials": len(recorded.trials),
        "trials_dominated": len(beaten),
        "trials_dominated_ever": len(ever_beaten),
        "trials_below_floor": len(useless),
        "trials_dropped": len(dropped[0]),
        "trials_dropped_floor": sum(ended.kind == "below the floor" for ended in races[0]),
        "trials_tied": sum(ended.kind == "tie" for ended in races[0]),
        "frontier_trials_dropped_most": max(len(each - ever_beaten - useless) for each in dropped),
        "hopeless_trials": len(lost_hope),
        "hopeless_gone_at_first_rung": sum(ended.segments == _first_rung(races[0]) for ended in first),
        "correlation_between_pairs_mean": float(np.mean(between_pairs)),
        "correlation_between_pairs_most": float(np.max(between_pairs)),
    }


def saved_ratio(recorded: Recorded, raced: Sequence[Raced], numbers: set[int]) -> float:
    """Segments of full evaluation over those that the races translated, of these trials."""
    translated = [ended.segments for ended in raced if ended.number in numbers]
    return len(translated) * len(recorded.segments) / sum(translated)


def hopeless(recorded: Recorded) -> set[int]:
    """The numbers of the trials that are HOPELESS points or more below an earlier one of no more bytes."""
    return {
        trial.number
        for at, trial in enumerate(recorded.trials)
        if any(
            other.bytes <= trial.bytes and other.quality - trial.quality >= HOPELESS for other in recorded.trials[:at]
        )
    }


def correlations(recorded: Recorded) -> list[float]:
    """How far a text's differences go together in two language pairs: one correlation for each two trials and pairs.

    Races take documents of different pairs for independent. Every text is in every pair.
    """
    by_pair = documents_by_pair(recorded.segments)
    texts = sorted(next(iter(by_pair.values())))
    at = np.asarray([[documents[text][0] for text in texts] for documents in by_pair.values()])
    found: list[float] = []
    for one, other in itertools.combinations(recorded.trials, 2):
        differences = (one.scores - other.scores)[at]
        if differences.std(axis=1).all():
            found += np.corrcoef(differences)[np.triu_indices(len(at), 1)].tolist()
    return found


def _first_rung(raced: Sequence[Raced]) -> int:
    return min(ended.segments for ended in raced)
