"""How many people would agree with a difference: the paper's own table, and what lies between and beyond it."""

from __future__ import annotations

import math

import pytest

from workers.scoring.human_agreement import SHARES, THRESHOLDS, agreement, margin, noticeable

# The sigmoids that the table was made from, as https://github.com/kocmitom/MT-Thresholds gives them: height, slope.
SIGMOIDS = {
    "bleu": (88.333, 0.96639), "chrf": (93.0, 1.11427), "comet": (96.2237, 2.83592), "cometkiwi": (98.8814, 2.71928),
}  # fmt: skip


@pytest.mark.parametrize("metric", list(THRESHOLDS))
def test_the_published_points_are_hit_and_agree_with_the_published_sigmoid(metric: str) -> None:
    height, slope = SIGMOIDS[metric]
    for share, difference in zip(SHARES, THRESHOLDS[metric], strict=False):
        assert agreement(metric, difference) == pytest.approx(share)
        assert agreement(metric, -difference) == pytest.approx(share)
        assert height / 100 / (1 + math.exp(-slope * difference)) == pytest.approx(share, abs=0.007)


@pytest.mark.parametrize("metric", list(THRESHOLDS))
def test_between_the_points_it_rises_and_stays_within_a_point_of_the_sigmoid(metric: str) -> None:
    height, slope = SIGMOIDS[metric]
    last = THRESHOLDS[metric][-1]
    steps = [last * step / 200 for step in range(201)]
    values = [agreement(metric, difference) or 0.0 for difference in steps]
    assert values == sorted(values) and values[0] == 0.5
    for difference, value in zip(steps, values, strict=True):
        expected = max(height / 100 / (1 + math.exp(-slope * difference)), 0.5)
        assert value == pytest.approx(expected, abs=0.01)


def test_nothing_is_promised_beyond_the_last_point() -> None:
    assert agreement("bleu", 30.0) == 0.85
    assert noticeable("bleu", 30.0) == "at least 85 % of people would agree that it is better than the baseline"
    assert noticeable("bleu", -3.35) == "85 % of people would agree that the baseline is better"
    assert agreement("comet", 5.0) == 0.95


@pytest.mark.parametrize(
    ("metric", "difference", "words"),
    [
        ("chrf", 0.0, "below what people notice"),
        ("chrf", -0.5, "below what people notice"),
        ("chrf", -1.63, "80 % of people would agree that the baseline is better"),
        ("comet", 0.5, "77 % of people would agree that it is better than the baseline"),
        ("ter", 3.0, ""),
    ],
)
def test_in_words(metric: str, difference: float, words: str) -> None:
    assert noticeable(metric, difference) == words


def test_a_metric_without_figures_has_none() -> None:
    assert agreement("chrf++", 1.0) is None
    assert margin("chrf++") is None


def test_the_margin_is_where_people_begin_to_notice() -> None:
    assert (margin("chrf"), margin("comet")) == (0.54, 0.18)
    for metric in THRESHOLDS:
        limit = margin(metric)
        assert limit is not None
        assert noticeable(metric, 0.001 - limit) == "below what people notice" != noticeable(metric, -limit)
