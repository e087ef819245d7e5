"""Races are decided by evidence that holds at every look: error rates by simulation, and cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.racing.documents import RaceDocuments
from orchestrator.racing.judging import DROPS, Comparator, comparators_for, decide, floor_under, judge
from orchestrator.statistics.betting import BETS, SHARES, Sample, log_capital, upper_end
from tests.unit.workers.scoring.test_racing_rungs import segments_of
from workers.reading.segments import Segment
from workers.scoring.rungs import race_order, rung_ends

ALPHA, MARGIN = 0.05, 0.3


def point(number: int, size: int, quality: float, scores: np.ndarray | None = None) -> Comparator:
    return Comparator(number, size, quality, np.zeros(0) if scores is None else scores)


def verdicts(
    segments: list[Segment], candidate: np.ndarray, others: list[np.ndarray], looks: list, floor: int | None = None
) -> set[str]:
    return {
        decide([documents.evidence(candidate[order], other) for other in others], ALPHA, MARGIN, floor)[0]
        for order, documents in looks
    }


def looks_of(segments: list[Segment], rungs: tuple[int, ...] = (16, 64, 128)) -> list:
    order = race_order(segments, seed=0)
    return [
        (np.asarray(order[:end]), RaceDocuments(segments, order[:end])) for end in rung_ends(segments, order, rungs)
    ]


def test_capital_is_the_product_of_bets() -> None:
    sample = Sample(
        np.array([-20.0, 10.0]), np.array([1.0, 2.0]), np.array([0, 1]), np.array([[50.0, 1.0], [80.0, 2.0]])
    )
    bets = BETS / 80
    after_one = 1 + bets * 20
    assert np.exp(log_capital(sample, 0.0)) == pytest.approx(
        [SHARES @ after_one, SHARES @ (after_one * (1 - bets * 10))]
    )
    # Against "3 or more": the bound of the second document is 80 - 6.
    bets = BETS / 74
    after_one = 1 + bets * 23
    assert np.exp(log_capital(sample, 3.0)) == pytest.approx(
        [SHARES @ after_one, SHARES @ (after_one * (1 - bets * 4))]
    )
    assert SHARES.sum() == pytest.approx(1)


def test_a_mean_out_of_reach_is_rejected_at_once() -> None:
    sample = Sample(np.array([0.0]), np.array([1.0]), np.array([0]), np.array([[40.0, 1.0]]))
    assert log_capital(sample, 40.0)[0] == np.inf
    assert upper_end(sample, 0.04, -100, 100) <= 40.0


def test_an_interval_ends_where_the_bets_begin_to_reject() -> None:
    drawn = np.random.default_rng(0)
    sample = Sample(drawn.normal(-2, 8, 400), np.ones(400), np.arange(400), np.array([[60.0, 1.0]]))
    end = upper_end(sample, 0.04, -100, 100)
    assert log_capital(sample, end + 1e-4).max() >= -np.log(0.04) > log_capital(sample, end - 1e-4).max()
    assert sample.mean < end < sample.mean + 3


@pytest.mark.parametrize(
    ("documents", "name"),
    [
        ({"en_de": [1] * 240}, "independent segments"),
        ({"en_de": [1] * 80, "en_cs": [1] * 80, "en_fr": [1] * 80}, "pairs that differ"),
        ({"en_de": [4] * 40, "en_cs": [8] * 10}, "documents whose segments go together"),
    ],
)
def test_a_candidate_as_good_as_its_comparators_is_rarely_dropped(documents: dict[str, list[int]], name: str) -> None:
    """All means are equal. Each comparator's luck on a segment is not the candidate's: where it shines by chance, the
    candidate looks worse, and bets that followed the comparator's score would win on that."""
    segments = segments_of(**documents)
    looks = looks_of(segments)
    drawn = np.random.default_rng(1)
    labels = [segment.langs + segment.doc_id for segment in segments]
    document = np.unique(labels, return_inverse=True)[1]
    tilt = np.asarray([{"en-de": 0.0, "en-cs": 6.0, "en-fr": -6.0}[segment.langs] for segment in segments])
    tilt = tilt * ("pairs" in name)
    spread = 15.0 if "go together" in name else 0.0
    dropped = 0
    for _ in range(500):
        shared = drawn.normal(0, spread, document.max() + 1)[document]
        candidate = np.clip(50 + tilt + shared + drawn.uniform(-25, 25, len(segments)), 0, 100)
        others = [np.clip(50 + drawn.uniform(-40, 40, len(segments)), 0, 100) for _ in range(3)]
        dropped += "dominated" in verdicts(segments, candidate, others, looks)
    assert dropped <= 0.05 * 500


