"""Where a trial stands beside the frontier, in words: kept off it, dropped early, or not told from a smaller point."""

from __future__ import annotations

from orchestrator.statistics.frontier import below_floor
from search_spaces.outcome import Measurement, Race
from workers.scoring.sanity import over_limits


def kept_off(measurement: Measurement, baseline: Measurement | None, metric: str, floor: float) -> tuple[str, ...]:
    """Why a measured trial may not stand on the frontier: the sanity checks that it fails, and the study's floor if its
    quality is below it; empty when it may.

    metric: the quality. floor: the share of the baseline's that is asked for. A trial that a race ended is no point of
    the frontier either: it was not measured on every segment.
    """
    reasons = over_limits(measurement.sanity, baseline.sanity if baseline else None)
    if baseline is None or not below_floor(measurement.overall(metric), baseline.overall(metric), floor):
        return reasons
    kept = f"{measurement.overall(metric):.2f} of {baseline.overall(metric):.2f}"
    return (*reasons, f"{_floor_text(floor)}: {kept}")


def race_text(race: Race, segments: int | None = None) -> str:
    """`dropped at 64 of 252 segments: worse than trial 3 by 4.1 to 9.8`, or `… tie with trial 3`, or `… keeps less than
    50 % of the baseline's quality, for sure`.

    segments: of the whole data set, where known. A trial may be dropped by several points together: the interval of the
    one that is named then reaches 0, and only its lower end is said.
    """
    at = f"{race.segments:,} segments" if segments is None else f"{race.segments:,} of {segments:,} segments"
    if race.verdict == "tie":
        return f"dropped at {at}: tie with trial {race.by}"
    if race.verdict == "below the floor":
        return f"dropped at {at}: {_floor_text(race.floor)}, for sure"
    how_much = f"up to {-race.low:.1f}" if race.high >= 0 else f"{-race.high:.1f} to {-race.low:.1f}"
    return f"dropped at {at}: worse than trial {race.by} by {how_much}"


def _floor_text(floor: float) -> str:
    return f"keeps less than {100 * floor:g} % of the baseline's quality"
