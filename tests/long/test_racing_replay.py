"""Races replayed from a recorded search: the figures of `bench-racing.json`, and the marks they are held to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.benches import racing as bench
from orchestrator.benches.race_replay import RECORDED, RUNGS, Recorded, below, dominated, read_recorded, replay
from orchestrator.racing.judging import DROPS, comparators_for, floor_under, judge
from search_spaces.errors import StudyError
from tests.support.paths import ROOT
from workers.scoring.rungs import race_order

RESULTS = ROOT / "docs" / "results" / "bench-racing.json"


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return read_recorded()


@pytest.fixture(scope="module")
def figures(recorded: Recorded) -> dict[str, float]:
    return bench.figures(recorded)


def test_the_committed_figures_are_what_the_replay_gives(figures: dict[str, float]) -> None:
    committed = json.loads(RESULTS.read_text(encoding="utf-8"))["figures"]
    assert committed == {name: pytest.approx(value, abs=1e-4) for name, value in figures.items()}


def test_candidates_made_equal_are_dropped_in_at_most_5_percent_of_2000_replays(figures: dict[str, float]) -> None:
    assert bench.REPLAYS == 2000
    assert figures["wrong_drop_share"] <= 0.05
    assert figures["wrong_drop_share_several"] <= 0.05
    assert figures["wrong_drop_share_floor"] <= 0.05


def test_races_save_segments_in_every_order(figures: dict[str, float]) -> None:
    # 16 of the 48 trials had neither a point before them that beats them nor the floor above them: no race could save
    # more than `at_most`.
    assert 2.0 <= figures["segments_saved_ratio_least"] <= figures["segments_saved_ratio_at_most"]
    assert figures["segments_saved_ratio_no_floor"] < figures["segments_saved_ratio_least"]
    assert figures["segments_saved_ratio_dominated_least"] >= 5


def test_hopeless_trials_are_gone_at_the_first_rung(figures: dict[str, float]) -> None:
    assert figures["hopeless_gone_at_first_rung"] == figures["hopeless_trials"] > 0


def test_no_frontier_trial_is_dropped_in_any_order(figures: dict[str, float]) -> None:
    assert figures["frontier_trials_dropped_most"] == 0


def test_a_replay_says_what_judge_says(recorded: Recorded) -> None:
    order = race_order(recorded.segments, bench.SEED)
    baseline = recorded.trials[0]
    measured = [*floor_under(baseline, bench.FLOOR)]
    for trial, ended in zip(recorded.trials, replay(recorded, RUNGS, bench.SEED, bench.FLOOR), strict=True):
        if ended.kind == "go on":
            measured.append(trial)
            continue
        done = order[: ended.segments]
        verdict = judge(recorded.segments, done, trial.scores[done].tolist(), comparators_for(trial.bytes, measured))
        assert (verdict.kind, verdict.by) == (ended.kind, ended.by)


def test_the_record_is_scores_without_sentences(recorded: Recorded) -> None:
    assert RECORDED.stat().st_size <= 900_000
    assert len(recorded.trials) >= 24
    assert {segment.source for segment in recorded.segments} == {""}
    scores = np.stack([trial.scores for trial in recorded.trials])
    assert scores.shape == (len(recorded.trials), len(recorded.segments))
    assert 0 <= scores.min() <= scores.max() <= 100
    assert recorded.trials[0].number == 0
    assert recorded.trials[0].bytes == max(trial.bytes for trial in recorded.trials)


def test_a_trial_is_beaten_by_those_before_it(recorded: Recorded) -> None:
    beaten, ever = dominated(recorded), dominated(recorded, ever=True)
    assert 0 not in beaten < ever
    assert len(ever) < len(recorded.trials)


def test_a_race_stops_what_is_below_the_floor_and_nothing_else_more_than_before(recorded: Recorded) -> None:
    useless = below(recorded, bench.FLOOR)
    assert 0 < len(useless) < len(recorded.trials)
    kept = {ended.number for ended in replay(recorded, RUNGS, bench.SEED, bench.FLOOR) if ended.kind not in DROPS}
    before = {ended.number for ended in replay(recorded, RUNGS, bench.SEED) if ended.kind not in DROPS}
    assert before - kept <= useless
    assert below(recorded, 0.0) == set()


def test_a_record_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="use a checkout"):
        read_recorded(tmp_path / "none.npz")
