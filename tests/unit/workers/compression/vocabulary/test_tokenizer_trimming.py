"""Trimming a tokenizer, worked out by hand: merges, the choice of tokens, and ids wherever they stand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from search_spaces.errors import CandidateError, ModelFilesError
from workers.compression.vocabulary.choice import choose
from workers.compression.vocabulary.token_ids import (
    ids_with_a_role,
    renumbered_added_tokens,
    renumbered_config,
    renumbered_tokenizer_config,
)
from workers.compression.vocabulary.tokenizer_model import BYTES, derivation, read_token_model
from workers.compression.vocabulary.tokenizer_trimming import ids_with_a_place, in_the_form_of, trimmed_tokenizer

VOCABULARY = {"<s>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "bc": 5, "abc": 6, "cab": 7, "whole": 8}
SPEC: dict[str, Any] = {
    "added_tokens": [{"id": 0, "content": "<s>"}, {"id": 9, "content": "<pad>"}],
    "normalizer": None,
    "pre_tokenizer": None,
    "padding": {"pad_id": 9, "pad_token": "<pad>"},
    "post_processor": {
        "type": "Sequence",
        "processors": [
            {"type": "ByteLevel"},
            {"type": "TemplateProcessing", "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
            {"type": "RobertaProcessing", "sep": ["<pad>", 9], "cls": ["<s>", 0]},
        ],
    },
    "model": {"type": "BPE", "vocab": VOCABULARY, "merges": [["a", "b"], "b c", ["ab", "c"], ["c", "ab"]]},
}
RANKS = {("a", "b"): 0, ("b", "c"): 1, ("ab", "c"): 2, ("c", "ab"): 3}


def test_a_token_is_derived_as_its_merges_make_it() -> None:
    # In abc the pair (a, b) has the lower rank, so bc is never made.
    assert derivation("abc", RANKS, VOCABULARY) == {"a", "b", "c", "ab", "abc"}
    assert derivation("bc", RANKS, VOCABULARY) == {"b", "c", "bc"}
    assert derivation("whole", RANKS, VOCABULARY) == {"whole"}
    assert derivation("ba", RANKS, VOCABULARY) == {"ba"}


def test_the_general_tokens_are_those_merged_first() -> None:
    model = read_token_model(SPEC)
    assert model.by_generality == ("ab", "bc", "abc", "cab", "<s>", "a", "b", "c", "whole")
    assert model.alphabet == {"a", "b", "c"}


def test_the_most_used_tokens_stay_with_what_they_are_merged_from() -> None:
    model = read_token_model(SPEC)
    least = {"<s>", "<pad>", "a", "b", "c"}
    weights = {"cab": 0.5, "bc": 0.3, "abc": 0.1}
    # cab needs ab as well: with one row to spare it gives way to bc.
    assert choose(model, ["<s>", "<pad>"], [], weights, 6) == least | {"bc"}
    assert choose(model, ["<s>", "<pad>"], [], weights, 7) == least | {"ab", "cab"}
    assert choose(model, ["<s>", "<pad>"], [], weights, 8) == least | {"ab", "cab", "bc"}
    # A row without a token counts, and what is required comes before what is used.
    assert choose(model, ["<s>", "<pad>"], ["abc"], weights, 8, bare=1) == least | {"ab", "abc"}
    # Without any use, the order of merges decides.
    assert choose(model, ["<s>", "<pad>"], [], {}, 6) == least | {"ab"}


@pytest.mark.parametrize(("size", "said"), [(4, "keep at least 5"), (6, "")])
def test_too_few_tokens_are_refused_with_the_least_possible(size: int, said: str) -> None:
    model = read_token_model(SPEC)
    if said:
        with pytest.raises(CandidateError, match=said):
            choose(model, ["<s>", "<pad>"], [], {}, size)
    else:
        assert len(choose(model, ["<s>", "<pad>"], [], {}, size)) == size


def test_more_tokens_than_there_are_is_refused() -> None:
    with pytest.raises(CandidateError, match="more than the 10 rows that name a token"):
        choose(read_token_model(SPEC), ["<s>", "<pad>"], [], {}, 11)


def test_merges_stay_where_parts_and_result_do_and_every_id_is_renumbered() -> None:
    kept = {"<s>": 0, "a": 1, "b": 2, "c": 3, "bc": 4, "abc": 5, "<pad>": 6}
    new_ids = {0: 0, 1: 1, 2: 2, 3: 3, 5: 4, 6: 5, 9: 6}
    before = json.dumps(SPEC)
    trimmed = trimmed_tokenizer(SPEC, new_ids)
    assert trimmed["model"]["vocab"] == {token: number for token, number in kept.items() if token != "<pad>"}
    assert trimmed["model"]["merges"] == ["b c"]
    assert [(token["content"], token["id"]) for token in trimmed["added_tokens"]] == [("<s>", 0), ("<pad>", 6)]
    assert trimmed["padding"]["pad_id"] == 6
    _, template, roberta = trimmed["post_processor"]["processors"]
    assert template["special_tokens"]["<s>"]["ids"] == [0]
    assert (roberta["sep"], roberta["cls"]) == (["<pad>", 6], ["<s>", 0])
    assert json.dumps(SPEC) == before


def test_ids_that_the_tokenizer_places_itself_are_found() -> None:
    unigram = {"type": "Unigram", "vocab": [["x", 0.0], ["<unk>", 0.0]], "unk_id": 1}
    assert ids_with_a_place(SPEC) == {0, 9}
    assert ids_with_a_place({"model": unigram}) == {1}
    assert ids_with_a_place({"model": {"type": "BPE", "vocab": VOCABULARY, "unk_token": "ab"}}) == {4}


def test_unigram_pieces_keep_scores_and_the_number_of_the_unknown_piece() -> None:
    spec = {
        "added_tokens": [],
        "model": {"type": "Unigram", "unk_id": 1, "vocab": [["a", -1.0], ["<unk>", 0.0], ["b", -3.0], ["ab", -2.0]]},
    }
    trimmed = trimmed_tokenizer(spec, {1: 0, 2: 1, 3: 2})["model"]
    assert trimmed == {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["b", -3.0], ["ab", -2.0]]}
    assert read_token_model(spec).by_generality == ("<unk>", "a", "ab", "b")


def test_the_alphabet_is_of_bytes_where_there_are_any() -> None:
    byte_level = {**SPEC, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]}}
    assert read_token_model(byte_level).alphabet == {"a", "b", "c"}
    vocabulary = {token: number for number, token in enumerate([*sorted(BYTES), "▁", "é", "a"])}
    fallback = {"model": {"type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": True}}
    assert read_token_model(fallback).alphabet == BYTES | {"▁"}
    none = {"model": {**fallback["model"], "byte_fallback": False}}
    assert read_token_model(none).alphabet == {"▁", "é", "a"}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"type": "WordPiece", "vocab": {}}, "BPE, Unigram, WordLevel; this tokenizer.json has 'WordPiece'"),
        ({"type": "BPE", "vocab": {}, "merges": [], "end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
    ],
)
def test_models_that_can_not_be_trimmed_are_refused(model: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFilesError, match=said):
        read_token_model({"model": model})


def test_every_id_of_the_configs_is_renumbered() -> None:
    config = {
        "vocab_size": 100, "hidden_size": 7, "bos_token_id": 7, "eos_token_id": [7, 50], "pad_token_id": -1,
        "decoder_start_token_id": None, "image_token_index": 50, "num_image_tokens": 7,
        "suppress_tokens": [7, 8, 50], "begin_suppress_tokens": [8], "bad_words_ids": [[7, 50], [7, 8]],
        "sequence_bias": [[[50], -2.5], [[8], 1.0]], "force_words_ids": [[[50]], [7]],
        "text_config": {"vocab_size": 100, "eos_token_id": 51},
    }  # fmt: skip
    assert ids_with_a_role(config) == {7, 50, -1, 51}
    assert renumbered_config(config, {7: 0, 50: 1, 51: 2}, 3) == {
        "vocab_size": 3, "hidden_size": 7, "bos_token_id": 0, "eos_token_id": [0, 1], "pad_token_id": -1,
        "decoder_start_token_id": None, "image_token_index": 1, "num_image_tokens": 7,
        "suppress_tokens": [0, 1], "begin_suppress_tokens": None, "bad_words_ids": [[0, 1]],
        "sequence_bias": [[[1], -2.5]], "force_words_ids": [[[1]], [0]],
        "text_config": {"vocab_size": 3, "eos_token_id": 2},
    }  # fmt: skip


def test_the_tokenizers_small_files_are_renumbered() -> None:
    config = {"added_tokens_decoder": {"5": {"content": "<s>"}, "6": {"content": "x"}}, "bos_token": "<s>"}
    assert renumbered_tokenizer_config(config, {5: 0}) == {
        "added_tokens_decoder": {"0": {"content": "<s>"}},
        "bos_token": "<s>",
    }
    assert renumbered_tokenizer_config({"bos_token": "<s>"}, {5: 0}) == {"bos_token": "<s>"}
    assert renumbered_added_tokens({"<s>": 5, "x": 6}, {5: 0}) == {"<s>": 0}


def test_json_is_written_in_the_parents_form() -> None:
    assert in_the_form_of('{"é":1}', {"ü": [1, 2]}) == '{"ü":[1,2]}'
    assert in_the_form_of('{\n  "é": 1\n}', {"ü": 1}) == '{\n  "ü": 1\n}'
    assert in_the_form_of('{"a":1}', {"ü": 1}) == '{"\\u00fc":1}'
