"""Hessians of less than full rank: every method that factors one takes it, and says what it had to add."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.methods.pruners import RemoveChannels, RemoveHeads, SparseGPT
from search_spaces.methods.quantizers import GPTQ, MixedWidths
from search_spaces.methods.registry import Step
from tests.support.examples import segment
from workers.calibration.damping import Damped, Dampings
from workers.calibration.hessian_inverse import inverse_factor
from workers.compression.pruning import compensation
from workers.compression.pruning.compensation import LEAST_RIDGE, compensate, keep_columns, keep_groups
from workers.compression.pruning.sparsegpt import sparsify
from workers.compression.quantization.gptq import quantize
from workers.evaluation import methods as registry
from workers.loading.load import load_model
from workers.plan.compression_context import CompressionContext
from workers.translation.prompts import PROMPTS

WIDTH = 96


def duplicates(inputs: torch.Tensor) -> torch.Tensor:
    inputs[:, WIDTH // 2 :] = inputs[:, : WIDTH // 2]
    return inputs


def dead(inputs: torch.Tensor) -> torch.Tensor:
    inputs[:, ::3] = 0.0
    return inputs


def outlier(inputs: torch.Tensor) -> torch.Tensor:
    inputs[:, 7] *= 1e4
    return inputs


def next_to_dead(inputs: torch.Tensor) -> torch.Tensor:
    """One that float32 barely holds the square of, and so not its correlations with others."""
    inputs[:, 5] *= 3e-22
    return inputs


INPUTS = {
    "few tokens": lambda: torch.randn(12, WIDTH, generator=torch.Generator().manual_seed(0)),
    "one token": lambda: torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(0)),
    "duplicates": lambda: duplicates(torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(0))),
    "dead": lambda: dead(torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(0))),
    "outlier": lambda: outlier(torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0))),
    "next to dead": lambda: next_to_dead(torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(0))),
    "all dead": lambda: torch.zeros(5, WIDTH),
}


def hessian_of(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.T @ inputs / len(inputs)


def rounded(hessian: torch.Tensor) -> torch.Tensor:
    """As sums of low precision leave it: eigenvalues that are 0 lie a little below it."""
    noise = torch.randn(hessian.shape, generator=torch.Generator().manual_seed(1))
    scale = hessian.diagonal().sqrt()
    return hessian + 3e-3 * (noise + noise.T) * scale[:, None] * scale


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("spoil", [lambda hessian: hessian, rounded], ids=["sums", "rounded"])
@pytest.mark.parametrize("name", INPUTS)
def test_every_method_takes_it(name: str, spoil: Any, weight: torch.Tensor) -> None:
    inputs = INPUTS[name]()
    hessian, tokens = spoil(hessian_of(inputs)), len(inputs)
    kept = keep_columns(weight, hessian, WIDTH // 2)
    assert len(kept) == WIDTH // 2
    found = compensate(weight, hessian, kept, tokens)
    assert found.weight.isfinite().all()
    assert 0.0 <= found.error < 1.5
    groups = keep_groups(weight, hessian, 3, WIDTH // 6)
    assert len(groups) == 3
    assert quantize(weight, hessian, 4, 32).dequantized().isfinite().all()
    sparse, mask = sparsify(
        weight, inverse_factor(hessian, 0.01), hessian.diagonal() == 0, SparseGPT(sparsity=0.5)
    )  # fmt: skip
    assert sparse.isfinite().all()
    assert mask.sum(dim=1).tolist() == [WIDTH // 2] * 16


def test_the_ridge_rises_by_tens_until_the_hessian_factors_and_says_how_far(weight: torch.Tensor) -> None:
    hessian, heard = rounded(hessian_of(INPUTS["few tokens"]())), list[Damped]()
    kept = keep_columns(weight, hessian, 40, heard.append)
    keep_groups(weight, hessian, 2, WIDTH // 4, heard.append)
    assert len(kept) == 40
    for damped in heard:
        assert (damped.inputs, damped.first, damped.rose) == (WIDTH, LEAST_RIDGE, True)
        scale = hessian.diagonal().double().sqrt()
        least = torch.linalg.eigvalsh(hessian.double() / scale[:, None] / scale).min().item()
        assert -least < damped.last < -least * 10 * 1.1
        # 12 tokens give data to 12 of 96 directions; noise as large as the ridge blurs it.
        assert damped.unseen == pytest.approx(1 - 12 / WIDTH, abs=0.15)


def test_of_duplicates_one_of_each_goes_and_nothing_is_lost(weight: torch.Tensor) -> None:
    inputs = INPUTS["duplicates"]()
    kept = keep_columns(weight, hessian_of(inputs), WIDTH // 2)
    assert sorted(column % (WIDTH // 2) for column in kept.tolist()) == list(range(WIDTH // 2))
    assert compensate(weight, hessian_of(inputs), kept, 400).error < 1e-4


def test_one_input_far_larger_than_the_rest_changes_no_choice(weight: torch.Tensor) -> None:
    inputs = torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(0))
    plain = keep_columns(weight, hessian_of(inputs), 48)
    large = inputs.clone()
    large[:, 7] *= 1e4
    lighter = weight.clone()
    lighter[:, 7] /= 1e4
    assert torch.equal(keep_columns(lighter, hessian_of(large), 48), plain)


def test_an_input_next_to_dead_goes_first_and_damps_no_other(weight: torch.Tensor) -> None:
    heard: list[Damped] = []
    kept = keep_columns(weight, hessian_of(INPUTS["next to dead"]()), WIDTH - 1, heard.append)
    assert 5 not in kept.tolist()
    assert heard[0].last == LEAST_RIDGE


@pytest.mark.parametrize("fault", ["the inverse", "its blocks"])
def test_an_inverse_spoiled_by_round_off_is_made_anew(
    fault: str, weight: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hessian = hessian_of(torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(0)))
    columns, groups = keep_columns(weight, hessian, 20), keep_groups(weight, hessian, 2, 16)
    real, calls = compensation._without, []

    def spoils(state: Any, gone: torch.Tensor) -> Any:
        after = real(state, gone)
        calls.append(len(state.names))
        if len(calls) in (1, 3) and after is not None:
            after.inverse.diagonal().mul_(-1.0) if fault == "the inverse" else after.inverse.mul_(torch.nan)
        return after

    monkeypatch.setattr(compensation, "_without", spoils)
    heard: list[Damped] = []
    assert torch.equal(keep_columns(weight, hessian, 20, heard.append), columns)
    calls.clear()
    assert torch.equal(keep_groups(weight, hessian, 2, 16, heard.append), groups)
    assert [damped.last for damped in heard] == [LEAST_RIDGE] * 2


def test_where_a_fresh_inverse_is_of_no_use_all_begins_again_under_a_larger_ridge(
    weight: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hessian = hessian_of(torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(0)))
    real = compensation._is_sound
    monkeypatch.setattr(compensation, "_is_sound", lambda state, ridge: ridge > 5e-4 and real(state, ridge))
    heard: list[Damped] = []
    assert len(keep_columns(weight, hessian, 20, heard.append)) == 20
    assert heard[0].last == pytest.approx(10 * LEAST_RIDGE)


def test_notes_say_how_far_for_how_many_and_what_had_no_data() -> None:
    dampings = Dampings(tokens=1500)
    assert dampings.notes() == ()
    for damped in (Damped(896, 1e-4, 1e-4, 0.02), Damped(4864, 1e-4, 1e-3, 0.31), Damped(4864, 1e-4, 1e-2, 0.4)):
        dampings.hear(damped)
    risen, few = dampings.notes()
    assert risen.startswith("2 of 3 calibration Hessians had no Cholesky factor at first")
    assert "from 0.0001 of the inputs' mean squares to 0.01 at most, and 31% to 40% of their directions" in risen
    assert few.startswith("the 1,500 calibration tokens are fewer than the 4,864 inputs of the widest weight")
    assert "at least 69% of its directions have no data" in few
    enough = Dampings(tokens=5000)
    enough.hear(Damped(4864, 0.01, 0.01, 0.5))
    assert enough.notes() == ()


@pytest.mark.parametrize(
    "step",
    [
        RemoveChannels(share=0.25), RemoveHeads(groups=1), GPTQ(bits=4, group_size=32), SparseGPT(sparsity=0.5),
        MixedWidths(bits=4.0, group_size=32, score="error"),
    ],
    ids=lambda step: step.name,
)  # fmt: skip
def test_fewer_tokens_than_inputs_are_enough_to_try_and_are_said(step: Step, save_llama: Any, tmp_path: Path) -> None:
    parent = save_llama(num_hidden_layers=2, intermediate_size=1024)
    pairs = [segment(f"Cat {number}.", f"Katze {number}.", id=str(number)) for number in range(8)]
    context = CompressionContext(
        pairs, PROMPTS["alma"], torch.device("cpu"), 0, store=tmp_path / "store", parent_key="wide"
    )
    (tmp_path / "out").mkdir()
    report = registry.compress(parent, tmp_path / "out", step, context)
    said = [note for note in report.notes if "calibration tokens are fewer than the 1,024 inputs" in note]
    # The output projections that heads are chosen by have 64 inputs, and data enough.
    assert len(said) == (0 if step.name == "remove_heads" else 1)
    with torch.inference_mode():
        assert load_model(tmp_path / "out", "cpu")(torch.tensor([[1, 40, 7, 90]])).logits.isfinite().all()
