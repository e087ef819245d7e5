"""The decoder on a GPU: `generate`'s tokens for every family, in float32 and bfloat16, captured or not."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from tests.support.tiny_models import SETTINGS, VOCABULARY, tiny_model
from workers.decoder.decode import Decoder
from workers.decoder.generate import generate
from workers.decoder.greedy import DecodeRequest

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
STOPS = tuple(range(2, VOCABULARY, 9))


def requests(count: int, seed: int = 0) -> list[DecodeRequest]:
    rng = random.Random(seed)
    return [
        DecodeRequest(tuple(rng.randrange(3, VOCABULARY) for _ in range(rng.randrange(1, 90))), rng.randrange(1, 40))
        for _ in range(count)
    ]


def one_by_one(model: object, asked: list[DecodeRequest], beams: int) -> list[list[int]]:
    answers = []
    for request in asked:
        done: dict[int, list[int]] = {}
        generate(model, [request], STOPS, 1, beams, done, lambda count: None)
        answers.append(done[0])
    return answers


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", SETTINGS)
def test_float32_is_generate_token_for_token(family: str, beams: int) -> None:
    model = tiny_model(family).cuda()
    asked = requests(24)
    assert Decoder(model, STOPS, 5, beams).decode(asked) == one_by_one(model, asked, beams)


@pytest.mark.parametrize("family", SETTINGS)
def test_bfloat16_is_generate_but_for_ties(family: str) -> None:
    model = tiny_model(family).cuda().bfloat16()
    asked = requests(40)
    ours, theirs = Decoder(model, STOPS, 16).decode(asked), one_by_one(model, asked, 1)
    # Near ties of random weights are many; a wrong kernel would leave next to nothing equal.
    assert sum(mine == other for mine, other in zip(ours, theirs, strict=True)) >= 28


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
def test_a_repetition_penalty_is_generates_token_for_token(family: str, beams: int) -> None:
    model = tiny_model(family, seed=2).cuda()
    asked = requests(24, seed=2)
    without = Decoder(model, STOPS, 5, beams).decode(asked)
    model.generation_config.repetition_penalty = 1.4
    decoder = Decoder(model, STOPS, 5, beams)
    assert decoder.unknown is None
    answers = decoder.decode(asked)
    assert answers == one_by_one(model, asked, beams) != without


def test_a_repetition_penalty_holds_where_no_graph_does() -> None:
    model = tiny_model("qwen3").cuda()
    model.generation_config.repetition_penalty = 1.4
    model.model.layers[1].mlp.down_proj = Counted(model.model.layers[1].mlp.down_proj)
    asked = requests(12)
    assert Decoder(model, STOPS, 4).decode(asked) == one_by_one(model, asked, 1)


def test_head_widths_that_are_no_power_of_two() -> None:
    model = tiny_model("llama", hidden_size=72, head_dim=24, num_attention_heads=3, num_key_value_heads=1).cuda()
    asked = requests(12)
    assert Decoder(model, STOPS, 4).decode(asked) == one_by_one(model, asked, 1)


class Counted(nn.Module):
    """A layer that asks the host for a number, which no CUDA graph can hold."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.out_features = linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * float(x.isfinite().all().item())


def test_layers_that_no_graph_can_hold_run_without_one() -> None:
    model = tiny_model("qwen3").cuda()
    model.model.layers[1].mlp.down_proj = Counted(model.model.layers[1].mlp.down_proj)
    asked = requests(12)
    assert Decoder(model, STOPS, 4).decode(asked) == one_by_one(model, asked, 1)


def test_a_pool_too_small_for_the_batch_admits_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama").cuda()
    asked = requests(20)
    expected = one_by_one(model, asked, 1)
    token_bytes = 3 * 2 * 2 * 16 * 4
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (300 * token_bytes, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    assert Decoder(model, STOPS, 16).decode(asked) == expected