def test_a_candidate_at_the_margin_is_hardly_ever_a_tie() -> None:
    segments = segments_of(en_de=[1] * 3000)
    looks = looks_of(segments, (1000, 2000))
    drawn = np.random.default_rng(2)
    tied = 0
    for _ in range(300):
        other = drawn.uniform(40, 60, 3000)
        candidate = other + drawn.choice([-0.5, 0.5], 3000) - MARGIN
        tied += "tie" in verdicts(segments, candidate, [other], looks)
    assert tied <= 0.02 * 300


def test_one_that_hardly_differs_is_a_tie_and_its_interval_is_within_the_margin() -> None:
    segments = segments_of(en_de=[1] * 4000)
    order = race_order(segments, seed=0)
    drawn = np.random.default_rng(3)
    other = drawn.uniform(40, 60, 4000)
    candidate = other + drawn.choice([-1.0, 0.0, 1.0], 4000)
    verdict = judge(segments, order, candidate[order].tolist(), [point(7, 10, 50.0, other)])
    assert (verdict.kind, verdict.by) == ("tie", 7)
    assert -MARGIN < verdict.low < verdict.difference < verdict.high < MARGIN
    assert judge(segments, order[:300], candidate[order[:300]].tolist(), [point(7, 10, 50.0, other)]).kind == "go on"


def test_a_hopeless_candidate_is_gone_at_the_first_rung_and_the_strongest_is_named() -> None:
    segments = segments_of(en_de=[1] * 300, en_cs=[1] * 300)
    order = race_order(segments, seed=0)
    drawn = np.random.default_rng(4)
    good, fair = drawn.uniform(40, 100, 600), drawn.uniform(10, 70, 600)
    hopeless = np.clip(good - drawn.uniform(10, 60, 600), 0, 100)
    comparators = [point(3, 5, 40.0, fair), point(2, 9, 70.0, good)]
    end = rung_ends(segments, order, (64,))[0]
    verdict = judge(segments, order[:end], hopeless[order[:end]].tolist(), comparators)
    assert (verdict.kind, verdict.by) == ("dominated", 2)
    assert verdict.low < verdict.difference < verdict.high < 0
    seen = (hopeless - good)[order[:end]].mean()
    assert verdict.difference == pytest.approx(seen)


def test_the_difference_is_the_mean_over_pairs() -> None:
    segments = segments_of(en_de=[1] * 300, en_cs=[1] * 100)
    order = race_order(segments, seed=0)
    other = np.full(400, 50.0)
    candidate = other + np.asarray([2.0 if segment.langs == "en-de" else -4.0 for segment in segments])
    verdict = judge(segments, order, candidate[order].tolist(), [point(1, 1, 50.0, other)])
    assert verdict.difference == pytest.approx((2 - 4) / 2)
    assert verdict.low <= verdict.difference <= verdict.high


def test_the_nearest_comparator_is_told_while_nothing_is_decided() -> None:
    segments = segments_of(en_de=[1] * 300)
    order = race_order(segments, seed=0)[:64]
    drawn = np.random.default_rng(5)
    candidate = drawn.uniform(30, 90, 300)
    far, near = candidate - 20, np.clip(candidate + drawn.normal(0.5, 10, 300), 0, 100)
    verdict = judge(segments, order, candidate[order].tolist(), [point(1, 5, 40.0, far), point(2, 9, 60.0, near)])
    assert (verdict.kind, verdict.by) == ("go on", 2)
    assert verdict.low < 0.5 < verdict.high


def test_scores_beyond_the_bounds_count_as_the_bound() -> None:
    segments = segments_of(en_de=[1] * 200)
    order = race_order(segments, seed=0)
    other, candidate = np.full(200, 104.0), np.full(200, -3.0)
    verdict = judge(segments, order[:64], candidate[order[:64]].tolist(), [point(1, 1, 104.0, other)])
    assert verdict.kind == "dominated"
    assert verdict.difference == pytest.approx(-100)


def test_with_no_comparator_a_candidate_goes_on() -> None:
    segments = segments_of(en_de=[1] * 10)
    verdict = judge(segments, [3, 1], [0.0, 0.0], [])
    assert (verdict.kind, verdict.by, verdict.low, verdict.high) == ("go on", None, -100.0, 100.0)


def test_a_cut_document_and_scores_that_do_not_fit_are_refused() -> None:
    segments = segments_of(en_de=[2] * 20)
    comparator = point(1, 1, 50.0, np.full(40, 50.0))
    with pytest.raises(ValueError, match="whole documents"):
        judge(segments, [0, 1, 2], [1.0, 1.0, 1.0], [comparator])
    with pytest.raises(ValueError, match="whole documents"):
        judge(segments, [0, 1, 0, 1], [1.0] * 4, [comparator])
    with pytest.raises(ValueError, match="a score for each position"):
        judge(segments, [0, 1], [1.0], [comparator])
    with pytest.raises(ValueError, match="each segment"):
        judge(segments, [0, 1], [1.0, 1.0], [point(1, 1, 50.0, np.zeros(3))])


