"""What a generation config asks: the decoder does it as `generate` does, or leaves it to `generate`, never between."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from search_spaces.errors import StudyError
from tests.support.tiny_models import tiny_model
from tests.unit.workers.decoder.test_decoder import STOPS, by_generate, requests
from workers.decoder.decode import Decoder
from workers.decoder.engines.repetition import Repetition
from workers.decoder.greedy import DecodeRequest
from workers.decoder.settings import DONE, LEFT, LEFT_WITH_BEAMS, WITHOUT_EFFECT, settings_of, why_left

# Each with a value that changes, or may change, what comes out.
SET: dict[str, Any] = {
    "encoder_repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "encoder_no_repeat_ngram_size": 2, "min_length": 12,
    "min_new_tokens": 6, "bad_words_ids": [[5], [6, 7]], "sequence_bias": [[[9], -4.0]], "suppress_tokens": [4, 11],
    "begin_suppress_tokens": [2], "forced_bos_token_id": 8, "forced_eos_token_id": 2,
    "exponential_decay_length_penalty": (3, 1.5), "remove_invalid_values": True, "renormalize_logits": True,
}  # fmt: skip


@pytest.mark.parametrize("penalty", [1.1, 1.8, 0.6])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_repetition_penalty_is_generates_token_for_token(penalty: float, beams: int) -> None:
    model = tiny_model("qwen2", seed=5)
    asked = requests(8, seed=5, limit=16)
    without = Decoder(model, STOPS, 3, beams).decode(asked)
    model.generation_config.repetition_penalty = penalty
    decoder = Decoder(model, STOPS, 3, beams)
    assert decoder.unknown is None
    answers = decoder.decode(asked)
    assert answers == by_generate(model, asked, STOPS, beams)
    assert answers != without, "the penalty should change something"


@pytest.mark.parametrize("beams", [1, 2])
def test_a_penalty_holds_with_shared_beginnings_caps_and_a_second_list(beams: int) -> None:
    model = tiny_model("gemma2", seed=6)
    model.generation_config.repetition_penalty = 1.3
    beginning = tuple(range(5, 15))
    asked = [DecodeRequest((*beginning, *one.ids), one.limit, len(beginning)) for one in requests(9, seed=6, limit=8)]
    decoder = Decoder(model, STOPS, 4, beams)
    assert decoder.decode(asked) == by_generate(model, asked, STOPS, beams)
    longer = requests(7, seed=7, limit=30)
    assert decoder.decode(longer) == by_generate(model, longer, STOPS, beams)


def test_a_penalty_holds_in_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.decoder.streams.LEAST_SLOTS", 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    model = tiny_model("llama", seed=8)
    model.generation_config.repetition_penalty = 1.2
    asked = requests(20, seed=8)
    assert Decoder(model, STOPS, 8).decode(asked) == by_generate(model, asked, STOPS)


def test_a_held_token_is_lowered_once_whatever_its_sign() -> None:
    repetition = Repetition(2.0, slots=3, room=4, device=torch.device("cpu"))
    slots = torch.tensor([2, 0])
    repetition.begin(slots, [[1, 1], [3]])
    repetition.add(slots, torch.tensor([2, 1]), torch.tensor([4, 0]))
    scores = torch.tensor([[-1.0, 2.0, 3.0, 4.0, -5.0], [1.0, 2.0, 3.0, -4.0, 5.0]])
    expected = [[-1.0, 1.0, 3.0, 4.0, -10.0], [0.5, 2.0, 3.0, -8.0, 5.0]]
    assert repetition.lower(scores.clone(), slots).tolist() == expected
    repetition.copy(torch.tensor([2, 0]), torch.tensor([0, 2]))
    assert repetition.lower(scores.flip(0), slots).tolist() == expected[::-1]
    # What a slot held before is forgotten.
    repetition.begin(torch.tensor([0]), [[2]])
    assert repetition.lower(torch.ones((1, 5)), torch.tensor([0])).tolist() == [[1.0, 1.0, 0.5, 1.0, 1.0]]


@pytest.mark.parametrize("penalty", [2, -1.5, 0.0, "1.1"])
def test_a_penalty_that_generate_refuses_is_refused_with_the_way_out(penalty: object) -> None:
    model = tiny_model("llama")
    model.generation_config.repetition_penalty = penalty
    with pytest.raises(StudyError, match=r"repetition_penalty is .*, and must be a float above 0 .*generation_config"):
        Decoder(model, STOPS, 4)


@pytest.mark.parametrize("setting", SET)
def test_other_settings_that_change_the_output_are_left_to_generate_which_pads_nothing_where_it_counts(
    setting: str,
) -> None:
    model = tiny_model("llama", seed=3)
    setattr(model.generation_config, setting, SET[setting])
    asked = requests(6, seed=3, limit=9)
    decoder = Decoder(model, STOPS, 4)
    assert setting in str(decoder.unknown)
    assert decoder.decode(asked) == by_generate(model, asked, STOPS)


def test_a_penalty_beside_what_is_left_to_generate_sees_no_padding() -> None:
    model = tiny_model("llama", seed=3)
    model.generation_config.repetition_penalty = 1.7
    model.generation_config.renormalize_logits = True
    asked = requests(12, seed=3, limit=9)
    assert Decoder(model, STOPS, 4).decode(asked) == by_generate(model, asked, STOPS)


def test_every_setting_that_transformers_has_is_in_one_table() -> None:
    tables = [WITHOUT_EFFECT, DONE, set(LEFT), set(LEFT_WITH_BEAMS)]
    names = settings_of(GenerationConfig())
    assert [name for name in names if sum(name in table for table in tables) != 1] == []
    assert set().union(*tables) <= set(names)


def test_one_that_a_newer_transformers_adds_is_left_to_generate_where_it_is_set() -> None:
    class Newer(GenerationConfig):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.new_penalty = settings.get("new_penalty")

    assert why_left(Newer(), 1) is None
    assert why_left(Newer(new_penalty=0.5), 1) == "its generation config sets new_penalty=0.5"


def test_what_only_beam_search_or_sampling_looks_at_is_left_alone_where_it_is_not_looked_at() -> None:
    config = GenerationConfig(
        do_sample=True, temperature=0.6, top_k=20, top_p=0.95, min_p=0.1, cache_implementation="hybrid",
        length_penalty=0.8, early_stopping=True, max_length=20, eos_token_id=[2, 3], pad_token_id=0,
    )  # fmt: skip
    config.chat_format = "chatml"
    assert why_left(config, 1) is None
    assert why_left(config, 4) == "its generation config sets early_stopping=True"
    config.early_stopping = False
    assert why_left(config, 4) == "its generation config sets length_penalty=0.8"
    config.cache_implementation = "quantized"
    assert why_left(config, 1) == "its generation config sets cache_implementation='quantized'"


@pytest.mark.parametrize("setting", [("length_penalty", 0.2), ("early_stopping", True)])
def test_beam_settings_come_out_as_generate_has_them(setting: tuple[str, Any]) -> None:
    model = tiny_model("llama", seed=1)
    setattr(model.generation_config, *setting)
    asked = requests(6, seed=1, limit=10)
    assert Decoder(model, STOPS, 4, beams=3).decode(asked) == by_generate(model, asked, STOPS, beams=3)


def test_sampling_settings_and_several_answers_asked_for_change_nothing() -> None:
    model = tiny_model("llama")
    asked = requests(5)
    expected = by_generate(model, asked, STOPS)
    for name, value in {"do_sample": True, "temperature": 0.3, "top_k": 5, "num_return_sequences": 1}.items():
        setattr(model.generation_config, name, value)
    assert Decoder(model, STOPS, 4).decode(asked) == expected
