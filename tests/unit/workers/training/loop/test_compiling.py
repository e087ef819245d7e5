"""Compiled decoder layers: the losses and gradients of plain ones, one graph for all of them and for all shapes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo import config as dynamo_config
from torch._dynamo.utils import counters

from search_spaces.methods.trainers import Distill, Recover
from tests.support.tiny_models import VOCABULARY, tiny_model
from tests.support.tiny_training import batch_of, tiny_pairs, tiny_task, weights
from workers.training.loop.compiling import compile_layers, worth_compiling
from workers.training.loop.learner import Learner
from workers.training.loop.one_device import train
from workers.training.model_forms.fake_quantization import FrozenPackedLinear
from workers.training.model_forms.lora import add_adapters
from workers.training.teachers.teacher import LiveTeacher

Gradients = dict[str, torch.Tensor]
# Two sequences of 8 tokens, as many as a head has dimensions; others of other numbers; one alone.
SHAPES = ((2, 8), (3, 5), (5, 5), (4, 9), (1, 6))
TORCH_COMPILE = torch.compile


def batches() -> list[Any]:
    draw = torch.Generator().manual_seed(4)
    return [
        batch_of(*((torch.randint(3, VOCABULARY, (tokens,), generator=draw).tolist(), 2) for _ in range(sequences)))
        for sequences, tokens in SHAPES
    ]


def answers(learner: Learner) -> list[tuple[float, Gradients]]:
    """Loss and gradients of each batch."""
    found = []
    for batch in batches():
        learner.zero_grad()
        torch.manual_seed(6)
        total = learner(batch).sum
        total.backward()
        named = learner.named_parameters()
        found.append((total.item(), {name: one.grad.clone() for name, one in named if one.grad is not None}))
    return found


def same(found: list[tuple[float, Gradients]], expected: list[tuple[float, Gradients]]) -> None:
    for (loss, gradients), (wanted, wanted_gradients) in zip(found, expected, strict=True):
        assert loss == pytest.approx(wanted, rel=1e-4)
        assert gradients.keys() == wanted_gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, wanted_gradients[name], rtol=1e-3, atol=1e-4, msg=name)


def recovering(family: str = "llama", **changes: Any) -> Learner:
    step = Recover(**{"dropout": 0.0, "rank": 4, "loss": "references", **changes})
    model, _ = add_adapters(tiny_model(family, seed=1), step, 0)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    return Learner(model, step, None).train()


def matching_hidden_states() -> Learner:
    teacher = LiveTeacher(tiny_model("llama"))
    return Learner(tiny_model("llama", seed=1), Distill(loss="forward_kl", hidden=0.5), teacher).train()


def recomputing() -> Learner:
    learner = recovering()
    learner.enable_checkpointing()
    return learner


@pytest.fixture
def graphs() -> Iterator[Callable[[], int]]:
    """How many graphs were made in this test; a second one for the same layers is an error."""
    torch.compiler.reset()
    counters.clear()
    with dynamo_config.patch(error_on_recompile=True):
        yield lambda: int(counters["stats"]["unique_graphs"])
    assert not counters["graph_break"]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are made, forward and backward, and run without Inductor's code, which takes long to make."""
    monkeypatch.setattr(torch, "compile", partial(TORCH_COMPILE, backend="aot_eager"))


