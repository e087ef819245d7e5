"""The divergence of a candidate from those of its parts: sums before anything is measured, then what was learned."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.surrogate.divergence_model import (
    CONSTANT,
    LEAST,
    NOISE,
    PAIR,
    SHARE,
    Array,
    features,
    fit_divergence,
    prior,
)


def drawn(count: int, axes: int, seed: int = 0) -> Array:
    """Candidates of parts between a hundredth of a nat and one."""
    return np.asarray(np.exp(np.random.default_rng(seed).uniform(np.log(0.01), 0.0, (count, axes))))


NOTHING = np.zeros((0, 3)), np.zeros(0)


def test_before_anything_is_measured_damages_add_up() -> None:
    parts = drawn(20, 3)
    mean, deviation = fit_divergence(*NOTHING).predict(parts)
    assert mean == pytest.approx(np.log(parts.sum(axis=1)))
    # Each weight is believed to be nothing, more or less.
    spread = ((features(parts) * prior(3)[1]) ** 2).sum(axis=1)
    assert deviation == pytest.approx(np.sqrt(spread + NOISE**2))
    assert (deviation > NOISE).all()


def test_features_are_shares_and_geometric_means_of_two() -> None:
    # 0.4 = √(0.2 · 0.8)
    assert features(np.array([[0.1, 0.4, 0.0]]))[0] == pytest.approx([1.0, 0.2, 0.8, 0.0, 0.4, 0.0, 0.0])
    assert features(np.zeros((1, 2)))[0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert prior(3)[1].tolist() == [CONSTANT, SHARE, SHARE, SHARE, PAIR, PAIR, PAIR]


def test_one_part_alone_is_a_share_of_all_and_no_pair() -> None:
    assert features(np.array([[0.0, 0.3, 0.0]]))[0].tolist() == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_a_bias_of_all_candidates_is_learned() -> None:
    parts, others = drawn(30, 3), drawn(50, 3, seed=1)
    model = fit_divergence(parts, 1.5 * parts.sum(axis=1))
    mean, _ = model.predict(others)
    assert mean == pytest.approx(np.log(1.5 * others.sum(axis=1)), abs=0.05)


def test_one_that_is_far_from_what_is_told_changes_little() -> None:
    parts, others = drawn(30, 3), drawn(50, 3, seed=1)
    measured = 1.2 * parts.sum(axis=1)
    right, spoilt = fit_divergence(parts, measured), measured.copy()
    spoilt[4] *= 40.0
    moved = fit_divergence(parts, spoilt).predict(others)[0] - right.predict(others)[0]
    assert np.abs(moved).max() < 0.15


def test_two_parts_that_harm_more_together_are_learned_and_no_other_two() -> None:
    def measured(parts: Array) -> Array:
        shares = parts / parts.sum(axis=1, keepdims=True)
        return np.asarray(parts.sum(axis=1) * np.exp(1.2 * np.sqrt(shares[:, 0] * shares[:, 2])))

    parts = drawn(60, 3)
    model = fit_divergence(parts, measured(parts))
    together = np.array([[0.2, 0.0, 0.2], [0.2, 0.2, 0.0], [0.0, 0.2, 0.2]])
    error = model.predict(together)[0] - np.log(0.4)
    assert error[0] == pytest.approx(0.6, abs=0.1)
    assert np.abs(error[1:]).max() < 0.15
    others = drawn(200, 3, seed=1)
    assert np.abs(model.predict(others)[0] - np.log(measured(others))).max() < 0.1


def test_what_a_pair_does_is_told_of_candidates_never_measured_within_the_deviation() -> None:
    parts, others = drawn(40, 4), drawn(400, 4, seed=1)
    random = np.random.default_rng(2)
    weights = random.normal(0.0, prior(4)[1])
    truth = np.log(others.sum(axis=1)) + features(others) @ weights + random.normal(0.0, NOISE, 400)
    told = parts.sum(axis=1) * np.exp(features(parts) @ weights + random.normal(0.0, NOISE, 40))
    mean, deviation = fit_divergence(parts, told).predict(others)
    away = (truth - mean) / deviation
    # As many as of a normal distribution.
    assert 0.6 < (np.abs(away) < 1.0).mean() < 0.78
    assert (np.abs(away) < 2.0).mean() > 0.92


def test_what_is_measured_makes_surer_and_never_surer_than_chance() -> None:
    parts, others = drawn(64, 3), drawn(10, 3, seed=1)
    before = fit_divergence(*NOTHING).predict(others)[1]
    for count in (1, 4, 16, 64):
        after = fit_divergence(parts[:count], parts[:count].sum(axis=1)).predict(others)[1]
        assert (after < before).all()
        before = after
    assert (before > NOISE).all()
    assert before.max() < 1.2 * NOISE


def test_candidates_without_divergence_say_nothing() -> None:
    parts = np.concatenate([drawn(5, 3), np.zeros((1, 3)), drawn(2, 3, seed=1)])
    measured = np.array([*(2.0 * parts[:5].sum(axis=1)), 0.3, 0.0, LEAST / 2])
    model, without = fit_divergence(parts, measured), fit_divergence(parts[:5], measured[:5])
    assert (model.mean.tolist(), model.covariance.tolist()) == (without.mean.tolist(), without.covariance.tolist())
    mean, _ = fit_divergence(parts[5:], measured[5:]).predict(parts[:5])
    assert mean == pytest.approx(np.log(parts[:5].sum(axis=1)))


def test_the_order_of_what_was_measured_does_not_matter() -> None:
    parts = drawn(30, 3)
    measured = parts.sum(axis=1) * np.exp(np.random.default_rng(3).normal(0.0, 0.2, 30))
    one = fit_divergence(parts, measured).predict(parts)
    other = fit_divergence(parts[::-1], measured[::-1]).predict(parts)
    assert one[0] == pytest.approx(other[0])
    assert one[1] == pytest.approx(other[1])
