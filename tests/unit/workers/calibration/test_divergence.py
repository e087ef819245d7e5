"""Divergence: zero from the model itself, the definition elsewhere, and only target tokens counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import StudyError
from tests.support.examples import segment
from workers.calibration import divergence, layer_inputs
from workers.calibration.divergence import Divergence, measuring_batches, target_logits
from workers.calibration.pair_parts import parts
from workers.calibration.sequences import Batch, Shown, batches
from workers.compression.pruning.layer_search import bypass_layers
from workers.loading.load import load_model, load_tokenizer
from workers.plan.compression_context import CompressionContext
from workers.translation.prompts import PROMPTS

PAIRS = [segment(f"Source {n}.", f"Quelle {n}!", langs=langs) for n in range(40) for langs in ("en-de", "en-cs")]
CONTEXT = CompressionContext(PAIRS, PROMPTS["alma"], torch.device("cpu"), 0)


@pytest.fixture(scope="module")
def folder(save_llama: Any) -> Path:
    saved: Path = save_llama(dtype=torch.float32, initializer_range=0.2)
    return saved


@pytest.fixture
def model(folder: Path) -> Any:
    return load_model(folder, "cpu")


@pytest.fixture
def shown(folder: Path) -> list[Batch]:
    return measuring_batches(load_tokenizer(folder), CONTEXT, tokens=600)


def disturb(model: Any) -> None:
    with torch.no_grad():
        torch.manual_seed(1)
        weight = model.model.layers[1].mlp.down_proj.weight
        weight += 0.1 * torch.randn_like(weight)


def test_a_model_does_not_diverge_from_itself(model: Any, shown: list[Batch]) -> None:
    assert abs(Divergence(model, shown).of(model)) < 1e-7


def test_a_reference_kept_as_float16_is_exact_enough(
    model: Any, shown: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = Divergence(model, shown)
    monkeypatch.setattr(divergence, "FLOAT32_BYTES", 0)
    half = Divergence(model, shown)
    assert abs(half.of(model)) < 1e-5
    disturb(model)
    assert half.of(model) == pytest.approx(exact.of(model), rel=1e-3)


def test_divergence_is_the_mean_kl_over_target_tokens(model: Any) -> None:
    sequences = [Shown((1, 40, 7, 90, 33, 5), 3), Shown((1, 12, 64, 8), 2)]
    shown = batches(sequences)
    measured = Divergence(model, shown)
    with torch.no_grad():
        before = [model(torch.tensor([sequence.ids])).logits.double() for sequence in sequences]
    disturb(model)
    total = 0.0
    for sequence, reference in zip(sequences, before, strict=True):
        found = model(torch.tensor([sequence.ids])).logits.detach().double()
        # The token at position t is predicted at t - 1.
        for position in range(sequence.target_start - 1, len(sequence.ids) - 1):
            p = reference[0, position].softmax(-1)
            total += float((p * (p.log() - found[0, position].log_softmax(-1))).sum())
    assert measured.tokens == 3 + 2
    assert measured.of(model) == pytest.approx(total / 5, rel=1e-5)
    assert total > 0.01


def test_logits_are_those_of_the_whole_model_at_target_positions(model: Any) -> None:
    batch = batches([Shown((1, 40, 7, 90, 33, 5), 4), Shown((1, 12, 64, 8), 2)])[0]
    whole = model(batch.ids, attention_mask=batch.mask).logits
    expected = torch.stack([whole[0, 3], whole[0, 4], whole[1, 1], whole[1, 2]])
    assert torch.allclose(target_logits(model, batch), expected, atol=1e-5)
    # The hook that selects positions is gone again.
    assert model(batch.ids).logits.shape == (2, 6, whole.shape[-1])


def test_measuring_pairs_are_those_that_statistics_leave_out(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    texts = [tokenizer.decode(row) for batch in measuring_batches(tokenizer, CONTEXT) for row in batch.ids]
    statistics, measuring = parts(PAIRS, CONTEXT.seed)
    assert len(texts) == len(measuring) == 10
    assert not any(f" {pair.source}" in text for pair in statistics for text in texts)


def test_too_few_pairs_are_refused(folder: Path) -> None:
    few = CompressionContext(PAIRS[:2], PROMPTS["alma"], torch.device("cpu"), 0)
    with pytest.raises(StudyError, match="too few to leave some out"):
        measuring_batches(load_tokenizer(folder), few)


def test_a_model_that_overflows_is_named(model: Any, shown: list[Batch]) -> None:
    measured = Divergence(model, shown)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        measured.of(model)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_run_that_skips_layers_that_did_not_change_ends_in_the_same_numbers(
    model: Any, shown: list[Batch], first: int
) -> None:
    measured = Divergence(model, shown)
    measured.remember(model)
    with torch.no_grad():
        model.model.layers[first].mlp.up_proj.weight.mul_(1.2)
        model.model.layers[2].mlp.down_proj.weight.mul_(0.9)
    whole = measured.of(model)
    assert layers_that_ran(model, lambda: measured.of(model, first)) == list(range(first, 3)) * len(shown)
    assert measured.of(model, first) == whole > 0
    assert not any("forward" in vars(layer) for layer in model.model.layers)


@pytest.mark.parametrize("gone", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
def test_layers_of_a_remembered_model_that_are_left_out_hand_on_what_enters_them(
    model: Any, shown: list[Batch], gone: tuple[int, ...]
) -> None:
    measured = Divergence(model, shown)
    assert measured.remember(model)
    with bypass_layers([model.model.layers[layer] for layer in gone]):
        bypassed = measured.of(model)
    stay = [layer for layer in range(gone[0], 3) if layer not in gone]
    assert layers_that_ran(model, lambda: measured.of(model, gone[0], gone)) == stay * len(shown)
    assert measured.of(model, gone[0], gone) == bypassed > 0
    if torch.cuda.is_available():
        model.cuda()
        on_gpu = Divergence(model, shown)
        assert on_gpu.remember(model)
        assert on_gpu.of(model, gone[0], gone) == pytest.approx(bypassed, rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("first", [0, 1, 2])
def test_on_a_gpu_layers_run_as_graphs_and_end_in_the_same_numbers(
    folder: Path, shown: list[Batch], first: int
) -> None:
    model = load_model(folder)
    measured, plain = Divergence(model, shown), Divergence(model, shown)
    measured.remember(model)
    with torch.no_grad():
        model.model.layers[first].mlp.up_proj.weight.mul_(1.2)
        model.model.layers[2].mlp.down_proj.weight.mul_(0.9)
    assert layers_that_ran(model, lambda: measured.of(model, first)) == []
    assert measured.of(model, first) == plain.of(model) > 0
    measured.remember(model)
    assert measured.of(model, 2) == plain.of(model)


def test_where_memory_is_short_all_layers_run(model: Any, shown: list[Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_inputs, "MOST_BYTES", 10)
    measured = Divergence(model, shown)
    measured.remember(model)
    assert layers_that_ran(model, lambda: measured.of(model, 2)) == [0, 1, 2] * len(shown)


def test_where_a_later_layer_needs_what_an_earlier_one_left_all_layers_run(model: Any, shown: list[Batch]) -> None:
    left: list[torch.Tensor] = []

    def leave(module: Any, given: Any, output: torch.Tensor) -> None:
        left[:] = [output.mean(dim=1, keepdim=True)]

    handles = [
        model.model.layers[0].register_forward_hook(leave),
        model.model.layers[2].register_forward_hook(lambda module, given, output: output + left[0]),
    ]
    measured = Divergence(model, shown)
    measured.remember(model)
    assert layers_that_ran(model, lambda: measured.of(model, 2)) == [0, 1, 2] * len(shown)
    assert abs(measured.of(model, 2)) < 1e-7
    for handle in handles:
        handle.remove()


def layers_that_ran(model: Any, run: Callable[[], object]) -> list[int]:
    """The layers whose attention a run runs, in their order."""
    ran: list[int] = []
    handles = [
        layer.self_attn.register_forward_hook(lambda module, given, output, index=index: ran.append(index))
        for index, layer in enumerate(model.model.layers)
    ]
    run()
    for handle in handles:
        handle.remove()
    return ran
