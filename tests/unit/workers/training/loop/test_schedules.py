"""Learning rates: where they rise, stay and fall, and from where on they depend on the budget."""

from __future__ import annotations

import pytest

from workers.training.loop.schedules import STEPS_WITHOUT_WARM_UP, decay_begins, rate_share


@pytest.mark.parametrize("schedule", ["wsd", "inverse_sqrt"])
def test_the_warm_up_rises_linearly_to_the_peak_and_no_step_stands_still(schedule: str) -> None:
    shares = [rate_share(schedule, 4, step, step * 10, 10_000) for step in range(4)]  # type: ignore[arg-type]
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert rate_share(schedule, 0, 0, 0, 10_000) == pytest.approx(1.0, abs=1e-4)  # type: ignore[arg-type]


def test_wsd_stays_for_four_fifths_of_the_budget_and_then_falls_to_nothing() -> None:
    assert decay_begins("wsd", 1000) == 800
    assert [rate_share("wsd", 2, 50, tokens, 1000) for tokens in (100, 799, 800)] == [1.0, 1.0, 1.0]
    assert rate_share("wsd", 2, 50, 850, 1000) == pytest.approx(0.5)
    falling = [rate_share("wsd", 2, 50, tokens, 1000) for tokens in range(800, 1000)]
    assert falling == sorted(falling, reverse=True)
    assert 0.0 < falling[-1] < 0.01


def test_wsd_is_the_same_for_every_budget_until_the_smallest_begins_to_decay() -> None:
    for tokens in range(0, 801, 40):
        assert rate_share("wsd", 20, tokens // 40, tokens, 1000) == rate_share("wsd", 20, tokens // 40, tokens, 9000)


def test_an_inverse_square_root_falls_with_the_steps_whatever_the_budget() -> None:
    assert rate_share("inverse_sqrt", 4, 15, 0, 1000) == pytest.approx(0.5)
    assert rate_share("inverse_sqrt", 4, 399, 999, 1000) == pytest.approx(0.1)
    assert rate_share("inverse_sqrt", 0, 3 * STEPS_WITHOUT_WARM_UP - 1, 0, 1000) == pytest.approx(0.5)
    assert decay_begins("inverse_sqrt", 1000) == 1000


@pytest.mark.parametrize("schedule", ["wsd", "inverse_sqrt"])
@pytest.mark.parametrize("budget", [1, 4, 7, 100])
def test_every_step_within_a_budget_has_a_rate_above_zero(schedule: str, budget: int) -> None:
    assert all(0.0 < rate_share(schedule, 3, step, step, budget) <= 1.0 for step in range(budget))  # type: ignore[arg-type]
