"""What is said of points beside each other and of losses: the rule by brute force, and error rates in simulations.

Scores of segments are like those of chrF: documents differ widely, a compressed model leaves most outputs as they are,
and what it changes is worse by a little or, seldom, by much.
"""

from __future__ import annotations

import itertools
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from orchestrator.statistics.frontier import Objectives, Standing, standings
from orchestrator.statistics.telling_apart import (
    LEAST_DOCUMENTS,
    LEAST_FOR_LOSS,
    Spread,
    loss_bounds,
    shown_better,
    student,
)

Array = np.ndarray[Any, np.dtype[np.float64]]

RUNS = 400
# Of so many runs at a true rate of 5 %, the count of errors is above this in one case of a thousand.
MOST_ERRORS = 0.05 + 3.1 * (0.05 * 0.95 / RUNS) ** 0.5
MARGIN = 0.54


def draws(documents: int) -> Array:
    """How much each document counts in each of 1,000 bootstrap samples: the same for every run, as in a study."""
    counts = np.random.default_rng(0).multinomial(documents, [1 / documents] * documents, size=1000)
    return np.asarray(counts / documents)


def changes(rng: np.random.Generator, documents: int, loss: float, changed: float = 0.5, wild: float = 0.03) -> Array:
    """A candidate's differences from the baseline, of mean -loss: none where its output is the same, some by chance,
    a few by far."""
    found = rng.normal(0.0, 11.0, documents) * (rng.random(documents) < changed)
    broken = rng.random(documents) < wild
    found[broken] -= rng.exponential(loss / wild if loss else 0.0, broken.sum()) * 0.5
    return np.asarray(found - loss * 0.5 * (rng.random(documents) < changed) / changed)


def baseline_scores(rng: np.random.Generator, documents: int) -> Array:
    return np.asarray(np.clip(rng.normal(62.0, 21.0, documents), 0.0, 100.0))


def spread(documents: int) -> Spread:
    return Spread(documents, 1, documents)


@pytest.mark.parametrize(("documents", "points"), [(12, 6), (24, 2), (24, 6), (252, 6), (1000, 2)])
def test_equal_points_are_hardly_ever_told_apart(documents: int, points: int) -> None:
    weights, rng, wrong = draws(documents), np.random.default_rng(documents + points), 0
    for _ in range(RUNS):
        base = baseline_scores(rng, documents)
        scores = np.stack([base, *(base + changes(rng, documents, 0.0) for _ in range(points - 1))])
        better = shown_better(scores.mean(axis=1).tolist(), scores @ weights.T, spread(documents))
        losses = [Objectives(float(row.mean()), size) for size, row in enumerate(scores, start=1)]
        places = [standing.place for standing in standings(losses, better)]
        wrong += bool(better.any())
        assert better.any() or places == ["frontier"] + ["not told apart"] * (points - 1)
    assert wrong / RUNS <= MOST_ERRORS


@pytest.mark.parametrize(("documents", "loss", "least"), [(252, 6.0, 0.95), (1000, 2.5, 0.95), (2000, 1.5, 0.8)])
def test_a_point_that_is_worse_by_more_than_chance_is_beaten(documents: int, loss: float, least: float) -> None:
    weights, rng, beaten = draws(documents), np.random.default_rng(1), 0
    for _ in range(100):
        base = baseline_scores(rng, documents)
        scores = np.stack([base, *(base + changes(rng, documents, lost) for lost in (loss, 0.0, 0.0, 0.0))])
        beaten += shown_better(scores.mean(axis=1).tolist(), scores @ weights.T, spread(documents))[0][1]
    assert beaten >= least * 100


@pytest.mark.parametrize(
    ("documents", "candidates", "changed"),
    [(LEAST_FOR_LOSS, 6, 0.5), (100, 1, 0.5), (300, 6, 0.5), (300, 1, 0.02), (1000, 6, 0.5), (1000, 1, 0.02)],
)
def test_a_loss_of_the_margin_is_hardly_ever_called_none_that_matters(
    documents: int, candidates: int, changed: float
) -> None:
    weights, rng, wrong = draws(documents), np.random.default_rng(documents + candidates), 0
    for _ in range(RUNS):
        base = baseline_scores(rng, documents)
        scores = np.stack([base + changes(rng, documents, MARGIN, changed) for _ in range(candidates)])
        wrong += any(loss.at_most < MARGIN for loss in bounds(scores, base, weights))
    assert wrong / RUNS <= MOST_ERRORS


def test_rare_and_great_losses_that_were_not_seen_are_reckoned_with() -> None:
    """One document in a hundred loses 54 points: in most samples of 60 none is there."""
    weights, rng, wrong = draws(60), np.random.default_rng(3), 0
    for _ in range(RUNS):
        base = baseline_scores(rng, 60)
        scores = base[None] - 54.0 * (rng.random(60) < 0.01)
        wrong += bounds(scores, base, weights)[0].at_most < MARGIN
    assert wrong / RUNS <= MOST_ERRORS


@pytest.mark.parametrize("documents", [1, 6, 24, LEAST_FOR_LOSS - 1])
def test_few_documents_rule_out_no_loss_however_good_they_look(documents: int) -> None:
    base = np.linspace(40.0, 80.0, documents)
    samples = (base + 5.0) @ draws(documents).T
    assert loss_bounds([65.0], samples[None], 60.0, samples - 5.0, spread(documents)) == [None]
    if documents < LEAST_DOCUMENTS:
        assert not shown_better([90.0, 10.0], np.stack([samples, samples - 80.0]), spread(documents)).any()


