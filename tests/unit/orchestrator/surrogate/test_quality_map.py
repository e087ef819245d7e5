"""From divergence to kept quality: the curve and its slopes, and what is learned of candidates made by a known one."""

from __future__ import annotations

from dataclasses import replace

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
    Belief,
    _curve,
    _parts_of_normal,
    beyond_divergence,
    fit_quality,
    kinds_of_damage,
)

FACTORS = np.array([VOCABULARY_FACTOR, 0.0])
NOTHING = np.zeros((0, 2)), np.zeros(0), np.zeros(0)
EMPTY = np.zeros((0, 3)), np.zeros(0), np.zeros(0)
CERTAIN = np.zeros(200)
LOG_KL = np.linspace(np.log(1e-5), np.log(30.0), 200)


def alone(axis: int, count: int = 200) -> Array:
    """Parts of candidates of two axes that one of them harms."""
    parts = np.zeros((count, 2))
    parts[:, axis] = 1.0
    return parts


def deviation_of(belief: Belief) -> Array:
    """The standard deviation of what is believed (n,)."""
    square = belief.expectation(lambda mean, deviation: mean**2 + deviation**2)
    return np.asarray(np.sqrt(square - belief.expectation(lambda mean, _: mean) ** 2))


def kept_by(scale: float, power: float, factors: Array, parts: Array, log_kl: Array) -> Array:
    """exp(−(scale · KL)^power), the scale times what the axes' shares of the divergence make of it."""
    shares = parts / parts.sum(axis=1, keepdims=True)
    return np.asarray(np.exp(-((scale * np.exp(shares @ factors + log_kl)) ** power)))


def test_before_anything_is_measured_more_divergence_keeps_less_and_none_keeps_all() -> None:
    belief = fit_quality(*NOTHING, FACTORS).predict(alone(1), LOG_KL, CERTAIN)
    kept, deviation = belief.kept, deviation_of(belief)
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
    trimmed = prior.predict(alone(0), LOG_KL, CERTAIN).kept
    assert (trimmed <= prior.predict(alone(1), LOG_KL, CERTAIN).kept).all()
    further = prior.predict(alone(1), LOG_KL + VOCABULARY_FACTOR, CERTAIN).kept
    assert trimmed == pytest.approx(further)


def test_of_a_divergence_that_is_not_sure_the_quality_is_less_sure() -> None:
    prior = fit_quality(*NOTHING, FACTORS)
    at = np.array([0.0])
    sure, unsure = (prior.predict(alone(1, 1), at, np.array([deviation])) for deviation in (0.0, 0.3))
    assert sure.kept == unsure.kept
    assert unsure.low < sure.low < sure.kept < sure.high < unsure.high
    assert deviation_of(unsure) > deviation_of(sure)


def test_what_references_teach_beyond_the_divergence_is_learnt_by_the_budget() -> None:
    """Trained with references or without, for the shortest budget or four times that, or not at all."""
    told = [(0.0, 0.0, 0.0), *((1.0, budget, other) for budget in (0.0, np.log(4.0)) for other in (0.0, 1.0))]
    trained = np.array([(whether, budget, 0.0, other) for whether, budget, other in told])
    beyond = beyond_divergence(trained)
    assert beyond is not None and beyond_divergence(None) is None
    assert beyond[-1].tolist() == pytest.approx([1.0, np.log(4.0), 1.0, np.log(4.0)])
    parts, log_kl = alone(1, len(trained)), np.full(len(trained), np.log(0.2))
    shares = kinds_of_damage(parts, trained)
    taught = np.array([0.0, 0.0, 0.0, 0.0, 0.04])
    factors = np.array([*FACTORS, 0.0])

    def fitted(added: Array, times: int) -> Array:
        many = [np.repeat(of, times, axis=0) for of in (shares, log_kl, 0.93 + added, beyond)]
        return fit_quality(*many[:3], factors, many[3]).predict(shares, log_kl, np.zeros(len(trained)), beyond).kept

    assert fitted(taught, 6) == pytest.approx(0.93 + taught, abs=0.008)
    assert fitted(-taught, 6) == pytest.approx(0.93 - taught, abs=0.012)
    # Nothing is known of what was not tried: it may keep more than all there is, and it is less sure.
    belief = fit_quality(*EMPTY, factors, np.zeros((0, 4))).predict(shares, log_kl, np.zeros(len(trained)), beyond)
    spans = belief.high - belief.low
    assert spans[4] > spans[2] > spans[0]


