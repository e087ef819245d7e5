"""The output Fisher: squared gradients as autograd gives them, and the error they weigh, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import StudyError
from workers.calibration.fisher import OutputFisher, embeddings_error, fisher_error, output_fisher
from workers.calibration.sequences import Shown, batches
from workers.loading.load import load_model

SEQUENCES = [Shown((1, 40, 7, 90, 33, 5), 3), Shown((1, 12, 64, 8), 2)]


@pytest.fixture
def model(save_llama: Any) -> Any:
    folder: Path = save_llama(dtype=torch.float32, initializer_range=0.2)
    return load_model(folder, "cpu")


def nll(logits: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(())
    for row, sequence in enumerate(SEQUENCES):
        for position in range(sequence.target_start, len(sequence.ids)):
            total = total - logits[row, position - 1].log_softmax(-1)[sequence.ids[position]]
    return total


def test_outputs_are_mean_squared_gradients_of_the_target_tokens_loss(model: Any) -> None:
    [batch] = batches(SEQUENCES)
    found = output_fisher(model, [batch])
    up = model.model.layers[1].mlp.up_proj
    kept: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        kept.append(output.requires_grad_(True))
        output.retain_grad()

    up.register_forward_hook(keep)
    logits = model(batch.ids).logits
    logits.retain_grad()
    nll(logits).backward()
    assert kept[0].grad is not None
    tokens = 6 + 4
    assert found.tokens == tokens
    expected = kept[0].grad.square().sum(dim=(0, 1)) / tokens
    assert torch.allclose(found.outputs["1.mlp.up_proj.weight"], expected, rtol=1e-3)
    assert torch.allclose(found.head, logits.grad.square().sum(dim=(0, 1)) / tokens, rtol=1e-3, atol=1e-9)
    assert expected.max() > 1e-6
    assert len(found.outputs) == 3 * 7


def test_batches_add_up(model: Any) -> None:
    whole = output_fisher(model, batches(SEQUENCES))
    split = output_fisher(model, batches(SEQUENCES, batch_tokens=1))
    for name, sums in whole.outputs.items():
        assert torch.allclose(sums, split.outputs[name], rtol=1e-3), name
    for sums, other in ((whole.lookup, split.lookup), (whole.head_hessian, split.head_hessian)):
        assert torch.allclose(sums, other, rtol=1e-3, atol=1e-6)
    # Ten tokens; 1 begins both sequences, 40 stands in one.
    assert split.frequency.sum() == pytest.approx(1.0)
    assert split.frequency[1] == pytest.approx(0.2)
    assert split.frequency[40] == pytest.approx(0.1)


def test_the_weighted_error_as_worked_out_by_hand() -> None:
    change = torch.tensor([[1.0, -1.0], [2.0, 0.0]])
    hessian = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    # Row 1: 2 - 1 - 1 + 3 = 3. Row 2: 4 · 2 = 8.
    assert fisher_error(change, hessian, torch.tensor([10.0, 0.5])) == pytest.approx(10 * 3 + 0.5 * 8)


def test_a_tied_matrix_errs_as_lookup_and_as_head() -> None:
    fisher = OutputFisher(
        10,
        frequency=torch.tensor([0.5, 0.25]),
        lookup=torch.tensor([3.0, 1.0]),
        head=torch.tensor([10.0, 0.5]),
        head_hessian=torch.tensor([[2.0, 1.0], [1.0, 3.0]]),
    )
    change = torch.tensor([[1.0, -1.0], [2.0, 0.0]])
    # Lookup: 0.5 · (3 + 1) + 0.25 · (4 · 3) = 5.
    assert embeddings_error(change, fisher, "lookup") == pytest.approx(5.0)
    assert embeddings_error(change, fisher, "head") == pytest.approx(34.0)
    assert embeddings_error(change, fisher, "tied") == pytest.approx(39.0)


def test_no_target_token_is_refused(model: Any) -> None:
    with pytest.raises(StudyError, match="no target token"):
        output_fisher(model, batches([Shown((1, 5, 6), 3)]))


def test_a_loss_that_is_not_finite_is_named(model: Any) -> None:
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        output_fisher(model, batches(SEQUENCES))
