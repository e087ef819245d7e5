"""Compensation: least squares by hand and by brute force, and inputs that go in the order of what they cost."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from workers.compression.pruning import compensation
from workers.compression.pruning.compensation import LEAST_RIDGE, compensate, keep_columns, keep_groups

TOKENS = 400
MANY = 10**9


def correlated(columns: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs (tokens, columns) that depend on one another, their Hessian, and a weight (5, columns)."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(TOKENS, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    mixed *= torch.rand(columns, generator=generator) * 10 + 0.1
    weight = torch.randn(5, columns, generator=generator)
    return mixed, mixed.T @ mixed / TOKENS, weight


def with_ridge(hessian: torch.Tensor) -> torch.Tensor:
    """The Hessian as inputs are chosen under it."""
    return hessian.double() + LEAST_RIDGE * hessian.double().diagonal().diag()


def cost(weight: torch.Tensor, hessian: torch.Tensor, gone: list[int]) -> float:
    """What Δ costs at least, by solving for it anew: Σ over rows of Δ (H + ridge) Δᵀ with Δ = -W in `gone`."""
    ridged = with_ridge(hessian)
    stays = [column for column in range(len(hessian)) if column not in gone]
    delta = -weight.double()
    delta[:, stays] = weight.double()[:, gone] @ ridged[gone][:, stays] @ torch.linalg.inv(ridged[stays][:, stays])
    return float((delta @ ridged * delta).sum())


def test_two_inputs_as_worked_out_by_hand() -> None:
    hessian = torch.tensor([[4.0, 1.0], [1.0, 1.0]])
    weight = torch.tensor([[3.0, 2.0]])
    # Without input 1, input 0 takes over 2 · 1/4 (under a ridge of 10⁻⁴); without input 0, input 1 takes over 3 · 1.
    first, second = (compensate(weight, hessian, torch.tensor([column]), MANY) for column in (0, 1))
    assert first.weight.item() == pytest.approx(3 + 2 / (4 * (1 + LEAST_RIDGE)))
    assert second.weight.item() == pytest.approx(2 + 3 / (1 + LEAST_RIDGE))
    # Δ = (0.5, -2): 4 · 0.5² - 2 · 0.5 · 2 + 4 = 3; the output is 9 · 4 + 2 · 3 · 2 + 4 = 52.
    assert first.error == pytest.approx(3.0 / 52, rel=1e-4)
    # Costs 2² / (H⁻¹)_11 = 4 · 3/4 = 3 against 3² · 3 = 27, so input 1 goes.
    assert keep_columns(weight, hessian, 1).tolist() == [0]


def test_the_ridge_goes_with_noise_as_worked_out_by_hand() -> None:
    hessian = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    # The first ridge is 2 inputs / 10 tokens. Under it input 0 takes over 0.5 / 1.2 = 5/12, which leaves
    # 1 - 2 · 0.5 · 5/12 + (5/12)² = 109/144 of the output, over 9 degrees of freedom in 10 tokens.
    ridge = 1 * (109 / 144) / (9 / 10 * 10 * (5 / 12) ** 2)
    found = compensate(torch.tensor([[0.0, 1.0]]), hessian, torch.tensor([0]), 10)
    assert found.weight.item() == pytest.approx(0.5 / (1 + ridge))


def test_what_few_tokens_show_by_chance_is_hardly_made_up_for() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, weight = torch.randn(250, 200, generator=generator), torch.randn(5, 200, generator=generator)
    kept = torch.arange(150)
    # The inputs are independent, so nothing can stand in for what goes: 50 · 5 in the mean, were it not for chance.
    found = compensate(weight, inputs.T @ inputs / 250, kept, 250).weight - weight[:, kept]
    fitted = torch.linalg.lstsq(inputs[:, kept], inputs[:, 150:] @ weight[:, 150:].T).solution
    lost = weight[:, 150:].square().sum().item()
    assert found.square().sum().item() < 0.25 * lost
    assert fitted.square().sum().item() > 1.0 * lost


def test_the_error_is_the_share_of_the_outputs_mean_square() -> None:
    inputs, hessian, weight = correlated(12)
    kept = torch.tensor([0, 1, 4, 5, 6, 7, 9, 11])
    found = compensate(weight, hessian, kept, TOKENS)
    before, after = inputs @ weight.T, inputs[:, kept] @ found.weight.float().T
    assert found.error == pytest.approx(((before - after).square().sum() / before.square().sum()).item(), rel=1e-3)
    plain = inputs[:, kept] @ weight[:, kept].T
    assert found.error < 0.7 * ((before - plain).square().sum() / before.square().sum()).item()


def test_least_squares_costs_no_more_than_any_change_nearby() -> None:
    inputs, hessian, weight = correlated(8)
    kept = torch.tensor([0, 2, 3, 5, 7])
    best = torch.linalg.lstsq(inputs[:, kept].double(), (inputs @ weight.T).double()).solution.T
    optimal = (inputs[:, kept].double() @ best.T - (inputs @ weight.T).double()).square().sum()
    found = (
        inputs[:, kept].double() @ compensate(weight, hessian, kept, MANY).weight.T
        - inputs.double() @ weight.double().T
    )
    assert found.square().sum().item() == pytest.approx(optimal.item(), rel=1e-3)


def test_a_layer_that_loses_nothing_keeps_its_weights() -> None:
    _, hessian, weight = correlated(8)
    found = compensate(weight, hessian, torch.arange(8), TOKENS)
    assert torch.equal(found.weight, weight.double())
    assert found.error == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_one_input_goes_whose_absence_costs_least_by_brute_force(seed: int) -> None:
    _, hessian, weight = correlated(10, seed)
    costs = [cost(weight, hessian, [column]) for column in range(10)]
    gone = set(range(10)) - set(keep_columns(weight, hessian, 9).tolist())
    assert gone == {costs.index(min(costs))}


@pytest.mark.parametrize("seed", range(3))
def test_inputs_go_one_after_another_as_brute_force_picks_them(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, hessian, weight = correlated(10, seed)
    gone: list[int] = []
    for _ in range(5):
        left = [column for column in range(10) if column not in gone]
        gone.append(min(left, key=lambda column: cost(weight, hessian, [*gone, column])))
    expected = [column for column in range(10) if column not in gone]
    # All five among all candidates at once, or each after all costs are worked out again.
    for share in (0.5, 0.1):
        monkeypatch.setattr(compensation, "SHARE_AT_ONCE", share)
        assert keep_columns(weight, hessian, 5).tolist() == expected


@pytest.mark.parametrize("seed", range(3))
def test_groups_go_whose_absence_costs_least_by_brute_force(seed: int) -> None:
    _, hessian, weight = correlated(12, seed)
    costs = [cost(weight, hessian, [3 * group, 3 * group + 1, 3 * group + 2]) for group in range(4)]
    worst = costs.index(min(costs))
    assert keep_groups(weight, hessian, 3, 3).tolist() == [group for group in range(4) if group != worst]
    second = min(
        (group for group in range(4) if group != worst),
        key=lambda group: cost(weight, hessian, [3 * one + step for one in (worst, group) for step in range(3)]),
    )
    assert keep_groups(weight, hessian, 2, 3).tolist() == sorted({0, 1, 2, 3} - {worst, second})


def test_groups_of_one_are_columns() -> None:
    _, hessian, weight = correlated(16)
    for count in (15, 9, 3):
        assert torch.equal(keep_groups(weight, hessian, count, 1), keep_columns(weight, hessian, count))


def test_of_two_inputs_that_are_the_same_one_goes_and_nothing_is_lost() -> None:
    inputs, _, weight = correlated(12)
    inputs[:, 6:] = inputs[:, :6] * torch.tensor([1.0, 2.0, -1.0, 0.5, 3.0, 1.0])
    hessian = inputs.T @ inputs / len(inputs)
    kept = keep_columns(weight, hessian, 6)
    assert sorted(column % 6 for column in kept.tolist()) == list(range(6))
    found = compensate(weight, hessian, kept, TOKENS)
    assert found.error < 1e-4
    assert torch.allclose(
        inputs[:, kept].double() @ found.weight.T, inputs.double() @ weight.double().T, rtol=0.01, atol=0.5
    )


def test_rescaling_inputs_against_their_weights_changes_nothing() -> None:
    _, hessian, weight = correlated(12)
    scale = 10.0 ** torch.linspace(-3, 3, 12)
    kept = keep_columns(weight, hessian, 6)
    rescaled = hessian * scale[:, None] * scale
    assert torch.equal(keep_columns(weight / scale, rescaled, 6), kept)
    found = compensate(weight / scale, rescaled, kept, TOKENS)
    assert torch.allclose(
        found.weight * scale[kept], compensate(weight, hessian, kept, TOKENS).weight, rtol=1e-3, atol=1e-4
    )


def test_an_input_that_is_always_zero_goes_first_and_takes_nothing_over() -> None:
    inputs, _, weight = correlated(8)
    inputs[:, 3] = 0.0
    weight[:, 3] = 100.0
    hessian = inputs.T @ inputs / len(inputs)
    assert 3 not in keep_columns(weight, hessian, 7).tolist()
    found = compensate(weight, hessian, torch.tensor([0, 1, 2, 3, 4]), TOKENS)
    assert found.weight.isfinite().all()
    assert torch.equal(found.weight[:, 3], weight[:, 3].double())


def test_pairs_of_inputs_are_as_cheap_as_the_inverse_says() -> None:
    _, hessian, weight = correlated(6)
    ridged = with_ridge(hessian)
    inverse = torch.linalg.inv(ridged)
    for pair in combinations(range(6), 2):
        gone = list(pair)
        read_off = torch.trace(
            weight.double()[:, gone] @ torch.linalg.inv(inverse[gone][:, gone]) @ weight.double()[:, gone].T
        )
        assert read_off.item() == pytest.approx(cost(weight, hessian, gone), rel=1e-6)


def test_a_hessian_that_is_not_finite_is_refused() -> None:
    _, hessian, weight = correlated(4)
    hessian[2, 2] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        keep_columns(weight, hessian, 2)
    with pytest.raises(ValueError, match="not finite"):
        compensate(weight, hessian, torch.tensor([0, 1]), TOKENS)
