"""How likely people are to see a difference between two scores: agreement of metrics with human rankings of systems.

Kocmi et al. 2024, "Navigating the Metrics Maze" (https://aclanthology.org/2024.acl-long.110), Table 2; also
https://kocmitom.github.io/MT-Thresholds/. The figures hold for scores of whole test sets, of systems in general: two
systems that differ this much are ranked by people as the metric ranks them in that share of cases.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

SHARES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
# Metric -> the differences at SHARES, in points (of 100), as far as the table goes: no difference in BLEU reaches 90 %.
THRESHOLDS: dict[str, tuple[float, ...]] = {
    "bleu": (0.27, 0.52, 0.78, 1.06, 1.39, 1.79, 2.34, 3.35),
    "chrf": (0.14, 0.33, 0.54, 0.76, 1.00, 1.28, 1.63, 2.12, 3.05),
    "comet": (0.03, 0.10, 0.18, 0.26, 0.35, 0.45, 0.56, 0.71, 0.94, 1.53),
    "cometkiwi": (0.01, 0.08, 0.16, 0.24, 0.33, 0.42, 0.53, 0.67, 0.85, 1.18),
}
LEAST = 0.6


def agreement(metric: str, difference: float) -> float | None:
    """The share of people's rankings, 0.5 to 0.95, expected to agree with a difference of so many points.

    Straight lines between the published points. Below the first it is 0.5, a coin toss; above the last it is the last
    one's share, which is then the least to expect. None for a metric without published figures.
    """
    if metric not in THRESHOLDS:
        return None
    points = THRESHOLDS[metric]
    size = abs(difference)
    if size <= points[0]:
        return SHARES[0]
    if size >= points[-1]:
        return SHARES[len(points) - 1]
    at = bisect_right(points, size) - 1
    (low, high), (least, most) = list(pairwise(points))[at], list(pairwise(SHARES))[at]
    return least + (most - least) * (size - low) / (high - low)


def margin(metric: str) -> float | None:
    """The least difference in points that people notice, which a loss must stay below to be none that matters; None for
    a metric without published figures."""
    return THRESHOLDS[metric][SHARES.index(LEAST)] if metric in THRESHOLDS else None


def noticeable(metric: str, difference: float) -> str:
    """The agreement in words, such as "80 % of people would agree that the baseline is better"; empty for a metric
    without published figures.

    difference: candidate minus baseline, in a metric that is better when higher.
    """
    share = agreement(metric, difference)
    if share is None:
        return ""
    if share < LEAST:
        return "below what people notice"
    beyond = "at least " if abs(difference) > THRESHOLDS[metric][-1] else ""
    what = "the baseline is better" if difference < 0 else "it is better than the baseline"
    return f"{beyond}{round(100 * share)} % of people would agree that {what}"
