"""The inverse's triangular factor: U with H⁻¹ = UᵀU against float64, with dead inputs and without full rank."""

from __future__ import annotations

import pytest
import torch

from workers.calibration.damping import Damped
from workers.calibration.hessian_inverse import LEAST_RISEN, inverse_factor


def correlated(columns: int, tokens: int, seed: int = 0) -> torch.Tensor:
    """Mean x xᵀ of inputs whose channels differ in size and hang together."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(tokens, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    inputs = inputs * torch.logspace(-1, 1, columns)
    return inputs.T @ inputs / tokens


def test_two_inputs_as_worked_out_by_hand() -> None:
    # H = [[2, 1], [1, 1]] is R Rᵀ for R = [[1, 1], [0, 1]], so U = R⁻¹ = [[1, -1], [0, 1]].
    found = inverse_factor(torch.tensor([[2.0, 1.0], [1.0, 1.0]]), damping=0.0)
    assert found.tolist() == [[1.0, -1.0], [0.0, 1.0]]


def test_damping_is_a_share_of_the_mean_diagonal() -> None:
    # The mean diagonal of diag(1, 5) is 3; half of it makes diag(2.5, 6.5).
    found = inverse_factor(torch.diag(torch.tensor([1.0, 5.0])), damping=0.5)
    assert torch.allclose(found, torch.diag(torch.tensor([2.5, 6.5]).rsqrt()))


def test_the_factor_gives_the_inverse_of_the_damped_hessian() -> None:
    hessian = correlated(96, 500)
    before = hessian.clone()
    upper = inverse_factor(hessian, 0.01)
    exact = hessian.double() + 0.01 * hessian.double().diagonal().mean() * torch.eye(96)
    expected = torch.linalg.inv(exact)
    assert torch.equal(upper, upper.triu())
    assert upper.dtype == torch.float32
    assert (upper.double().T @ upper.double() - expected).norm() < 1e-5 * expected.norm()
    assert torch.equal(hessian, before)


def test_dead_inputs_count_neither_in_the_mean_nor_in_the_factor_of_the_others() -> None:
    live = correlated(30, 200)
    alive = torch.ones(32, dtype=torch.bool)
    alive[[4, 31]] = False
    hessian = torch.zeros(32, 32)
    hessian[alive[:, None] & alive] = live.reshape(-1)
    upper = inverse_factor(hessian, 0.01)
    assert torch.allclose(upper[alive][:, alive], inverse_factor(live, 0.01), rtol=1e-4, atol=1e-5)
    assert torch.equal(upper[~alive], torch.eye(32)[~alive])
    assert torch.equal(upper[:, ~alive], torch.eye(32)[:, ~alive])


def test_all_inputs_dead_gives_the_identity() -> None:
    assert torch.equal(inverse_factor(torch.zeros(3, 3), 0.01), torch.eye(3))


def test_fewer_tokens_than_inputs_are_made_up_for_by_damping() -> None:
    hessian = correlated(64, 10)
    upper = inverse_factor(hessian, 0.01).double()
    damped = hessian.double() + 0.01 * hessian.double().diagonal().mean() * torch.eye(64)
    assert torch.dist(upper.T @ upper @ damped, torch.eye(64)) < 1e-2


def test_damping_is_raised_tenfold_until_the_factor_exists() -> None:
    # Eigenvalues 3 and -1, mean diagonal 1: 0.02 and 0.2 leave a negative one, 2 makes them 5 and 1.
    hessian = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    upper = inverse_factor(hessian, 0.02)
    assert torch.allclose(upper.T @ upper, torch.linalg.inv(hessian + 2 * torch.eye(2)), atol=1e-6)


def test_damping_rises_as_far_as_it_must_and_says_so() -> None:
    # Eigenvalues 101 and -99, mean diagonal 1: 0.01 rises to 100, which makes them 201 and 1.
    hessian, heard = torch.tensor([[1.0, 100.0], [100.0, 1.0]]), list[Damped]()
    upper = inverse_factor(hessian, 0.01, heard.append)
    assert torch.allclose(upper.T @ upper, torch.linalg.inv(hessian + 100 * torch.eye(2)), atol=1e-6)
    (damped,) = heard
    assert (damped.inputs, damped.first, damped.rose) == (2, 0.01, True)
    assert damped.last == pytest.approx(100)
    assert damped.unseen == 1.0


def test_what_float32_can_not_factor_float64_does_under_the_same_damping() -> None:
    # Two inputs that differ in the eighth digit: to float32, which lost it, one and the same.
    hessian, heard = torch.tensor([[1.0, 1.0], [1.0, 1.0]]), list[Damped]()
    upper = inverse_factor(hessian, 1e-8, heard.append).double()
    assert heard[0] == Damped(2, 1e-8, 1e-8, pytest.approx(0.5, rel=1e-3))
    expected = torch.linalg.inv(hessian.double() + 1e-8 * torch.eye(2, dtype=torch.float64))
    assert torch.allclose(upper.T @ upper, expected, rtol=1e-4)


def test_no_damping_at_all_rises_too() -> None:
    heard: list[Damped] = []
    upper = inverse_factor(torch.tensor([[1.0, 1.0], [1.0, 1.0]]), 0.0, heard.append)
    assert upper.isfinite().all()
    assert (heard[0].first, heard[0].last) == (0.0, LEAST_RISEN)


def test_products_of_inputs_that_are_always_zero_do_not_keep_damping_rising() -> None:
    hessian = torch.tensor([[0.0, 5.0, 0.0], [5.0, 0.0, 3.0], [0.0, 3.0, 4.0]])
    upper = inverse_factor(hessian, 0.01)
    assert torch.allclose(upper, torch.diag(torch.tensor([1.0, 1.0, 4.04]).rsqrt()))


@pytest.mark.parametrize("tokens", [10, 64])
def test_the_share_of_directions_without_data_is_what_the_tokens_leave(tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(tokens, 256, generator=generator)
    heard: list[Damped] = []
    # Float32 tells the share to 0.0002 with this damping, and on some processors to 0.003 with a tenth of it.
    inverse_factor(inputs.T @ inputs / tokens, 1e-3, heard.append)
    assert heard[0].unseen == pytest.approx(1 - tokens / 256, abs=0.002)
    assert not heard[0].rose


@pytest.mark.parametrize("position", [(0, 0), (0, 1)])
def test_a_hessian_that_is_not_finite_is_no_matter_of_damping(position: tuple[int, int]) -> None:
    hessian = torch.eye(3)
    hessian[position] = hessian[position[::-1]] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        inverse_factor(hessian, 0.01)
