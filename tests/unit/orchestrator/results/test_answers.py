"""What a report begins with: the smallest at each share, on the mean and on the worst pair, and the fastest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.ledger.records import read_ledger
from orchestrator.results.answers import fastest, judged_by, kept_on_worst_pair, on_the_mean, on_the_worst_pair
from orchestrator.results.intervals import Intervals
from orchestrator.results.points import Results, collect, judge_on_test
from search_spaces.outcome import Speed
from tests.support.recorded_run import Made, write_data, write_run
from workers.reading.segments import DataSet

# Of every second segment, which are en-de's, a part is lost: one pair is worse than the mean.
ONE_PAIR = dict.fromkeys(range(1, 96, 2), 0.05)
TRIALS = [
    Made(1000, 0.0, None),
    Made(900, 0.0, 8),
    Made(700, 0.0, 4, ONE_PAIR),
    Made(500, 0.03, 3),
    Made(300, 0.6, 2),
]


@pytest.fixture(name="data", scope="module")
def dev_data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return write_data(tmp_path_factory.mktemp("data") / "dev.jsonl", segments=96)


@pytest.fixture(name="dev", scope="module")
def found_on_dev(tmp_path_factory: pytest.TempPathFactory, data: DataSet) -> Results:
    folder = write_run(tmp_path_factory.mktemp("run") / "run", {"dev": data}, TRIALS)
    return collect(read_ledger(folder).on("dev"), Intervals(folder, data, 0), floor=0.2)


def timed(dev: Results, speeds: dict[int, Speed]) -> Results:
    points = (replace(point, speed=speeds.get(point.record.number)) for point in dev.points)
    return replace(dev, points=tuple(points))


def test_each_answer_is_the_smallest_that_keeps_the_share_and_the_next_smaller_does_not(dev: Results) -> None:
    baseline = dev.baseline
    assert baseline is not None
    for answer in on_the_mean(dev, None)[1:]:
        assert answer.asked is not None
        enough = [
            point.bytes for point in dev.points if point.steps and point.quality >= answer.asked * baseline.quality
        ]
        assert answer.found is not None and answer.found.point.bytes == min(enough)
        assert answer.found.share >= answer.asked


def test_no_loss_is_shown_where_the_interval_reaches_the_baseline(dev: Results) -> None:
    no_loss = on_the_mean(dev, None)[0]
    assert no_loss.asked is None and no_loss.found is not None and no_loss.found.number == 1
    lossy = [point for point in dev.points if point.bytes < 900]
    assert all(point.interval is not None and point.interval.high < 0 for point in lossy)


def test_a_loss_that_dev_shows_is_a_loss_shown_whatever_held_out_data_say(tmp_path: Path) -> None:
    data = {name: write_data(tmp_path / f"{name}.jsonl", 96, seed) for seed, name in enumerate(("dev", "test"))}
    trials = [
        Made(1000, 0.0, None),
        Made(500, 0.0, 4),
        Made(400, 0.05, 3),
        *(Made(size, 0.0, bits, split="test") for size, bits in ((1000, None), (500, 4), (400, 3))),
    ]
    ledger = read_ledger(write_run(tmp_path / "run", data, trials))
    alone, test = (collect(ledger.on(name), Intervals(tmp_path / "run", data[name], 0)) for name in ("dev", "test"))
    dev = judge_on_test(alone, test)
    for answers in (on_the_mean(dev, test), on_the_worst_pair(dev, test)):
        no_loss, at_99 = answers[0].found, answers[1].found
        assert no_loss is not None and no_loss.number == 1
        assert at_99 is not None and at_99.number == 2, "what is kept is the held-out data's alone"


def test_the_worst_pair_is_the_one_that_keeps_least_and_asks_for_more_than_the_mean(dev: Results) -> None:
    baseline, uneven = dev.baseline, dev.points[2]
    assert baseline is not None
    kept = kept_on_worst_pair(uneven, baseline, 2)
    ours, whole = (one.measurement.scores["chrf"] for one in (uneven, baseline))
    assert kept.pair == "en-de"
    assert kept.share == pytest.approx(ours["en-de"].value / whole["en-de"].value)
    assert kept.interval is not None and kept.interval.low < kept.share < kept.interval.high
    mean, worst = on_the_mean(dev, None), on_the_worst_pair(dev, None)
    for one, other in zip(mean, worst, strict=True):
        sizes = [answer.found.point.bytes if answer.found else 10**9 for answer in (one, other)]
        assert sizes[0] <= sizes[1]


def test_none_is_an_answer_with_the_nearest(dev: Results) -> None:
    poor = replace(dev, points=(dev.points[0], dev.points[4]))
    answers = on_the_mean(poor, None)
    assert [answer.found for answer in answers] == [None] * 4
    assert {answer.nearest.number for answer in answers if answer.nearest} == {4}
    assert on_the_mean(replace(dev, points=dev.points[1:]), None) == [], "nothing to compare with"
    assert on_the_mean(replace(dev, points=dev.points[:1]), None) == []


def test_held_out_data_answer_where_there_are_any_and_trials_keep_their_numbers(tmp_path: Path) -> None:
    data = {name: write_data(tmp_path / f"{name}.jsonl", 96, seed) for seed, name in enumerate(("dev", "test"))}
    trials = [
        Made(1000, 0.0, None),
        Made(500, 0.0, 4),
        Made(400, 0.0, 3),
        Made(1000, 0.0, None, split="test"),
        Made(500, 0.0, 4, split="test"),
        Made(400, 0.3, 3, split="test"),
    ]
    folder = write_run(tmp_path / "run", data, trials)
    ledger = read_ledger(folder)
    alone, test = (collect(ledger.on(name), Intervals(folder, data[name], 0)) for name in ("dev", "test"))
    dev = judge_on_test(alone, test)
    found = [answer.found for answer in on_the_mean(dev, test)]
    assert judged_by(dev, test) is test and judged_by(dev, None) is dev
    assert [one.number for one in found if one] == [1] * 4, "trial 2 is as good on dev alone"
    assert [one.number for answer in on_the_mean(alone, None) if (one := answer.found)] == [2] * 4


def test_the_fastest_keeps_99_percent_and_stands_beside_the_baseline(dev: Results) -> None:
    speeds = {
        0: Speed({1: 10.0, 8: 50.0}),
        1: Speed({1: 20.0, 8: 100.0}),
        4: Speed({1: 99.0, 8: 999.0}),
        3: Speed(reason="no kernel"),
    }
    found = fastest(timed(dev, speeds), None)
    assert found is not None and found.kept is not None
    assert (found.kept.number, found.batch, found.tokens_s, found.baseline) == (1, 8, 100.0, 50.0)
    itself = fastest(timed(dev, {0: Speed({8: 50.0}), 1: Speed({8: 40.0})}), None)
    assert itself is not None and itself.kept is None and itself.tokens_s == 50.0
    assert fastest(dev, None) is None
    assert fastest(timed(dev, {4: Speed({8: 999.0})}), None) is None
