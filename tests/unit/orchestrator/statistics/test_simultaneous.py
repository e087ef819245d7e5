"""Intervals of several differences together: they cover what they promise, and are silent where documents are few."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.statistics.simultaneous import simultaneous
from orchestrator.statistics.telling_apart import LEAST_DOCUMENTS, Spread

MANY = Spread(documents=60, strata=1, segments=600)


def bootstrap(values: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of resampled documents. values: shape (systems, documents)."""
    counts = rng.multinomial(values.shape[1], [1 / values.shape[1]] * values.shape[1], size=samples)
    return np.asarray(values @ counts.T / values.shape[1])


def test_together_they_miss_in_at_most_one_study_of_twenty() -> None:
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        values = 60 + rng.normal(0, 4, (8, MANY.documents)) + rng.normal(0, 6, MANY.documents)
        samples, means = bootstrap(values, 300, rng), values.mean(axis=1)
        found = simultaneous(means[:4], means[4:], samples[:4], samples[4:], MANY)
        assert found is not None
        missed += any(difference.shown for difference in found)
    assert missed <= 18, "of systems that are all alike; 5.5 % of 1,500 such studies"


def test_a_large_difference_is_shown_and_a_small_one_is_not() -> None:
    rng = np.random.default_rng(1)
    values = 60 + rng.normal(0, 2, (4, MANY.documents))
    values[0] += 5.0
    samples, means = bootstrap(values, 500, rng), values.mean(axis=1)
    large, small = simultaneous(means[:2], means[2:], samples[:2], samples[2:], MANY) or []
    assert large.shown and large.low > 2.0 and large.measured == pytest.approx(means[0] - means[2])
    assert not small.shown
    assert large.low < large.measured < large.high


def test_outputs_that_are_alike_still_may_differ_by_a_segment_that_was_not_seen() -> None:
    samples = np.full((1, 300), 60.0)
    (same,) = simultaneous([60.0], [60.0], samples, samples, MANY) or []
    assert same.low < 0.0 < same.high and same.high < 0.5


def test_few_documents_say_nothing() -> None:
    samples = np.zeros((1, 300))
    few = Spread(documents=LEAST_DOCUMENTS - 1, strata=1, segments=100)
    assert simultaneous([60.0], [50.0], samples, samples, few) is None
    assert simultaneous([], [], np.zeros((0, 300)), np.zeros((0, 300)), MANY) is None