def test_comparators_are_frontier_points_of_no_more_bytes_the_best_first() -> None:
    measured = [point(0, 100, 60.0), point(1, 50, 55.0), point(2, 60, 54.0), point(3, 30, 40.0), point(4, 80, 59.0)]
    assert [each.number for each in comparators_for(79, measured)] == [1, 3]
    assert [each.number for each in comparators_for(80, measured)] == [4, 1, 3]
    assert comparators_for(29, measured) == []


def test_a_candidate_below_the_floor_is_dropped_however_small_and_its_quality_projected() -> None:
    segments = segments_of(en_de=[1] * 200, en_cs=[1] * 200)
    order = race_order(segments, seed=0)[:64]
    drawn = np.random.default_rng(6)
    baseline = point(0, 100, 62.0, drawn.uniform(40, 80, 400))
    candidate = drawn.uniform(0, 20, 400)
    comparators = comparators_for(1, [baseline, *floor_under(baseline, 0.5)])
    verdict = judge(segments, order, candidate[order].tolist(), comparators)
    assert (verdict.kind, verdict.by) == ("below the floor", 0)
    assert verdict.low < verdict.difference < verdict.high < 0
    assert verdict.difference == pytest.approx((candidate - baseline.scores / 2)[order].mean())
    assert verdict.projected == pytest.approx(31.0 + verdict.difference)
    assert judge(segments, order, candidate[order].tolist(), comparators_for(1, [baseline])).kind == "go on"


def test_a_candidate_at_the_floor_is_no_tie_with_it_and_may_be_one_with_a_point() -> None:
    segments = segments_of(en_de=[1] * 4000)
    order = race_order(segments, seed=0)
    drawn = np.random.default_rng(7)
    baseline = point(0, 100, 60.0, drawn.uniform(50, 70, 4000))
    (floor,) = floor_under(baseline, 0.5)
    at_the_floor = floor.scores[order].tolist()
    alone = judge(segments, order, at_the_floor, [floor])
    assert (alone.kind, alone.by) == ("go on", None)
    near = point(4, 50, 30.2, floor.scores + 0.02)
    together = judge(segments, order, at_the_floor, [near, floor])
    assert (together.kind, together.by) == ("tie", 4)


def test_the_nearest_that_is_told_is_a_point_and_not_the_floor() -> None:
    segments = segments_of(en_de=[1] * 300)
    order = race_order(segments, seed=0)[:64]
    baseline = point(0, 100, 60.0, np.random.default_rng(8).uniform(40, 80, 300))
    candidate = baseline.scores * 0.6
    far = point(3, 9, 30.5, candidate - 10)
    verdict = judge(segments, order, candidate[order].tolist(), [far, *floor_under(baseline, 0.5)])
    assert (verdict.kind, verdict.by) == ("go on", 3)


@pytest.mark.parametrize("points", [0, 2])
def test_a_candidate_that_is_not_below_the_floor_is_rarely_dropped(points: int) -> None:
    """It is exactly as good as the floor, and as the points beside it."""
    segments = segments_of(en_de=[1] * 120, en_cs=[2] * 60)
    looks = looks_of(segments)
    drawn = np.random.default_rng(9)
    dropped = 0
    for _ in range(500):
        candidate = 25 + drawn.uniform(-25, 25, len(segments))
        others = [25 + drawn.uniform(-10, 10, len(segments)) for _ in range(points)]
        floor = 0.5 * (50 + drawn.uniform(-40, 40, len(segments)))
        dropped += bool(verdicts(segments, candidate, [*others, floor], looks, points) & set(DROPS))
    assert dropped <= 0.05 * 500


def test_what_is_below_the_floor_is_nobodys_comparator() -> None:
    baseline = point(0, 100, 60.0, np.full(3, 60.0))
    measured = [baseline, point(1, 50, 40.0), point(2, 20, 29.9), *floor_under(baseline, 0.5)]
    assert [(each.number, each.is_floor) for each in comparators_for(55, measured)] == [(1, False), (0, True)]
    assert [(each.number, each.is_floor) for each in comparators_for(1, measured)] == [(0, True)]
    assert [each.number for each in comparators_for(55, measured[:-1])] == [1, 2]


@pytest.mark.parametrize(("quality", "share"), [(60.0, 0.0), (0.0, 0.5), (-3.0, 0.5)])
def test_no_share_and_a_baseline_without_quality_ask_for_nothing(quality: float, share: float) -> None:
    assert floor_under(point(0, 100, quality), share) == []