class TinyLayer(nn.Module):
    """A norm, a product and a sum: what Inductor has code for in seconds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.product = nn.Linear(width, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.product(self.norm(states))
        return states + added


def test_inductors_code_serves_all_layers_and_shapes(graphs: Callable[[], int]) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(TinyLayer(8), TinyLayer(8))
    asked = [torch.randn(*shape, 8) for shape in SHAPES]
    for states in asked:
        layers(states).square().sum().backward()
    expected = [weight.grad.clone() for weight in layers.parameters() if weight.grad is not None]
    layers.zero_grad()
    with compile_layers(layers):
        for states in asked:
            layers(states).square().sum().backward()
    assert graphs() == 1
    for weight, gradient in zip(layers.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [partial(recovering, "mistral"), matching_hidden_states, recomputing])
def test_one_graph_serves_whatever_is_trained(
    make: Callable[[], Learner], traced: None, graphs: Callable[[], int]
) -> None:
    learner = make()
    expected = answers(learner)
    with compile_layers(learner.decoder_layers):
        found = answers(learner)
    assert graphs() == 1
    same(found, expected)


def test_dora_is_trained_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    learner = recovering(adapter="dora")
    expected = answers(learner)
    with compile_layers(learner.decoder_layers), caplog.at_level(logging.WARNING):
        found = answers(learner)
    same(found, expected)
    assert "training goes on uncompiled: Unsupported" in caplog.text


def test_layers_are_as_they_were_afterwards_and_without_gradients(traced: None, graphs: Callable[[], int]) -> None:
    learner = recovering()
    names = list(learner.state_dict())
    with compile_layers(learner.decoder_layers):
        assert list(learner.state_dict()) == names
        with torch.no_grad():
            learner(batches()[0])
        assert graphs() == 0
    assert not any("forward" in vars(layer) for layer in learner.decoder_layers)


@pytest.mark.parametrize("backward", [False, True])
def test_what_cannot_be_compiled_is_trained_as_it_is(
    backward: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torch._dynamo.backends.common import aot_autograd

    tried: list[int] = []

    def refuse(graph: Any, inputs: Any) -> Any:
        tried.append(1)
        raise RuntimeError("Failed to find C compiler")

    backend = aot_autograd(fw_compiler=lambda graph, inputs: graph.forward, bw_compiler=refuse) if backward else refuse
    monkeypatch.setattr(torch, "compile", partial(TORCH_COMPILE, backend=backend))
    learner = recovering()
    expected = answers(learner)
    with compile_layers(learner.decoder_layers), caplog.at_level(logging.WARNING):
        found = answers(learner)
    same(found, expected)
    assert tried == [1]
    (record,) = caplog.records
    assert "training goes on uncompiled" in record.getMessage() and "C compiler" in record.getMessage()


def test_out_of_memory_while_compiling_is_the_trainings_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(graph: Any, inputs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", partial(TORCH_COMPILE, backend=refuse))
    learner = recovering()
    with compile_layers(learner.decoder_layers), pytest.raises(RuntimeError, match="out of memory"):
        answers(learner)


def test_a_training_ends_as_it_would_uncompiled(tmp_path: Path, traced: None, graphs: Callable[[], int]) -> None:
    pairs = tiny_pairs(tmp_path)
    ends = []
    for compile in (False, True):
        learner = recovering()
        task = tiny_task(learner, pairs, tmp_path / str(compile), tokens=800, batch=8, compile=compile)
        assert train(task).steps > 2
        ends.append({name: one for name, one in weights(learner).items() if "lora_" in name})
    assert graphs() == 1
    for name, end in ends[1].items():
        torch.testing.assert_close(end, ends[0][name], rtol=1e-3, atol=1e-4, msg=name)


def test_large_models_and_long_trainings_on_a_gpu_are_worth_it() -> None:
    def layers(count: int = 32, width: int = 8192) -> list[nn.Module]:
        return [nn.Sequential(nn.Linear(width, width, device="meta")) for _ in range(count)]

    gpu = torch.device("cuda")
    assert worth_compiling(layers(), 20_000_000, gpu)
    assert not worth_compiling(layers(), 20_000_000, torch.device("cpu"))
    assert not worth_compiling(layers(), 1_000_000, gpu)
    assert not worth_compiling(layers(width=256), 10**12, gpu)
    assert not worth_compiling([*layers(), *layers(1, 4096), *layers(1, 2048)], 20_000_000, gpu)
    packed = nn.Module()
    packed.product = FrozenPackedLinear.__new__(FrozenPackedLinear)
    nn.Module.__init__(packed.product)
    assert not worth_compiling([*layers(), packed], 20_000_000, gpu)
