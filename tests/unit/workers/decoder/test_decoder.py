"""The decoder against `generate`: the same tokens for every family, whatever the batch, beams and limits."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.tiny_models import SETTINGS, VOCABULARY, tiny_model
from workers.decoder.decode import Decoder
from workers.decoder.engines.dense import best_tokens
from workers.decoder.greedy import DecodeRequest

STOPS = tuple(range(2, VOCABULARY, 9))


def requests(count: int, seed: int = 0, limit: int = 14) -> list[DecodeRequest]:
    rng = random.Random(seed)
    return [
        DecodeRequest(tuple(rng.randrange(3, VOCABULARY) for _ in range(rng.randrange(1, 24))), limit)
        for _ in range(count)
    ]


def by_generate(model: Any, asked: list[DecodeRequest], stops: tuple[int, ...], beams: int = 1) -> list[list[int]]:
    """One request at a time: nothing is padded."""
    answers = []
    for request in asked:
        with torch.inference_mode():
            output = model.generate(
                torch.tensor([request.ids]), max_new_tokens=request.limit, do_sample=False, num_beams=beams,
                eos_token_id=list(stops) or None, pad_token_id=0,
            )  # fmt: skip
        tokens = output[0, len(request.ids) :].tolist()
        end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens) - 1)
        answers.append(tokens[: end + 1])
    return answers


@pytest.mark.parametrize("family", SETTINGS)
def test_greedy_is_generate_token_for_token(family: str) -> None:
    model = tiny_model(family)
    asked = requests(20)
    expected = by_generate(model, asked, STOPS)
    assert Decoder(model, STOPS, 4).decode(asked) == expected
    assert len({len(tokens) for tokens in expected}) > 1, "the sequences should end at different places"


@pytest.mark.parametrize("family", SETTINGS)
def test_beam_search_is_generate_token_for_token(family: str) -> None:
    model = tiny_model(family, seed=1)
    asked = requests(6, seed=1, limit=10)
    assert Decoder(model, STOPS, 2, beams=3).decode(asked) == by_generate(model, asked, STOPS, beams=3)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_changes_nothing(batch: int) -> None:
    model = tiny_model("llama", seed=2)
    asked = requests(11, seed=2)
    assert Decoder(model, STOPS, batch).decode(asked) == by_generate(model, asked, STOPS)


def test_each_request_has_its_own_limit_and_none_stops_without_stop_tokens() -> None:
    model = tiny_model("llama")
    rng = random.Random(3)
    asked = [DecodeRequest(request.ids, rng.randrange(1, 20)) for request in requests(12)]
    answers = Decoder(model, (), 4).decode(asked)
    assert [len(tokens) for tokens in answers] == [request.limit for request in asked]


def test_a_decoder_takes_one_list_after_another_longer_ones_too() -> None:
    model = tiny_model("qwen3")
    decoder = Decoder(model, STOPS, 4)
    for asked in (requests(3, limit=4), requests(7, seed=5, limit=30), requests(2, seed=6)):
        assert decoder.decode(asked) == by_generate(model, asked, STOPS)


def test_a_sequence_ends_at_a_line_end_once_it_holds_something() -> None:
    model = tiny_model("llama")
    asked = requests(12, limit=14)
    whole = by_generate(model, asked, ())
    ends = frozenset(range(0, VOCABULARY, 7))
    answers = Decoder(model, (), 4, line_ends=ends).decode(asked)
    for tokens, complete in zip(answers, whole, strict=True):
        assert complete[: len(tokens)] == tokens
        inside = [token in ends for token in tokens]
        assert len(tokens) == 14 or (inside[-1] and not all(inside))
        assert not any(end and not all(inside[:place]) for place, end in enumerate(inside[:-1]))
    assert any(len(tokens) < 14 for tokens in answers)


@pytest.mark.parametrize("family", SETTINGS)
@pytest.mark.parametrize("beams", [1, 2])
def test_beginnings_that_prompts_share_are_read_once_and_change_nothing(family: str, beams: int) -> None:
    model = tiny_model(family, seed=4)
    beginnings = [tuple(range(5, 15)), (*range(40, 43),), ()]
    asked = [
        DecodeRequest((*beginnings[place % 3], *one.ids), one.limit, len(beginnings[place % 3]))
        for place, one in enumerate(requests(9, seed=4, limit=8))
    ]
    # One that is nothing but its beginning: its last token is read all the same.
    asked.append(DecodeRequest(beginnings[0], 8, len(beginnings[0])))
    assert Decoder(model, STOPS, 4, beams).decode(asked) == by_generate(model, asked, STOPS, beams)


@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 5), (3, 128), (64, 8000), (7, 1000)])
def test_the_best_token_is_the_first_highest(rows: int, vocabulary: int) -> None:
    torch.manual_seed(rows)
    scores = torch.randint(0, 50, (rows, vocabulary)).float()
    for given in (scores, scores.t().contiguous().t()):
        assert torch.equal(best_tokens(given), scores.argmax(dim=-1))


def test_progress_counts_every_request_once() -> None:
    told: list[int] = []
    Decoder(tiny_model("llama"), STOPS, 4).decode(requests(9), told.append)
    assert told == list(range(1, 10))


def test_reading_a_model_for_the_decoder_leaves_it_as_it_was() -> None:
    model = tiny_model("qwen2")
    ids = torch.tensor([[7, 8, 9, 10]])
    with torch.no_grad():
        before = model(ids).logits
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    Decoder(model, STOPS, 4).decode(requests(3))
    with torch.no_grad():
        assert torch.equal(model(ids).logits, before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_uniformly_fewer_heads_and_channels_decode_alike() -> None:
    model = tiny_model("llama", num_attention_heads=2, num_key_value_heads=2, intermediate_size=24, num_hidden_layers=1)
    asked = requests(6)
    assert Decoder(model, STOPS, 4).decode(asked) == by_generate(model, asked, STOPS)


class Halved(nn.Module):
    """A linear layer of a kind that the decoder has not met."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.out_features = linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * 0.5


