"""What share of the baseline's quality a divergence leaves: exp(−(scale · KL)^power), with a scale of each kind of
damage.

A share can't be above 1: where little is sure, what is expected of a candidate is far from normal, so it is told as
several parts that are equally likely, each of them normal.

Divergence orders damaged models, and says nothing of nearly intact ones (https://arxiv.org/abs/2606.19558): the curve
is flat there, and a noise that does not shrink stands for what the metric does by chance. A trimmed vocabulary costs
more quality than rounding with the same divergence, so each axis has a factor, weighted by its share of the divergence.
So has a training. What it does beyond the divergence is added: references teach what the baseline does not know, and a
short training shakes weights that were sound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from orchestrator.surrogate.divergence_model import LEAST

Array = np.ndarray[Any, np.dtype[Any]]

# log scale and log power of the curve, as fitted on two models (5 million and half a billion parameters), and how far
# another model's may lie from them.
SCALE, POWER = -0.5, 0.3
SCALE_SPREAD, POWER_SPREAD, FACTOR_SPREAD = 0.4, 0.25, 0.35
# The log factor of a trimmed vocabulary: 1.0 and 1.2 on the same models, where the others' lay from -0.6 to 0.2.
VOCABULARY_FACTOR = 0.9
# The log factor of a training: in two searches of the half billion parameters -0.5 and -0.7 were learnt.
TRAINED_FACTOR = -0.4
# What a training adds to the kept share: of the smallest budget, with each e-fold of its budget, and the same two of
# references in its loss; and how far each may lie from that. On half a billion parameters one of 1 million tokens lost
# 0.005 to 0.01 beyond its divergence, and one of 4 million nothing; with references it won nothing after 1 million,
# 0.015 to 0.045 after 4, and 0.075 after 16. Less is believed of other models, whose references may be worse than what
# they say.
BEYOND, BEYOND_SPREADS = (-0.005, 0.004, 0.0, 0.012), (0.008, 0.005, 0.01, 0.02)
# Of the share of quality that is kept: what the metric does by chance.
NOISE = 0.012
ROUNDS = 12
# Equally likely parts of a standard normal: their means, and their deviations within.
PARTS = 8
# Two-sided 90 % of a normal.
NINETY = 1.645


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of the kept shares of n candidates."""

    kept: Array
    """The median (n,)."""
    low: Array
    """Between this (n,) ..."""
    high: Array
    """... and this (n,) it lies with 90 %."""
    means: Array
    """Of each of the equally likely parts (PARTS, n)."""
    deviations: Array
    """Within each of the parts (PARTS, n)."""

    def expectation(self, function: Callable[[Array, Array], Array]) -> Array:
        """The mean of what the function says of a normal quality of this mean and deviation, both (n,)."""
        found: Array = np.mean([function(*part) for part in zip(self.means, self.deviations, strict=True)], axis=0)
        return found

    def odds_below(self, level: float) -> Array:
        """How likely the share is below this one (n,)."""
        from scipy.special import ndtr

        return self.expectation(lambda mean, deviation: ndtr((level - mean) / deviation))


@dataclass(frozen=True, slots=True)
class QualityMap:
    """A Gaussian around the most likely parameters: log scale, log power, and the log factor of each kind of damage."""

    at: Array
    covariance: Array

    def predict(self, shares: Array, log_kl: Array, deviation: Array, beyond: Array | None = None) -> Belief:
        """What is believed of candidates of these shares (n, kinds) whose log KL has this mean and this deviation. What
        is not sure of the curve counts as divergence that is not. beyond: as in `fit_quality`."""
        inside = 2 + shares.shape[1]
        inner = self.at[0] + shares @ self.at[2:inside] + log_kl
        moved = np.concatenate([np.ones((len(inner), 1)), inner[:, None], shares], axis=1)
        away = np.sqrt((moved @ self.covariance[:inside, :inside] * moved).sum(axis=1) + deviation**2)
        falls = partial(_falling, power=np.exp(self.at[1]))
        kept, slope = falls(inner)
        added, chance = np.zeros(len(inner)), np.full(len(inner), NOISE)
        if beyond is not None:
            added = beyond @ self.at[inside:]
            # Of what is added, and of what that and the curve have in common.
            unsure = (beyond @ self.covariance[inside:, inside:] * beyond).sum(axis=1)
            unsure += 2.0 * slope * (moved @ self.covariance[:inside, inside:] * beyond).sum(axis=1)
            chance = np.sqrt(np.maximum(unsure, 0.0) + NOISE**2)
        # More divergence keeps less.
        low, high = (
            kept + added + sign * np.hypot(falls(inner - sign * NINETY * away)[0] - kept, NINETY * chance)
            for sign in (-1.0, 1.0)
        )
        means, deviations = [], []
        for middle, within in zip(*_parts_of_normal(PARTS), strict=True):
            share, slope = falls(inner + middle * away)
            means.append(share + added)
            deviations.append(np.hypot(slope * within * away, chance))
        return Belief(kept + added, low, high, np.stack(means), np.stack(deviations))


