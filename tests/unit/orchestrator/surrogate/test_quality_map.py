"""From divergence to kept quality: the curve and its slopes, and what is learned of candidates made by a known one."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.surrogate.quality_map import (
    FACTOR_SPREAD,
    NOISE,
    POWER,
    POWER_SPREAD,
    SCALE,
    SCALE_SPREAD,
    VOCABULARY_FACTOR,
    Array,
    _curve,
    fit_quality,
)

FACTORS = np.array([VOCABULARY_FACTOR, 0.0])
NOTHING = np.zeros((0, 2)), np.zeros(0), np.zeros(0)
CERTAIN = np.zeros(200)
LOG_KL = np.linspace(np.log(1e-5), np.log(30.0), 200)


def alone(axis: int, count: int = 200) -> Array:
    """Parts of candidates of two axes that one of them harms."""
    parts = np.zeros((count, 2))
    parts[:, axis] = 1.0
    return parts


def kept_by(scale: float, power: float, factors: Array, parts: Array, log_kl: Array) -> Array:
    """exp(−(scale · KL)^power), the scale times what the axes' shares of the divergence make of it."""
    shares = parts / parts.sum(axis=1, keepdims=True)
    return np.asarray(np.exp(-((scale * np.exp(shares @ factors + log_kl)) ** power)))


def test_before_anything_is_measured_more_divergence_keeps_less_and_none_keeps_all() -> None:
    kept, deviation = fit_quality(*NOTHING, FACTORS).predict(alone(1), LOG_KL, CERTAIN)
    assert (np.diff(kept) <= 0.0).all()
    assert (np.diff(kept[(kept > 1e-6) & (kept < 0.999)]) < 0.0).all()
    assert kept[0] == pytest.approx(1.0, abs=1e-5)
    assert kept[-1] < 1e-6
    assert kept == pytest.approx(kept_by(np.exp(SCALE), np.exp(POWER), FACTORS, alone(1), LOG_KL))
    # Where the curve is flat, chance is all that is left.
    assert deviation[0] == pytest.approx(NOISE, rel=0.01)
    assert deviation.max() > 5 * NOISE


def test_a_trimmed_vocabulary_is_believed_to_keep_less_than_rounding_of_the_same_divergence() -> None:
    prior = fit_quality(*NOTHING, FACTORS)
    trimmed = prior.predict(alone(0), LOG_KL, CERTAIN)[0]
    assert (trimmed <= prior.predict(alone(1), LOG_KL, CERTAIN)[0]).all()
    further = prior.predict(alone(1), LOG_KL + VOCABULARY_FACTOR, CERTAIN)[0]
    assert trimmed == pytest.approx(further)


def test_of_a_divergence_that_is_not_sure_the_quality_is_less_sure() -> None:
    prior = fit_quality(*NOTHING, FACTORS)
    at = np.array([0.0])
    sure, unsure = (prior.predict(alone(1, 1), at, np.array([deviation])) for deviation in (0.0, 0.3))
    slope = _curve(prior.at, np.array([[0.0, 1.0]]), at)[2]
    assert sure[0] == unsure[0]
    assert unsure[1] ** 2 - sure[1] ** 2 == pytest.approx((slope * 0.3) ** 2)


@pytest.mark.parametrize(("scale", "power"), [(0.45, 1.15), (0.6, 1.35), (0.9, 1.7)])
def test_a_known_curve_is_found(scale: float, power: float) -> None:
    random = np.random.default_rng(0)
    parts, log_kl = random.uniform(0.1, 1.0, (60, 2)), random.uniform(np.log(0.05), np.log(3.0), 60)
    kept = kept_by(scale, power, FACTORS, parts, log_kl) + random.normal(0.0, NOISE, 60)
    found = fit_quality(parts, log_kl, kept, FACTORS)
    told = found.predict(alone(1), LOG_KL, CERTAIN)[0]
    assert np.abs(told - kept_by(scale, power, FACTORS, alone(1), LOG_KL)).max() < 0.03
    assert found.at[1] == pytest.approx(np.log(power), abs=0.1)
    # Scale and factors may trade a little; together they are the curve's place.
    assert found.at[0] + found.at[3] == pytest.approx(np.log(scale), abs=0.1)
    assert (np.sqrt(np.diag(found.covariance)) < [SCALE_SPREAD, POWER_SPREAD, FACTOR_SPREAD, FACTOR_SPREAD]).all()


def test_what_an_axis_costs_is_learned() -> None:
    random = np.random.default_rng(0)
    parts = np.concatenate([alone(0, 20), alone(1, 20)])
    log_kl = random.uniform(np.log(0.2), np.log(2.0), 40)
    factors = np.array([-0.3, 0.2])
    kept = kept_by(np.exp(SCALE), np.exp(POWER), factors, parts, log_kl) + random.normal(0.0, NOISE, 40)
    found = fit_quality(parts, log_kl, kept, FACTORS)
    # The other way round than was believed: rounding costs more than the vocabulary.
    assert found.at[3] - found.at[2] == pytest.approx(0.5, abs=0.1)
    one, other = (found.predict(alone(axis, 1), np.zeros(1), np.zeros(1))[0][0] for axis in (0, 1))
    truth = [kept_by(np.exp(SCALE), np.exp(POWER), factors, alone(axis, 1), np.zeros(1))[0] for axis in (0, 1)]
    assert [one, other] == pytest.approx(truth, abs=0.02)


def test_candidates_far_from_the_curve_do_not_lead_astray() -> None:
    # All quality lost at hardly any divergence, and none at much: no curve passes through both.
    parts, log_kl, kept = alone(1, 4), np.log([0.001, 0.002, 5.0, 6.0]), np.array([0.0, 0.0, 1.0, 1.0])
    found = fit_quality(parts, log_kl, kept, FACTORS)
    assert np.isfinite(found.at).all()
    assert np.isfinite(found.covariance).all()
    mean, deviation = found.predict(alone(1), LOG_KL, CERTAIN)
    assert ((mean >= 0.0) & (mean <= 1.0)).all()
    assert (deviation >= NOISE).all()


def test_slopes_are_those_of_the_curve() -> None:
    random = np.random.default_rng(0)
    shares, log_kl = random.dirichlet(np.ones(3), 40), random.uniform(np.log(0.01), np.log(5.0), 40)
    at, step = np.array([-0.4, 0.25, 0.8, -0.2, 0.1]), 1e-6
    _, by_parameter, by_log_kl = _curve(at, shares, log_kl)
    for place in range(5):
        moved = np.zeros(5)
        moved[place] = step
        difference = _curve(at + moved, shares, log_kl)[0] - _curve(at - moved, shares, log_kl)[0]
        assert by_parameter[:, place] == pytest.approx(difference / (2 * step), abs=1e-7)
    difference = _curve(at, shares, log_kl + step)[0] - _curve(at, shares, log_kl - step)[0]
    assert by_log_kl == pytest.approx(difference / (2 * step), abs=1e-7)


def test_a_divergence_beyond_all_measure_keeps_nothing_and_overflows_nothing() -> None:
    with np.errstate(all="raise", under="ignore"):
        kept, slopes, _ = _curve(np.array([SCALE, POWER, 0.0]), np.ones((2, 1)), np.array([-500.0, 500.0]))
    assert kept == pytest.approx([1.0, 0.0])
    assert np.isfinite(slopes).all()
