"""Which trial each alias names: by the split that judges, and none where no model earns it."""

from __future__ import annotations

from pathlib import Path

from orchestrator.finish.run_folder import read_data, reopen
from orchestrator.finish.wrap_up import read_results
from orchestrator.results.aliases import Choice, Judged, aliases, judged
from orchestrator.statistics.frontier import Objectives
from tests.support.recorded_run import Made, write_data, write_run

BASELINE = Objectives(60.0, 16_000)


def choices(*points: tuple[float, int]) -> tuple[Choice, ...]:
    return tuple(Choice(number, Objectives(quality, size)) for number, (quality, size) in enumerate(points, start=1))


def test_each_alias_by_hand() -> None:
    found = choices((60.5, 8000), (59.5, 4000), (58.0, 2000), (30.0, 1000), (40.0, 6000))
    # In log2 bytes from 1000 on, quality rises from 30 to 60.5 over 3 doublings; the third point is highest above that.
    assert aliases(Judged(found, BASELINE)) == {"best-quality": 1, "knee": 3, "smallest-at-99": 2, "smallest": 4}


def test_nothing_that_keeps_99_percent_has_no_alias_for_it() -> None:
    found = choices((59.3, 4000), (50.0, 2000))
    assert aliases(Judged(found, BASELINE)) == {"best-quality": 1, "knee": 1, "smallest": 2}
    assert "smallest-at-99" not in aliases(Judged(found, None))
    assert aliases(Judged((), BASELINE)) == {}


def test_of_equals_the_smaller_and_the_better() -> None:
    found = choices((60.0, 4000), (60.0, 3000), (50.0, 3000))
    assert aliases(Judged(found, None)) == {"best-quality": 2, "knee": 2, "smallest": 2}


def test_the_baseline_is_the_frontiers_end_and_never_the_knee() -> None:
    found = choices((45.0, 8000), (30.0, 1000))
    named = aliases(Judged(found, BASELINE))
    # Below the chord between the smallest and the baseline.
    assert named["knee"] == 2
    assert aliases(Judged(found[1:], BASELINE))["knee"] == 2


def test_held_out_data_judge_where_they_scored_the_baseline(tmp_path: Path) -> None:
    data = {"dev": write_data(tmp_path / "dev.jsonl"), "test": write_data(tmp_path / "test.jsonl", seed=1)}
    trials = [
        Made(10_000, bits=None), Made(6_000, bits=4), Made(5_000, bits=8, cut=0.4),
        Made(4_000, bits=3, sanity={"empty": 0.9}),
    ]  # fmt: skip
    on_dev = write_run(tmp_path / "dev", data, trials, speed=False)
    held_out = [Made(10_000, bits=None, split="test"), Made(5_000, bits=8, split="test")]
    both = write_run(tmp_path / "both", data, [*trials, *held_out], test=str(tmp_path / "test.jsonl"), speed=False)
    named = {}
    for folder in (on_dev, both):
        ledger, spec = reopen(folder)
        dev, _ = read_results(ledger, spec, read_data(spec))
        named[folder.name] = aliases(judged(dev))
    assert named["dev"] == {"best-quality": 1, "knee": 1, "smallest-at-99": 1, "smallest": 2}
    assert named["both"] == {"best-quality": 2, "knee": 2, "smallest-at-99": 2, "smallest": 2}
