"""What a replayed search saves by shared steps, by its profile and at most by races, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.benches.search_replay.figures import Ended, Run
from orchestrator.benches.search_replay.savings import races_save_at_most, saved_by_prefixes, savings
from tests.support.search_tables import STAGES, TABLE, row

# Two layers gone; then, over them, four bits; then those with the embeddings too.
TRIED = [0, row(2, "none", 16), row(2, "gptq4", 16), row(2, "gptq4", 4)]


def run_of(rows: list[int], seconds: float, start: float = 0.0) -> Run:
    """All rows end at the same time, and the last one finds what was missing."""
    shares = [0.0] * (len(rows) - 1) + [1.0]
    ended = (Ended(seconds, at, float(TABLE.quality[at]), share) for at, share in zip(rows, shares, strict=True))
    return Run(tuple(ended), start, 1000.0, TABLE.rows)


def test_shared_steps_would_be_built_again() -> None:
    """Four trials of 10 s. Layers (10), four bits (20) and embeddings (5) are built once: 35 s, not 10 + 30 + 35;
    seven seconds were spent before."""
    seconds = 7 + 4 * 10 + 35
    assert saved_by_prefixes(TABLE, run_of(TRIED, seconds, start=7.0)) == pytest.approx(1 - seconds / (7 + 40 + 75))


def test_trials_after_the_last_that_was_needed_count_for_nothing() -> None:
    run = run_of(TRIED, 82.0, start=7.0)
    longer = replace(run, ended=(*run.ended, Ended(200.0, row(0, "gptq3", 4), 50.0, 1.0)))
    assert saved_by_prefixes(TABLE, longer) == saved_by_prefixes(TABLE, run)
    assert races_save_at_most(TABLE, longer) == races_save_at_most(TABLE, run)


def test_a_race_ends_what_an_earlier_trial_beats_and_nothing_else() -> None:
    translated = STAGES[2] + STAGES[3]
    beats, beaten = row(0, "gptq4", 16), row(0, "awq4", 16)
    assert TABLE.bytes[beats] == TABLE.bytes[beaten] and TABLE.quality[beats] > TABLE.quality[beaten]
    assert races_save_at_most(TABLE, run_of([0, beats, beaten], 50.0)) == pytest.approx(translated / 50)
    assert races_save_at_most(TABLE, run_of([0, beaten, beats], 50.0)) == 0.0


def test_a_race_ends_what_is_below_the_floor() -> None:
    quality = TABLE.quality.copy()
    poor = row(2, "gptq3", 4)
    quality[poor] = 29.0
    table = replace(TABLE, quality=quality)
    assert races_save_at_most(table, run_of([0, poor], 50.0)) == pytest.approx((STAGES[2] + STAGES[3]) / 50)


def test_the_profile_saves_what_a_search_without_it_takes_longer() -> None:
    found = savings(TABLE, [run_of(TRIED, 80.0), run_of(TRIED, 90.0), run_of(TRIED, 70.0)], [run_of(TRIED, 100.0)])
    assert found["saved_by_profile"] == pytest.approx(0.2)
    assert found["seconds_blind"] == 100.0