def fit_quality(shares: Array, log_kl: Array, kept: Array, factors: Array, beyond: Array | None = None) -> QualityMap:
    """The map from how much of each kind of damage candidates have (n, kinds), their log KL (n,) and the share of
    quality that they kept (n,).

    factors: what is believed of each kind's log factor beforehand. beyond: what may add to the share whatever the
    divergence, as `beyond_divergence` says it (n, 4); None where nothing is trained. By Gauss-Newton from the prior;
    without candidates it is the prior.
    """
    prior = np.concatenate([[SCALE, POWER], factors, [] if beyond is None else BEYOND])
    away_by = [SCALE_SPREAD, POWER_SPREAD, *[FACTOR_SPREAD] * len(factors), *([] if beyond is None else BEYOND_SPREADS)]
    precision = np.diag(1.0 / np.array(away_by) ** 2)
    at = prior.copy()

    def cost(parameters: Array) -> float:
        error = kept - _curve(parameters, shares, log_kl, beyond)[0]
        away = parameters - prior
        return float((error**2).sum() / NOISE**2 + away @ precision @ away)

    held = cost(at)
    curvature = precision
    for _ in range(ROUNDS):
        told, slopes, _ = _curve(at, shares, log_kl, beyond)
        curvature = precision + slopes.T @ slopes / NOISE**2
        step = np.linalg.solve(curvature, slopes.T @ (kept - told) / NOISE**2 - precision @ (at - prior))
        # Halved until it helps, as far from the curve a straight line may lead astray.
        size = 1.0
        while size > 1e-3 and cost(at + size * step) > held:
            size /= 2
        if size <= 1e-3:
            break
        at = at + size * step
        held = cost(at)
    return QualityMap(at, np.linalg.inv(curvature))


def _curve(parameters: Array, shares: Array, log_kl: Array, beyond: Array | None = None) -> tuple[Array, Array, Array]:
    """The kept share (n,), and its slopes by the parameters (n, parameters) and by log KL (n,)."""
    inside = 2 + shares.shape[1]
    inner = parameters[0] + shares @ parameters[2:inside] + log_kl
    kept, slope = _falling(inner, np.exp(parameters[1]))
    by_parameter = np.concatenate([slope[:, None], (slope * inner)[:, None], slope[:, None] * shares], axis=1)
    if beyond is None:
        return kept, by_parameter, slope
    return kept + beyond @ parameters[inside:], np.concatenate([by_parameter, beyond], axis=1), slope


def _falling(inner: Array, power: float) -> tuple[Array, Array]:
    """exp(−exp(power · inner)) and its slope by `inner`, both (n,)."""
    grown = np.exp(np.clip(power * inner, -40.0, 3.5))
    kept = np.exp(-grown)
    return kept, -kept * grown * power


@cache
def _parts_of_normal(count: int) -> tuple[Array, Array]:
    """Mean and deviation of a standard normal within each of so many equally likely parts, (count,) each."""
    from scipy.special import ndtri

    ends = ndtri(np.linspace(0.0, 1.0, count + 1))
    density = np.exp(-0.5 * ends**2) / np.sqrt(2.0 * np.pi)
    means = -count * np.diff(density)
    squares = 1.0 - count * np.diff(np.where(np.isfinite(ends), ends, 0.0) * density)
    return means, np.sqrt(squares - means**2)


def kinds_of_damage(parts: Array, trained: Array | None = None) -> Array:
    """For candidates of these parts (n, axes) each axis's share of their sum, and with `trained` whether they were, as
    a last column. trained: as in `divergence_model.features`."""
    shares: Array = parts / np.maximum(parts.sum(axis=1, keepdims=True), LEAST)
    return shares if trained is None else np.concatenate([shares, trained[:, :1]], axis=1)


def beyond_divergence(trained: Array | None) -> Array | None:
    """What a training may do to quality and not to the divergence: whether there was one, the log of its budget, and
    the same two of one with references; (n, 4). trained: as in `divergence_model.features`."""
    if trained is None:
        return None
    whether, budget, references = trained[:, :1], trained[:, 1:2], trained[:, 3:]
    return np.concatenate([whether, budget, references, references * budget], axis=1)