def test_layers_of_other_kinds_are_called_as_they_are() -> None:
    model = tiny_model("llama")
    for layer in model.model.layers:
        layer.self_attn.v_proj = Halved(layer.self_attn.v_proj)
        layer.mlp.down_proj = Halved(layer.mlp.down_proj)
    model.model.layers[0].self_attn.o_proj.register_forward_hook(lambda module, inputs, output: output + 0.125)
    asked = requests(8)
    assert Decoder(model, STOPS, 4).decode(asked) == by_generate(model, asked, STOPS)


def test_an_unknown_architecture_goes_through_generate_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model("gpt_neox")
    asked = requests(7)
    decoder = Decoder(model, STOPS, 3)
    assert "GPTNeoXForCausalLM" in caplog.text
    assert decoder.decode(asked) == by_generate(model, asked, STOPS)


def test_an_architectures_name_on_code_of_its_own_goes_through_generate() -> None:
    model = tiny_model("llama")
    model.__class__ = type("LlamaForCausalLM", (type(model),), {})
    assert "its own code" in str(Decoder(model, STOPS, 3).unknown)


def test_a_growing_rotary_embedding_is_left_to_generate() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    decoder = Decoder(tiny_model("llama", rope_parameters=rope), STOPS, 4)
    assert decoder.unknown is not None
    assert "dynamic" in decoder.unknown


@pytest.mark.parametrize("rope_type", ["linear", "llama3"])
def test_scaled_rotary_embeddings_decode_alike(rope_type: str) -> None:
    rope = {
        "rope_type": rope_type, "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }  # fmt: skip
    model = tiny_model("llama", rope_parameters=rope)
    asked = requests(6, limit=30)
    assert Decoder(model, STOPS, 4).decode(asked) == by_generate(model, asked, STOPS)