@pytest.mark.parametrize(
    ("documents", "changed", "loss", "least"), [(1000, 0.1, 0.02, 0.95), (1500, 0.5, 0.0, 0.5), (3000, 0.5, 0.0, 0.9)]
)
def test_a_small_loss_is_shown_to_be_small_where_data_suffice(
    documents: int, changed: float, loss: float, least: float
) -> None:
    weights, rng, shown = draws(documents), np.random.default_rng(4), 0
    for _ in range(60):
        base = baseline_scores(rng, documents)
        scores = np.stack([base + changes(rng, documents, lost, changed, 0.005) for lost in (loss, 0.5, 1.0, 2.0)])
        shown += bounds(scores, base, weights)[0].at_most < MARGIN
    assert shown >= least * 60


def test_as_many_segments_as_are_said_to_be_needed_do() -> None:
    """In eight of ten cases, should the loss be what was seen."""
    rng = np.random.default_rng(5)
    base = baseline_scores(rng, 200)
    scores = base[None] + changes(rng, 200, 0.0)
    scores -= scores.mean() - base.mean()
    needed = bounds(scores, base, draws(200))[0].segments_needed(MARGIN)
    assert needed is not None and needed > 400
    weights, shown = draws(needed), 0
    for _ in range(200):
        at = rng.integers(0, 200, needed)
        shown += bounds(scores[:, at], base[at], weights)[0].at_most < MARGIN
    assert 0.7 <= shown / 200 <= 0.9
    lost = bounds(scores - 1.0, base, draws(200))[0]
    assert lost.segments_needed(MARGIN) is None, "no data show a loss below the margin that is seen to be above it"


def bounds(scores: Array, base: Array, weights: Array) -> list[Any]:
    qualities = scores.mean(axis=1).tolist()
    return loss_bounds(qualities, scores @ weights.T, float(base.mean()), base @ weights.T, spread(len(base)))


def test_what_is_shown_is_transitive_and_never_holds_both_ways() -> None:
    rng = np.random.default_rng(6)
    for _ in range(40):
        base = baseline_scores(rng, 80)
        scores = np.stack([base + changes(rng, 80, loss) for loss in rng.uniform(0, 12, 7)])
        better = shown_better(scores.mean(axis=1).tolist(), scores @ draws(80).T, spread(80))
        assert not (better & better.T).any()
        for one, two, three in itertools.permutations(range(7), 3):
            assert better[one][three] or not (better[one][two] and better[two][three])


def matrix(count: int, *pairs: tuple[int, int]) -> Any:
    better = np.zeros((count, count), dtype=np.bool_)
    for one, other in pairs:
        better[one][other] = True
    return better


def test_where_a_point_stands() -> None:
    # By size: a, b (not told from a), c (better than both), d (worse than a), e (better than a alone).
    losses = [
        Objectives(50.0, 10),
        Objectives(51.0, 20),
        Objectives(60.0, 30),
        Objectives(30.0, 40),
        Objectives(55.0, 50),
    ]
    shown = matrix(5, (2, 0), (2, 1), (0, 3), (1, 3), (2, 3), (4, 3), (4, 0))
    assert standings(losses, shown) == [
        Standing("frontier"), Standing("not told apart", 0), Standing("frontier"), Standing("beaten", 2),
        Standing("not told apart", 2),
    ]  # fmt: skip
    nothing = standings(losses, matrix(5))
    assert nothing == [Standing("frontier"), *[Standing("not told apart", 0)] * 4]
    assert standings([], matrix(0)) == []
    assert standings([Objectives(1.0, 5), Objectives(2.0, 5)], matrix(2)) == [
        Standing("not told apart", 1),
        Standing("frontier"),
    ]


def test_every_point_that_is_not_beaten_is_in_one_group_alone() -> None:
    rng = np.random.default_rng(7)
    for _ in range(60):
        qualities, sizes = rng.normal(50, 4, 9), rng.integers(1, 6, 9)
        # A difference is shown when it is large enough for both: an order, as the bootstrap's is.
        reach = rng.uniform(0, 2, 9)
        better = np.subtract.outer(qualities - reach, qualities + reach) > 0
        losses = [Objectives(float(quality), int(size)) for quality, size in zip(qualities, sizes, strict=True)]
        found = standings(losses, better)
        for at, (place, by) in enumerate(found):
            no_larger = [other for other in range(9) if other != at and sizes[other] <= sizes[at]]
            if place == "beaten":
                assert by is not None and by in no_larger and better[by][at]
                continue
            assert not any(better[other][at] for other in no_larger)
            smaller = [other for other in no_larger if sizes[other] < sizes[at] and found[other].place == "frontier"]
            if place == "frontier":
                assert all(better[at][other] for other in smaller)
            else:
                assert by is not None and found[by].place == "frontier" and sizes[by] <= sizes[at]
                assert not better[at][by] and not better[by][at]


@pytest.mark.parametrize("freedom", [9, 13, 40, 250])
def test_students_tail_is_that_of_the_distribution(freedom: int) -> None:
    from scipy import stats

    for normal in (1.0, 1.645, 2.5, 3.3, 4.0):
        expected = stats.t.isf(1 - NormalDist().cdf(normal), freedom)
        assert student(normal, freedom) == pytest.approx(expected, rel=0.01)
