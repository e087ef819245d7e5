"""Elimination of columns: in the order of what each costs once those before it are gone, alike on a CPU and a GPU."""

from __future__ import annotations

import pytest
import torch

from workers.compression.pruning.elimination import Elimination

COLUMNS, STEPS = 12, 8


def weight_and_inverse(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(64, COLUMNS, generator=generator, dtype=torch.float64)
    hessian = inputs.T @ inputs / 64 + 0.01 * torch.eye(COLUMNS, dtype=torch.float64)
    return torch.randn(5, COLUMNS, generator=generator, dtype=torch.float64), torch.linalg.inv(hessian)


def one_after_another(weight: torch.Tensor, inverse: torch.Tensor, count: int) -> list[int]:
    """Each time the column of least cost, the inverse of what stays being worked out anew."""
    hessian, gone = torch.linalg.inv(inverse), []
    for _ in range(count):
        stays = [column for column in range(COLUMNS) if column not in gone]
        left = torch.linalg.inv(hessian[stays][:, stays])
        delta = weight[:, gone] @ hessian[gone][:, stays] @ left
        cost = (weight[:, stays] + delta).square().sum(dim=0) / left.diagonal()
        gone.append(stays[int(cost.argmin())])
    return gone


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [1, 5, STEPS])
def test_each_time_the_column_goes_that_costs_least(count: int, seed: int) -> None:
    weight, inverse = weight_and_inverse(seed)
    assert Elimination(COLUMNS, STEPS).round(weight, inverse, count).tolist() == one_after_another(
        weight, inverse, count
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_graph_chooses_as_a_cpu_does_from_round_to_round() -> None:
    rounds = Elimination(COLUMNS, STEPS)
    for seed in range(4):
        weight, inverse = weight_and_inverse(seed)
        for count in (STEPS, 3):
            found = rounds.round(weight.cuda(), inverse.cuda(), count)
            assert found.tolist() == rounds.round(weight, inverse, count).tolist()