def test_what_is_believed_is_what_draws_of_the_divergence_come_to() -> None:
    found = fit_quality(*NOTHING, FACTORS)
    # The curve is known; only the divergence is not.
    sure = replace(found, covariance=np.zeros_like(found.covariance))
    log_kl, away = np.log([0.001, 0.1, 0.5, 1.5]), np.array([1.0, 0.8, 0.5, 0.9])
    belief = sure.predict(alone(1, 4), log_kl, away)
    random = np.random.default_rng(0)
    drawn = kept_by(
        np.exp(found.at[0]), np.exp(found.at[1]), found.at[2:],
        alone(1, 400_000), np.tile(log_kl, 100_000) + np.tile(away, 100_000) * random.normal(size=400_000),
    ).reshape(-1, 4) + random.normal(0.0, NOISE, (100_000, 4))  # fmt: skip
    assert belief.kept == pytest.approx(np.median(drawn, axis=0), abs=0.005)
    assert belief.low == pytest.approx(np.quantile(drawn, 0.05, axis=0), abs=0.01)
    assert belief.high == pytest.approx(np.quantile(drawn, 0.95, axis=0), abs=0.01)
    assert belief.expectation(lambda mean, _: mean) == pytest.approx(drawn.mean(axis=0), abs=0.003)
    for level in (0.5, 0.9, 0.99):
        assert belief.odds_below(level) == pytest.approx((drawn < level).mean(axis=0), abs=0.015)
    # Nothing keeps much more than everything, however little is known.
    assert (belief.high < 1.0 + 2 * NOISE).all()


def test_parts_of_a_normal_have_its_mean_and_its_variance() -> None:
    means, deviations = _parts_of_normal(8)
    assert (np.diff(means) > 0).all()
    assert means.mean() == pytest.approx(0.0, abs=1e-12)
    assert (means**2 + deviations**2).mean() == pytest.approx(1.0)


@pytest.mark.parametrize(("scale", "power"), [(0.45, 1.15), (0.6, 1.35), (0.9, 1.7)])
def test_a_known_curve_is_found(scale: float, power: float) -> None:
    random = np.random.default_rng(0)
    parts, log_kl = random.uniform(0.1, 1.0, (60, 2)), random.uniform(np.log(0.05), np.log(3.0), 60)
    kept = kept_by(scale, power, FACTORS, parts, log_kl) + random.normal(0.0, NOISE, 60)
    found = fit_quality(parts, log_kl, kept, FACTORS)
    told = found.predict(alone(1), LOG_KL, CERTAIN).kept
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
    one, other = (found.predict(alone(axis, 1), np.zeros(1), np.zeros(1)).kept[0] for axis in (0, 1))
    truth = [kept_by(np.exp(SCALE), np.exp(POWER), factors, alone(axis, 1), np.zeros(1))[0] for axis in (0, 1)]
    assert [one, other] == pytest.approx(truth, abs=0.02)


def test_candidates_far_from_the_curve_do_not_lead_astray() -> None:
    # All quality lost at hardly any divergence, and none at much: no curve passes through both.
    parts, log_kl, kept = alone(1, 4), np.log([0.001, 0.002, 5.0, 6.0]), np.array([0.0, 0.0, 1.0, 1.0])
    found = fit_quality(parts, log_kl, kept, FACTORS)
    assert np.isfinite(found.at).all()
    assert np.isfinite(found.covariance).all()
    belief = found.predict(alone(1), LOG_KL, CERTAIN)
    assert ((belief.means >= 0.0) & (belief.means <= 1.0)).all()
    assert (belief.deviations >= NOISE).all()


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
