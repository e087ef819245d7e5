"""Where a trial stands beside the frontier, in words: kept off it, dropped early, or not told from a smaller point."""

from __future__ import annotations

from search_spaces.outcome import Measurement, Race
from workers.sanity import over_limits


def kept_off(measurement: Measurement, baseline: Measurement | None) -> tuple[str, ...]:
    """Why a measured trial may not stand on the frontier: the sanity checks that it fails; empty when it may.

    A trial that a race ended is no point of the frontier either: it was not measured on every segment.
    """
    return over_limits(measurement.sanity, baseline.sanity if baseline else None)


def race_text(race: Race, segments: int | None = None) -> str:
    """`dropped at 64 of 252 segments: worse than trial 3 by 4.1 to 9.8`, or `… tie with trial 3`.

    segments: of the whole data set, where known. A trial may be dropped by several points together: the interval of the
    one that is named then reaches 0, and only its lower end is said.
    """
    at = f"{race.segments:,} segments" if segments is None else f"{race.segments:,} of {segments:,} segments"
    if race.verdict == "tie":
        return f"dropped at {at}: tie with trial {race.by}"
    how_much = f"up to {-race.low:.1f}" if race.high >= 0 else f"{-race.high:.1f} to {-race.low:.1f}"
    return f"dropped at {at}: worse than trial {race.by} by {how_much}"
